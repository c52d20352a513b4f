//! `cargo xtask outages`: replays real outages in the lab under load, and shows whether this edge withstands them.

mod incident;
mod page;
mod rows;
mod stage;

use std::process::ExitCode;

use anyhow::{Result, ensure};
use clap::Args;
use edge_tests::lab::configuration::Configuration;
use xtask::{
    build::{self, Profile},
    counts::Counts,
    setup,
    step::step,
};

use self::{incident::Incident, page::Row, stage::Stage};
use crate::interrupt;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Those of these names only; all that take seconds without a name.
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// Those that take minutes, too.
    #[arg(long)]
    long: bool,
    /// One JSON object.
    #[arg(long)]
    json: bool,
    /// Write docs/outages.md anew.
    #[arg(long, conflicts_with = "names")]
    page: bool,
}

/// Replays the outages, and shows the results.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    interrupt::install()?;
    setup::root("outages")?;
    setup::lab()?;
    build::all(Profile::Dev, false)?;
    let chosen = chosen(&options.names, options.long)?;
    let replayed = replay(&chosen)?;
    if options.page {
        page::write(&replayed)?;
    }
    print!("{}", if options.json { page::json(&replayed)? } else { page::table(&replayed) });
    Ok(if replayed.iter().all(|row| row.observed.met) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Replays the outages of these names, or all that take seconds, and counts each as a test.
pub(crate) fn counted(names: &[String], counts: &mut Counts) -> Result<()> {
    let chosen = chosen(names, false)?;
    let replayed = replay(&chosen)?;
    print!("{}", page::table(&replayed));
    for row in &replayed {
        counts.check(row.observed.met);
    }
    Ok(())
}

/// The outages of these names; without a name all that take seconds, and with `long` those that take minutes, too.
fn chosen(names: &[String], long: bool) -> Result<Vec<Incident>> {
    let all = rows::all();
    for name in names {
        let known: Vec<_> = all.iter().map(|row| row.name).collect();
        ensure!(known.contains(&name.as_str()), "no outage has the name {name}; there are: {}", known.join(", "));
    }
    let is_chosen = |row: &Incident| match names {
        [] => long || !row.long,
        names => names.iter().any(|name| name == row.name),
    };
    Ok(all.into_iter().filter(is_chosen).collect())
}

/// Replays in one lab, which is renewed after a replay that breaks it.
fn replay(chosen: &[Incident]) -> Result<Vec<Row>> {
    let mut stage = None;
    let mut replayed = Vec::new();
    for incident in chosen {
        interrupt::check()?;
        let mut at = match stage.take() {
            Some(stage) => stage,
            None => step("laying out the lab", || Stage::set(Configuration::default()))?,
        };
        let observed = step(incident.name, || (incident.replay)(&mut at));
        if observed.as_ref().is_ok_and(|observed| observed.met) {
            stage = Some(at);
        }
        let observed = observed.unwrap_or_else(|error| incident::Observed::all([(format!("{error:#}"), false)]));
        replayed.push(Row { incident: *incident, observed });
    }
    stage.map_or(Ok(()), Stage::strike)?;
    Ok(replayed)
}
