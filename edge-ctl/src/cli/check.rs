//! `edge-ctl check`: reports the mistakes of a file, and with `--host` what in the file does not fit this host.

use std::collections::HashSet;

use serde::Serialize;

use super::{
    args::{CheckArgs, Dirs},
    count,
    failure::Failure,
    file::FileArgs,
    print_line, to_json,
};
use crate::{
    config::{self, Config, END, Listed, Pool},
    control::{change::Entry, offline},
    preflight::{self, Finding, Host, Severity},
    xdp,
};

/// The output of `--json`.
#[derive(Serialize)]
struct Report<'a> {
    file: String,
    services: usize,
    pools: usize,
    backends: usize,
    interfaces: usize,
    findings: &'a [Finding],
}

/// The output of `--json` for a refused file.
#[derive(Serialize)]
struct Refused {
    file: String,
    problems: Vec<Listed>,
}

/// Checks the file, and prints the findings.
pub(crate) fn check(dirs: &Dirs, args: &CheckArgs) -> Result<(), Failure> {
    let file = &args.file;
    let config = load(dirs, file).inspect_err(|failure| {
        if args.json {
            print_line(&to_json(&Refused { file: file.to_string(), problems: problems(failure) }, true));
        }
    })?;
    let mut findings = if args.host {
        let mut host = Host::read(&config, offline::pinned(&dirs.pin_dir)).map_err(Failure::Host)?;
        host.kernel = xdp::check_kernel().err().map(|error| error.to_string());
        preflight::compare(&config, &host)
    } else {
        Vec::new()
    };
    findings.extend(preflight::unmatched(&config));
    if args.json {
        print_line(&to_json(&report(file, &config, &findings), true));
    } else {
        for finding in &findings {
            print_line(&finding.to_string());
        }
    }
    let is_bad = |finding: &&Finding| args.strict || finding.severity == Severity::Error;
    let bad = findings.iter().filter(is_bad).count();
    if bad > 0 {
        return Err(Failure::Unfit { file: file.to_string(), bad: count(bad, "finding") });
    }
    if !args.json {
        let Report { file, services, pools, backends, interfaces, .. } = report(file, &config, &findings);
        print_line(&format!(
            "{file}: good: {}, {}, {}, {}",
            count(services, "service"),
            count(pools, "pool"),
            count(backends, "backend"),
            count(interfaces, "interface"),
        ));
    }
    Ok(())
}

/// Loads the file, and checks that it is complete.
fn load(dirs: &Dirs, file: &FileArgs) -> Result<Config, Failure> {
    let config = file.load()?;
    has_end(dirs, &config, file)?;
    Ok(config)
}

/// The problems of a file that [`load`] refused.
fn problems(failure: &Failure) -> Vec<Listed> {
    match failure {
        Failure::Config(error) => error.listed(),
        Failure::CutOff { file, what } => {
            let message = format!("{what}: the file may be cut off");
            vec![Listed::of_file(file, message, format!("`{END}` as the last line"))]
        }
        _ => Vec::new(),
    }
}

/// Checks that the file has its end marker, if the text in force has one.
fn has_end(dirs: &Dirs, config: &Config, file: &FileArgs) -> Result<(), Failure> {
    // Only if a configuration is in force: `check` works without one, too.
    if let Ok((history, in_force)) = offline::history(&dirs.pin_dir)
        && let Some(text) = history.entry(in_force).and_then(Entry::text)
        && let Some(what) = config::lost_end(&text, &config.text)
    {
        return Err(Failure::CutOff { file: file.to_string(), what });
    }
    Ok(())
}

fn report<'a>(file: &FileArgs, config: &Config, findings: &'a [Finding]) -> Report<'a> {
    let joined = config.joined();
    let names = |pool: &Pool| pool.backends.iter().map(|backend| &backend.name).collect::<HashSet<_>>().len();
    Report {
        file: file.to_string(),
        services: joined.services.len(),
        pools: joined.pools.len(),
        backends: joined.pools.iter().map(names).sum(),
        interfaces: config.interfaces.len(),
        findings,
    }
}
