//! Clocks that were wrong.

use std::{
    fs,
    path::{Path, PathBuf},
    thread::sleep,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result, ensure};
use edge_tests::lab::{
    topology::{Backend, Provider},
    wait_until,
};
use xtask::unpacked;

use crate::outages::{
    incident::{Helped, Incident, Observed},
    stage::{PATIENCE, Stage, all_served_by, events, judged, restart, reweighed, sick},
};

/// Offsets of the wall clock, applied one after the other.
const STEPS: [&str; 4] = ["-1s", "+1d", "-1d", "+0"];
/// A day in milliseconds.
const DAY: i64 = 24 * 60 * 60 * 1000;
/// Duration of each step: longer than the detection of a dead backend.
const EACH: Duration = Duration::from_secs(2);
/// Events that would be false, since nothing has happened.
const FALSE: [&str; 9] = [
    "backend_down",
    "backend_unknown",
    "pool_left",
    "pool_returning",
    "pool_returned",
    "frozen",
    "panic",
    "config_undone",
    "thawed",
];
/// Services wait this long before they return to a provider: less than the clock's steps, and longer than the replay.
const WAIT: &str = "damping = \"0s\"\nfailback_after = \"10m\"\nslow_start = \"0s\"\n";

pub(super) fn rows() -> Vec<Incident> {
    vec![Incident {
        name: "leap-second",
        story: "Cloudflare, 1 January 2017: a leap second made time go backwards, a difference became negative, and \
                servers panicked",
        done: "the controller's wall clock is set back by a second, on by a day, back by a day and right again, while \
               a change waits for its confirmation, and services wait before they return to a provider that was \
               down",
        expected: "no backend, no service and no change on trial changes its state, nothing is lost",
        helped: Helped::Yes,
        why: "all durations are measured by a monotonic clock, which is never set",
        long: false,
        replay: leap_second,
    }]
}

fn leap_second(stage: &mut Stage) -> Result<Observed> {
    let clock = stage.lab.edge().run_dir().with_file_name("clock");
    fs::write(&clock, "+0\n")?;
    let library = faketime()?;
    stage.lab.set_environment(&[
        ("LD_PRELOAD", &library.display().to_string()),
        ("FAKETIME_TIMESTAMP_FILE", &clock.display().to_string()),
        ("FAKETIME_NO_CACHE", "1"),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
    ])?;
    let observed = judged(stage, WAIT, |stage| step_clock(stage, &clock))?;
    restart(&mut stage.lab, |lab| lab.set_environment(&[]))?;
    Ok(observed)
}

/// Sets the wall clock, which `clock` offsets, while a change and the services of a provider wait.
fn step_clock(stage: &mut Stage, clock: &Path) -> Result<Observed> {
    sick(&stage.lab, Backend::of(Provider::A), true)?;
    let have_left = wait_until(PATIENCE, || all_served_by(&stage.lab, "provider-b"))?;
    ensure!(have_left, "services stay with provider a");
    sick(&stage.lab, Backend::of(Provider::A), false)?;
    stage.lab.wait_for_health(|_| "up")?;
    let tried = reweighed(&stage.lab)?;
    let before = events(&stage.lab)?.len();
    let (days, toll) = stage.toll(Duration::ZERO, |lab| {
        lab.ctl(&["apply", &tried, "--confirm", "10m"])?;
        let mut days = Vec::new();
        for step in STEPS {
            fs::write(clock, format!("{step}\n"))?;
            // These commands leave events with the wall clock's time.
            lab.ctl(&["drain", "provider-b-lan4/b1"])?;
            lab.ctl(&["enable", "provider-b-lan4/b1"])?;
            sleep(EACH);
            days.push(days_off(events(lab)?.last().context("there are events")?)?);
        }
        Ok(days)
    })?;
    let seen = events(&stage.lab)?;
    let wrong = seen.iter().skip(before).filter_map(|event| event["kind"].as_str()).filter(|kind| FALSE.contains(kind));
    let wrong: Vec<_> = wrong.collect();
    let confirmed = stage.lab.ctl(&["confirm"]).is_ok();
    if confirmed {
        stage.lab.ctl(&["rollback"])?;
    }
    Ok(Observed::all([
        (format!("its events were {days:?} days from now"), days == [0, 1, -1, 0]),
        (format!("{} false events {}", wrong.len(), wrong.join(", ")).trim_end().to_owned(), wrong.is_empty()),
        ("the change waited on, and was confirmed".to_owned(), confirmed),
        (toll.to_string(), toll.is_nothing()),
    ]))
}

/// Distance of an event's time from now, in days.
fn days_off(event: &serde_json::Value) -> Result<i64> {
    let at = event["at"].as_i64().context("an event has a time")?;
    let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?;
    Ok((at - now + DAY / 2).div_euclid(DAY))
}

/// Path of the library that gives a program another wall clock.
fn faketime() -> Result<PathBuf> {
    let file = format!("usr/lib/{}-linux-gnu/faketime/libfaketime.so.1", std::env::consts::ARCH);
    unpacked::ensure("faketime", &["libfaketime"], &file)
}
