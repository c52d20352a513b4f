//! `cargo xtask demo`: real traffic through the load balancer while things around it die.

mod known;
mod script;
mod story;

use std::{
    process::ExitCode,
    time::{Instant, SystemTime},
};

use anyhow::{Context as _, Result, ensure};
use edge_tests::lab::{
    Lab, Options,
    configuration::Configuration,
    load::{
        self, Load, Record,
        report::{Moment, report},
    },
    topology::{CLIENTS, Protocol, Service},
};

use self::{script::Act, story::Story};
use crate::{
    build::{self, Profile},
    interrupt, setup,
    step::step,
};

/// Lays out the lab, plays the script under load, and tells what came of it.
pub(crate) fn run(json: bool) -> Result<ExitCode> {
    interrupt::install()?;
    setup::root("demo")?;
    setup::lab()?;
    let edge_ctl = build::all(Profile::Dev, false)?;
    let mut lab = step("laying out the lab", || {
        let configuration = Configuration { all_slots: true, ..Configuration::default() };
        let lab = Lab::up(&Options { edge_ctl: Some(edge_ctl), configuration })?;
        lab.wait_for_health(|_| "up")?;
        greet(&lab)?;
        Ok(lab)
    });
    // An interrupted system call is not the reason; the user's Ctrl-C is.
    interrupt::check()?;
    let played = play(lab.as_mut().map_err(|error| anyhow::anyhow!("{error:#}"))?, &Story::new(json));
    interrupt::check()?;
    played?;
    Ok(ExitCode::SUCCESS)
}

/// One request to each service: it works before anything is broken.
fn greet(lab: &Lab) -> Result<()> {
    for service in Service::of(Protocol::Tcp) {
        let answer = lab.curl(CLIENTS[0], &format!("http://{}/", service.address()));
        let backend = answer.with_context(|| format!("service {} does not answer", service.name))?;
        ensure!(backend.starts_with('a'), "service {} is served by {backend}, not by provider a", service.name);
    }
    Ok(())
}

fn play(lab: &mut Lab, story: &Story) -> Result<()> {
    let start = Instant::now();
    let loads = lab.load(Service::of(Protocol::Tcp))?;
    story.opening();
    let mut moments: Vec<Moment> = Vec::new();
    let mut found = Vec::new();
    for Act { name, tells, run, then, is_death } in script::acts() {
        let (at, clock) = (Instant::now(), SystemTime::now());
        moments.push(Moment { name, at });
        story.act(start, at, tells);
        run(lab).with_context(|| format!("in the act \"{name}\""))?;
        interrupt::pause(then)?;
        let known = if is_death { known::known(lab, name, clock)? } else { None };
        story.outcome(&records(&loads), start, &moments, known.as_ref());
        found.extend(known);
    }
    story.ending(&report(&load::stop(loads)?, start, &moments), &found)
}

fn records(loads: &[Load]) -> Vec<Record> {
    loads.iter().flat_map(Load::records).collect()
}
