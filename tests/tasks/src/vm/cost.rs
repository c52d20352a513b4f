//! `cargo xtask vm --icount`: instructions of a packet's whole path, in a guest where each takes a nanosecond, so that
//! they are exact and the same on any machine. The effects of caches are not included.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context as _, Result};
use edge_tests::lab::cost::{self, PacketPath, Tools as Peers};
use serde::Serialize;
use xtask::{
    build::{self, Profile},
    cargo,
    step::step,
};

use super::{Job, Options, Prepared, Programs, Tools, out, side_by_side};

/// Time limit: emulation with instruction counts is slower.
const LIMIT: Duration = Duration::from_mins(25);

/// Options of the measurement inside the guest.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct GuestOptions {
    #[arg(long)]
    ipvsadm: PathBuf,
    #[arg(long)]
    nft: PathBuf,
}

/// A row: instructions per datagram on one path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Row {
    kernel: String,
    path: String,
    instructions: u64,
}

/// Measures each path, inside the guest.
pub(crate) fn guest(options: &GuestOptions) -> Result<()> {
    let peers = Peers { ipvsadm: &options.ipvsadm, nft: &options.nft };
    for (name, time) in cost::programs() {
        println!("{name}\t{}", time.as_nanos());
    }
    for path in PacketPath::ALL {
        println!("{}\t{}", path.name(), cost::measure(path, peers)?.as_nanos());
    }
    Ok(())
}

/// Measures in a guest of each kernel, and prints a table.
pub(super) fn run(prepared: &[Prepared], tools: &Tools, options: &Options) -> Result<()> {
    let this = std::env::current_exe().context("could not find this program's own file")?;
    let edge_ctl = build::all(Profile::Guest, false)?;
    let programs = Programs::of(&edge_ctl)?;
    let this = programs.link(&this, "xtask")?;
    let script = format!(
        "export EDGE_TEST_VM=1 EDGE_TEST_PATIENCE=30\ncd '{}'\n'{}' vm-cost --ipvsadm '{}' --nft '{}' >/out/cost\n",
        cargo::root().display(),
        this.display(),
        tools.ipvsadm.display(),
        tools.nft.display()
    );
    let limit = options.limit.map_or(LIMIT, Duration::from_secs);
    let rows = side_by_side(prepared, options.jobs, |kernel| {
        let out = out(kernel, "cost");
        let job = Job { kernel, tools, script: &script, out: &out, limit, counts_instructions: true };
        let code = step(&format!("Linux {}", kernel.release), || job.run())?;
        let log = std::fs::read_to_string(out.join("log")).unwrap_or_default();
        anyhow::ensure!(code == 0, "Linux {}: {log}", kernel.release);
        rows(kernel.kernel.name, &std::fs::read_to_string(out.join("cost"))?)
    })?
    .concat();
    print!("{}", table(&rows));
    if let Some(path) = &options.json {
        std::fs::write(path, serde_json::to_string_pretty(&rows)?)
            .with_context(|| format!("could not write {}", path.display()))?;
    }
    Ok(())
}

fn rows(kernel: &str, printed: &str) -> Result<Vec<Row>> {
    let row = |line: &str| {
        let (path, instructions) = line.split_once('\t').with_context(|| format!("`{line}` is no row"))?;
        Ok(Row { kernel: kernel.to_owned(), path: path.to_owned(), instructions: instructions.parse()? })
    };
    printed.lines().map(row).collect()
}

fn table(rows: &[Row]) -> String {
    let row = |row: &Row| format!("{:>9}  {:<8}{}\n", row.instructions, row.kernel, row.path);
    let head =
        "instructions a packet, all that the guest does for it; of \"program\" rows, of the program and its call\n\n";
    head.to_owned() + &rows.iter().map(row).collect::<String>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_guest_prints_is_read() {
        let read = rows("6.1", "plain forwarding\t16500\nIPVS DR\t17900\n").expect("two rows");
        assert_eq!((read[1].path.as_str(), read[1].instructions), ("IPVS DR", 17_900));
        assert!(table(&read).ends_with("    17900  6.1     IPVS DR\n"), "{}", table(&read));
        assert!(rows("6.1", "nonsense").is_err());
    }
}
