//! `cargo xtask demo`: real traffic through the load balancer while things around it die.

mod script;
mod story;

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use edge_tests::{
    lab::{Lab, Options},
    load::{
        Load, Record, Reuse, Stream,
        report::{Moment, report},
    },
    topology::{CLIENTS, Protocol, Service},
};

use self::{script::Act, story::Story};
use crate::{build, interrupt, setup, step::step};

/// Each stream asks this often, at most.
const PACE: Duration = Duration::from_millis(40);

/// Lays out the lab, plays the script under load, and tells what came of it.
pub(crate) fn run(json: bool) -> Result<ExitCode> {
    interrupt::install()?;
    setup::lab()?;
    let edge_ctl = build::all(build::Options { release: true, trace: false })?;
    let mut lab = step("laying out the lab", || {
        let lab = Lab::up(&Options { edge_ctl: Some(edge_ctl), ..Options::default() })?;
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
    let loads = start_load(lab)?;
    story.opening(loads.len());
    let mut moments: Vec<Moment> = Vec::new();
    for Act { name, tells, run, then } in script::acts() {
        let at = Instant::now();
        moments.push(Moment { name, at });
        story.act(start, at, tells);
        run(lab).with_context(|| format!("in the act \"{name}\""))?;
        interrupt::pause(then)?;
        story.outcome(&records(&loads), start, &moments);
    }
    let mut all = Vec::new();
    for load in loads {
        all.extend(load.stop()?);
    }
    story.ending(&report(&all, start, &moments))
}

/// Both clients, each service, once with a connection that is kept and once with one per request.
fn start_load(lab: &Lab) -> Result<Vec<Load>> {
    let streams: Vec<_> = Service::of(Protocol::Tcp)
        .flat_map(|service| [Reuse::KeepAlive, Reuse::New].map(|reuse| Stream { target: service.address(), reuse }))
        .collect();
    let start = |(index, client)| Load::start(lab.netns(client), &streams, index * streams.len(), PACE);
    CLIENTS.into_iter().enumerate().map(start).collect()
}

fn records(loads: &[Load]) -> Vec<Record> {
    loads.iter().flat_map(Load::records).collect()
}
