//! Upgrades of the load balancer itself.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context as _, Result};
use edge_tests::lab::{Lab, small::attached, topology::EDGE};

use crate::outages::{
    incident::{Helped, Incident, Observed},
    stage::Stage,
};

pub(super) fn rows() -> Vec<Incident> {
    let few = Incident {
        name: "upgrade",
        story: "again and again, in load balancers that use XDP: an upgrade replaced program and maps one after the \
                other, and packets in between were dropped",
        done: "`edge-ctl upgrade`, five times in a row under load",
        expected: "another program is attached each time, nothing is lost",
        helped: Helped::Yes,
        why: "the link to the interface changes its program in one step, and the new program has the maps already",
        long: false,
        replay: |stage| upgrades(stage, 5),
    };
    let many = Incident {
        name: "upgrade-for-long",
        done: "`edge-ctl upgrade`, 200 times in a row under load",
        long: true,
        replay: |stage| upgrades(stage, 200),
        ..few
    };
    vec![few, many]
}

fn upgrades(stage: &mut Stage, times: usize) -> Result<Observed> {
    let program = |lab: &Lab| {
        let (_, number) = attached(lab.netns(EDGE), "eth1")?.context("no program is attached")?;
        anyhow::Ok(number)
    };
    let mut seen = BTreeSet::from([program(&stage.lab)?]);
    let (others, toll) = stage.toll(Duration::from_secs(1), |lab| {
        for _ in 0..times {
            lab.ctl(&["upgrade"])?;
            seen.insert(program(lab)?);
        }
        Ok(seen.len() - 1)
    })?;
    Ok(Observed::all([
        (format!("{times} upgrades, {others} times another program"), others == times),
        (toll.to_string(), toll.is_nothing()),
    ]))
}
