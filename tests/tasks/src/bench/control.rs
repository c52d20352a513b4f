//! The cost of the control plane's work: runs its criterion benches, and reads their results.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::SystemTime,
};

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;
use xtask::{cargo, step::step};

use super::results::{Control, Results};

/// Median absolute deviation of a normal distribution relative to its standard deviation. criterion divides by it.
const DEVIATION: f64 = 0.674_489_75;

/// Builds the benches and `edge-ctl` in release mode.
pub(super) fn build() -> Result<()> {
    step("building edge-ctl and the control plane's benches", || {
        cargo::run(bench()?.args(["--quiet", "--bench", "control", "--bench", "probes", "--no-run"]))
    })
}

/// Runs all benches; some 90 s, or 15 s if `quick`.
///
/// # Errors
/// If a bench finds that the control plane misbehaves. Earlier results are kept.
pub(super) fn measure(results: &mut Results, quick: bool) -> Result<()> {
    let home = cargo::target_dir()?.join("criterion");
    let start = SystemTime::now();
    step("measuring the control plane", || output("control", quick, &home))?;
    results.control.extend(timings(&home, start)?);
    let lines = step("measuring the probe engine", || output("probes", quick, &home))?;
    let figures = lines.lines().map(serde_json::from_str).collect::<Result<Vec<Control>, _>>();
    results.control.extend(figures.context("the bench of the probe engine printed something else than figures")?);
    Ok(())
}

/// A `cargo bench` command for the controller, with the cargo that built this program.
fn bench() -> Result<Command> {
    let mut bench = cargo::cargo();
    bench.args(["bench", "--package", "edge-ctl", "--target-dir"]).arg(cargo::target_dir()?);
    Ok(bench)
}

/// Runs a bench; returns its output.
fn output(name: &str, quick: bool, home: &Path) -> Result<String> {
    let mut bench = bench()?;
    bench.args(["--quiet", "--bench", name]).env("CRITERION_HOME", home).env_remove("EDGE_BENCH_QUICK");
    if quick {
        bench.env("EDGE_BENCH_QUICK", "1");
    }
    let output = bench.output().context("could not start cargo")?;
    ensure!(
        output.status.success(),
        "the bench `{name}` failed ({}):\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8(output.stdout)?)
}

/// Results that criterion has written below `home` since `start`, in this order.
fn timings(home: &Path, start: SystemTime) -> Result<Vec<Control>> {
    let mut found = Vec::new();
    find(home, start, &mut found).with_context(|| format!("could not look through {}", home.display()))?;
    ensure!(!found.is_empty(), "criterion has written nothing to {}", home.display());
    found.sort();
    let read = |path: PathBuf| std::fs::read_to_string(&path).with_context(|| path.display().to_string());
    found
        .iter()
        .map(|(_, dir)| timing(&read(dir.join("benchmark.json"))?, &read(dir.join("estimates.json"))?))
        .collect()
}

/// Collects directories `new` with estimates that were written since `start`, with the times.
fn find(dir: &Path, start: SystemTime, found: &mut Vec<(SystemTime, PathBuf)>) -> Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if !path.is_dir() {
            continue;
        }
        if path.ends_with("new")
            && let Ok(written) = path.join("estimates.json").metadata().and_then(|file| file.modified())
        {
            if written >= start {
                found.push((written, path));
            }
        } else {
            find(&path, start, found)?;
        }
    }
    Ok(())
}

/// A figure from criterion's two files.
fn timing(benchmark: &str, estimates: &str) -> Result<Control> {
    #[derive(Deserialize)]
    struct Benchmark {
        group_id: String,
        function_id: Option<String>,
        value_str: Option<String>,
    }
    /// Nanoseconds.
    #[derive(Deserialize)]
    struct Estimates {
        median: Estimate,
        median_abs_dev: Estimate,
    }
    #[derive(Deserialize)]
    struct Estimate {
        point_estimate: f64,
    }
    let Benchmark { group_id, function_id, value_str } = serde_json::from_str(benchmark)?;
    let Estimates { median, median_abs_dev } = serde_json::from_str(estimates)?;
    let value = median.point_estimate;
    Ok(Control {
        bench: function_id.map_or(group_id.clone(), |function| format!("{group_id}: {function}")),
        size: value_str.unwrap_or_default(),
        value,
        unit: "ns".to_owned(),
        spread: median_abs_dev.point_estimate * DEVIATION / value,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::float_cmp, reason = "it is copied")]
    fn criterions_files_are_understood() {
        let figure = timing(
            r#"{"group_id":"plan","function_id":null,"value_str":"3 backends","throughput":null,"full_id":"plan/3"}"#,
            r#"{"mean":{"point_estimate":9.0},"median":{"point_estimate":1000.0},"median_abs_dev":{"point_estimate":148.26}}"#,
        )
        .expect("as criterion writes them");
        assert_eq!((&*figure.bench, &*figure.size, &*figure.unit), ("plan", "3 backends", "ns"));
        assert_eq!(figure.value, 1000.0);
        assert!((figure.spread - 0.1).abs() < 1e-4);
    }
}
