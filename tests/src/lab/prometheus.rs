//! A real Prometheus that scrapes a daemon's address, and its `promtool`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::lab::{netns::Netns, process::Process, tool};

/// Address of the server's API.
const LISTEN: &str = "127.0.0.1:9090";

/// A running server. It ends when it is dropped.
#[derive(Debug)]
pub struct Prometheus<'netns> {
    netns: &'netns Netns,
    log: PathBuf,
    _process: Process,
}

impl<'netns> Prometheus<'netns> {
    /// Starts the server in `netns`. Each second it scrapes `target`, in the job `edge`, and evaluates the rules in `rules`;
    /// `dir` gets its files.
    pub fn start(netns: &'netns Netns, dir: &Path, target: &str, rules: &Path) -> Result<Self> {
        let (file, log) = (dir.join("prometheus.yml"), dir.join("prometheus.log"));
        let text = format!(
            "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrule_files: ['{}']\nscrape_configs:\n  \
             - job_name: edge\n    static_configs: [{{targets: ['{target}']}}]\n",
            rules.display()
        );
        fs::write(&file, text)?;
        let mut command = netns.command(binary("prometheus")?)?;
        command.arg(format!("--config.file={}", file.display()));
        command.arg(format!("--storage.tsdb.path={}", dir.join("data").display()));
        command.arg(format!("--web.listen-address={LISTEN}"));
        let process = Process::start("prometheus", &mut command, &log)?;
        Ok(Self { netns, log, _process: process })
    }

    /// The series that a query selects now.
    ///
    /// # Errors
    /// If the server does not answer, or answers with an error.
    pub fn query(&self, query: &str) -> Result<Vec<Value>> {
        let found = self.get("query", &["--data-urlencode", &format!("query={query}")])?;
        Ok(found["result"].as_array().context("a query selects series")?.clone())
    }

    /// The states, `pending` or `firing`, of the alerts of this name.
    ///
    /// # Errors
    /// As [`Prometheus::query`].
    pub fn alerts(&self, name: &str) -> Result<Vec<String>> {
        let found = self.get("alerts", &[])?;
        let alerts = found["alerts"].as_array().context("there is a list of alerts")?;
        let named = alerts.iter().filter(|alert| alert["labels"]["alertname"] == name);
        Ok(named.map(|alert| alert["state"].as_str().unwrap_or_default().to_owned()).collect())
    }

    fn get(&self, what: &str, args: &[&str]) -> Result<Value> {
        let mut curl = self.netns.command("curl")?;
        curl.args(["-sS", "--noproxy", "*", "--max-time", "8", "-G"]).args(args);
        let text = tool::run(curl.arg(format!("http://{LISTEN}/api/v1/{what}")))?;
        let answer: Value = serde_json::from_str(&text).with_context(|| text.clone())?;
        ensure!(answer["status"] == "success", "{args:?}: {text}");
        Ok(answer["data"].clone())
    }

    /// What the server has logged.
    pub fn log_text(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

/// Runs `promtool ARGS`; returns the output.
///
/// # Errors
/// If it fails; the message has its standard error.
pub fn promtool(args: &[&str]) -> Result<String> {
    tool::run(Command::new(binary("promtool")?).args(args))
}

/// Path of a program that set-up unpacked below `target/tools`.
fn binary(name: &str) -> Result<PathBuf> {
    let path = crate::workspace().join("target/tools/prometheus/usr/bin").join(name);
    ensure!(path.exists(), "there is no {name}: run `cargo xtask setup`");
    Ok(path)
}
