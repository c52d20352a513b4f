//! Packets a second: frames that go through the program and out of a device, and are counted at its other end.
//!
//! The kernel hands them to the driver as if they had come in by one end of a veth, and sends what the program sends;
//! at the other end a program counts them. All of it is one processor's work. What the veth costs is not the load
//! balancer's: so each figure is compared with that of a program that sends each frame back as it is.

use anyhow::{Context as _, Result};
use edge_tests::namespace;

use super::{
    super::results::{Live, Results, median},
    cases::{self, Case},
    is_wanted, load,
    rig::{Rig, Target},
    stay_on_one_processor, table,
};

/// Samples that a row's medians are of.
const SAMPLES: usize = 20;
/// Packets of a run.
const ROUNDS: u32 = 19_999;

/// Measures the rows whose name contains `only`, and prints each.
pub(in super::super) fn measure(results: &mut Results, quick: bool, only: Option<&str>) -> Result<()> {
    let cases: Vec<_> = cases::live(quick).into_iter().filter(|case| is_wanted(case, only)).collect();
    let Some(first) = cases.first() else { return Ok(()) };
    namespace::in_namespace(|| {
        stay_on_one_processor()?;
        // Nobody else's frames are to be counted.
        namespace::sh("echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6");
        let (_, mut rig) = load(&first.world)?;
        rig.attach("bench_sink", "peer0")?;
        // The kernel takes frames for an interface that runs some program.
        rig.attach("bench_return", "edge0")?;
        println!("{}", table::live_heading());
        for case in &cases {
            let row = row(case, &mut rig, if quick { 2 } else { 8 }).with_context(|| table::name(case))?;
            println!("{row}");
            results.live.push(row);
        }
        Ok(())
    })
}

fn row(case: &Case, rig: &mut Rig, runs: u32) -> Result<Live> {
    let mut rates = Vec::new();
    let mut ratios = Vec::new();
    for _ in 0..SAMPLES {
        let (mut base, mut ours) = (0.0, 0.0);
        for _ in 0..runs {
            base += rig.run_live(Target::Return, &case.stream, ROUNDS, namespace::EDGE0)?;
            ours += rig.run_live(Target::Ours(case.leaving), &case.stream, ROUNDS, namespace::EDGE0)?;
        }
        rates.push(1e9 * f64::from(runs) / ours);
        ratios.push(base / ours);
    }
    let packets_per_second = median(rates.iter().copied());
    Ok(Live {
        mode: case.mode.to_owned(),
        family: case.family.to_owned(),
        protocol: case.protocol.to_owned(),
        flows: case.stream.flows,
        packets_per_second,
        ratio: median(ratios.into_iter()),
        spread: median(rates.iter().map(|rate| (rate - packets_per_second).abs())) / packets_per_second,
    })
}
