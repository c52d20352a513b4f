//! `cargo xtask demo`: real traffic through the load balancer during failures.

mod known;
mod reset;
mod script;
mod story;

use std::{
    path::Path,
    process::ExitCode,
    time::{Instant, SystemTime},
};

use anyhow::{Context as _, Result, ensure};
use edge_tests::lab::{
    Lab, Options,
    load::{
        self, Load, Record,
        report::{Moment, report},
    },
    topology::CLIENTS,
};
use xtask::{
    build::{self, Profile},
    setup,
    step::step,
};

use self::{
    script::{Act, Chapter},
    story::{Part, Story},
};
use crate::interrupt;

/// Sets up a lab for each chapter, plays it under load, and reports the results.
pub(crate) fn run(json: bool) -> Result<ExitCode> {
    interrupt::install()?;
    setup::root("demo")?;
    setup::lab()?;
    let edge_ctl = build::all(Profile::Dev, false)?;
    let story = Story::new(json);
    let mut parts = Vec::new();
    for chapter in script::chapters() {
        let mut lab = step("laying out the lab", || lab(&edge_ctl, &chapter));
        // The cause is the user's Ctrl-C, not the interrupted system call.
        interrupt::check()?;
        let played = play(lab.as_mut().map_err(|error| anyhow::anyhow!("{error:#}"))?, &story, chapter);
        interrupt::check()?;
        parts.push(played?);
    }
    story.end(&parts)?;
    Ok(ExitCode::SUCCESS)
}

fn lab(edge_ctl: &Path, chapter: &Chapter) -> Result<Lab> {
    let options = Options { edge_ctl: Some(edge_ctl.to_owned()), configuration: chapter.configuration.clone() };
    let lab = Lab::up(&options)?;
    lab.wait_for_health(|_| "up")?;
    greet(&lab, chapter)?;
    Ok(lab)
}

/// Sends one request to each service, before anything is broken.
fn greet(lab: &Lab, chapter: &Chapter) -> Result<()> {
    for service in chapter.services() {
        let answer = lab.curl(CLIENTS[0], &format!("http://{}/", service.address()));
        let backend = answer.with_context(|| format!("service {} does not answer", service.name))?;
        ensure!(backend.starts_with('a'), "service {} is served by {backend}, not by provider a", service.name);
    }
    Ok(())
}

fn play(lab: &mut Lab, story: &Story, chapter: Chapter) -> Result<Part> {
    let start = Instant::now();
    let loads = lab.load(chapter.services())?;
    story.opening(chapter.opening);
    let mut moments: Vec<Moment> = Vec::new();
    let (mut found, mut resets) = (Vec::new(), Vec::new());
    for Act { name, caption, run, then, is_death } in chapter.acts {
        let (at, clock) = (Instant::now(), SystemTime::now());
        moments.push(Moment { name, at });
        story.act(start, at, caption);
        run(lab).with_context(|| format!("in the act \"{name}\""))?;
        interrupt::pause(then)?;
        let known = if is_death { known::known(lab, name, clock)? } else { None };
        let so_far = records(&loads);
        let reset = if is_death && chapter.resets { reset::resets(&so_far, name, at) } else { None };
        story.outcome(&so_far, start, &moments, known.as_ref());
        story.resets(reset.as_ref());
        found.extend(known);
        resets.extend(reset);
    }
    let report = report(&load::stop(loads)?, start, &moments);
    story.ending(&report);
    Ok(Part { name: chapter.name, report, known: found, resets })
}

fn records(loads: &[Load]) -> Vec<Record> {
    loads.iter().flat_map(Load::records).collect()
}
