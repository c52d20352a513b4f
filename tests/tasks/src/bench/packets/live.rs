//! Packets per second: frames pass the program, leave through a device, and are counted at its other end.
//!
//! The kernel gives the frames to the driver as if they had arrived at one end of a veth, and carries out the program's
//! verdict; at the other end a program counts them. All of this runs on one CPU. The cost of the veth is not the load
//! balancer's, so each figure is compared with that of a program that sends each frame back unchanged.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use edge_tests::namespace;

use super::{
    super::results::{Live, Results, median},
    cases::{self, Case},
    is_wanted, load, name,
    processors::Processors,
    progress,
    rig::Rig,
    sample::{Sample, Sampler, Samples},
    stream::Measured,
};

/// Number of packets in a run.
const ROUNDS: u32 = 9_999;
/// Maximum number of attempts: a device's queue may occasionally overflow when the kernel empties it late.
const TRIES: usize = 5;

/// Measures the rows whose name contains `only`.
pub(in super::super) fn measure(results: &mut Results, quick: bool, only: Option<&str>) -> Result<()> {
    let cases: Vec<_> = cases::live(quick).into_iter().filter(|case| is_wanted(case, only)).collect();
    let Some(first) = cases.first() else { return Ok(()) };
    namespace::in_namespace(|| {
        let processors = Processors::all()?;
        // Frames from elsewhere must not be counted.
        namespace::sh("echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6");
        let mut rig = load(&first.world)?;
        rig.attach("bench_sink", "peer0")?;
        // The kernel injects frames only at an interface with a program attached.
        rig.attach("bench_return", "edge0")?;
        let (wanted, seconds) = if quick { (20, 5) } else { (60, 25) };
        let mut sampler = Sampler::new(wanted);
        sampler.begin(cases.len(), Duration::from_secs(seconds));
        let mut rows = Vec::new();
        for case in &cases {
            processors.choose(|| rig.base(&case.stream))?;
            let samples = rig.checked(case.state, |rig| sampler.take(false, || turn(case, rig)));
            let samples = samples.with_context(|| name(case))?;
            let row = summary(case, &samples);
            progress(case, format_args!("{:.0} packets/s", row.packets_per_second), row.noisy);
            rows.push((median(samples.all.iter().map(|sample| sample.base)), row));
        }
        results.live = rows
            .into_iter()
            .map(|(base, row)| Live { noisy: row.noisy || sampler.is_slow(false, base), ..row })
            .collect();
        Ok(())
    })
}

fn turn(case: &Case, rig: &mut Rig) -> Result<Sample> {
    let mut run = |target| {
        for _ in 0..TRIES {
            if let Some(time) = rig.run_live(target, &case.stream, ROUNDS, namespace::EDGE0)? {
                return Ok(time);
            }
        }
        bail!("some packets never arrive, {TRIES} times in a row")
    };
    let before = run(Measured::Return)?;
    let raw = run(Measured::Ours(case.leaving))?;
    let after = run(Measured::Return)?;
    let base = f64::midpoint(before, after);
    Ok(Sample { base, slower_base: before.max(after), head: base, tail: base, raw })
}

fn summary(case: &Case, Samples { all, quiet, noisy }: &Samples) -> Live {
    let rates = || all.iter().map(|sample| 1e9 / sample.raw);
    let packets_per_second = median(rates());
    Live {
        mode: case.mode.to_owned(),
        family: case.family.to_owned(),
        protocol: case.protocol.to_owned(),
        flows: case.stream.flows,
        packets_per_second,
        ratio: median(all.iter().map(|sample| sample.base / sample.raw)),
        spread: median(rates().map(|rate| (rate - packets_per_second).abs())) / packets_per_second,
        samples: all.len(),
        quiet: *quiet,
        noisy: *noisy,
    }
}
