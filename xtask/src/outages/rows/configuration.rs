//! Configurations that took networks down.

use std::{
    fmt::Write as _,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use edge_tests::lab::Lab;

use crate::outages::{
    incident::{Helped, Incident, Observed},
    stage::{Stage, api, in_force},
};

/// Longest time until a bad file is refused.
const AT_ONCE: Duration = Duration::from_secs(1);

pub(super) fn rows() -> Vec<Incident> {
    vec![Incident {
        name: "doubled-file",
        story: "Cloudflare, 18 November 2025: a generated file doubled in size and passed a limit, whereupon its reader \
                   panicked on every machine",
        done: "the running edge is given a file with each backend twice, one with more backends than there is room for, one \
               that ends in the middle, one that is not TOML, and an empty one",
        expected: "each is refused within 1 s with a reason, nothing changes, nothing is lost",
        helped: Helped::Yes,
        why: "a CDN that is down is a provider to leave: clients that reach an edge of one's own go to the next one",
        long: false,
        replay: doubled_file,
    }]
}

fn doubled_file(stage: &mut Stage) -> Result<Observed> {
    let path = stage.lab.edge().configuration();
    let good = std::fs::read_to_string(&path)?;
    let before = in_force(&stage.lab)?;
    let bad = bad_files(&good)?;
    let (answers, toll) = stage.toll(Duration::from_secs(1), |lab| {
        let answers = bad.iter().map(|(what, text)| {
            std::fs::write(&path, text)?;
            let asked = Instant::now();
            let (status, said) = api(lab, "POST", "/v1/reload", "")?;
            Ok((*what, status, asked.elapsed(), said))
        });
        let answers = answers.collect::<Result<Vec<_>>>();
        std::fs::write(&path, &good)?;
        answers
    })?;
    let slowest = answers.iter().map(|answer| answer.2).max().unwrap_or_default();
    let accepted: Vec<_> = answers.iter().filter(|answer| answer.1 != 400 || answer.3.len() < 40).collect();
    Ok(Observed::all([
        (format!("{} files refused, the slowest after {} ms", answers.len() - accepted.len(), slowest.as_millis()), {
            accepted.is_empty() && slowest < AT_ONCE
        }),
        ("the same is in force".to_owned(), in_force(&stage.lab)? == before && goes_on(&stage.lab)?),
        (toll.to_string(), toll.is_nothing()),
    ]))
}

/// What a generator can make of a good file.
fn bad_files(good: &str) -> Result<Vec<(&'static str, String)>> {
    let (head, rest) = good.split_once("[[pool.backend]]").context("a backend")?;
    let (first, _) = rest.split_once("[[").context("something after it")?;
    let mut crowd = String::from(good);
    write!(crowd, "\n[[pool]]\nname = \"crowd\"\n")?;
    for number in 0..3000 {
        let address = format!("10.77.{}.{}", number / 250, number % 250 + 1);
        write!(crowd, "[[pool.backend]]\nname = \"c{number}\"\naddress = \"{address}\"\n")?;
    }
    let twice = format!("{head}[[pool.backend]]{first}[[pool.backend]]{rest}");
    let cut = good.get(..good.len() / 2 + 3).unwrap_or_default().to_owned();
    Ok(vec![
        ("twice", twice),
        ("too many", crowd),
        ("cut", cut),
        ("not TOML", good.replace('=', ":")),
        ("empty", String::new()),
    ])
}

/// Whether the daemon is there and answers.
fn goes_on(lab: &Lab) -> Result<bool> {
    Ok(lab.status()?["source"] == "daemon")
}
