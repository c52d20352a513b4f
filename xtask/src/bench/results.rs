//! What a run found: one struct for each section, as `--json` writes them.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::programs::Size;

/// Everything that a run found. A section that was not run is empty.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Results {
    pub(super) machine: Machine,
    pub(super) baselines: Baselines,
    pub(super) programs: Vec<Size>,
    pub(super) profile: Vec<Profile>,
    pub(super) rows: Vec<Row>,
    #[serde(default)]
    pub(super) flow_tables: Vec<FlowTable>,
    #[serde(default)]
    pub(super) nat: Vec<Nat>,
    pub(super) live: Vec<Live>,
    pub(super) control: Vec<Control>,
    pub(super) peers: Vec<Peer>,
    /// What is not measured, and why; what makes a figure worth less.
    pub(super) notes: Vec<String>,
    /// What went wrong, instead of a figure.
    pub(super) failures: Vec<String>,
}

/// Where it was measured.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Machine {
    pub(super) processor: String,
    pub(super) processors: usize,
    pub(super) kernel: String,
}

/// Medians over the rows that are not noisy (if all are, over all), nanoseconds: what the driver costs with the two programs that do next to nothing.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(super) struct Baselines {
    pub(super) return_ns: f64,
    pub(super) head_ns: f64,
}

/// One kind of packet through one program. Times are medians, nanoseconds a packet.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Row {
    pub(super) program: String,
    pub(super) mode: String,
    pub(super) family: String,
    pub(super) protocol: String,
    pub(super) state: String,
    pub(super) flows: u32,
    pub(super) services: u32,
    /// `PORTS` of each service and `/SLOTS` of it, as far as they are other than usual.
    #[serde(default)]
    pub(super) layout: String,
    pub(super) backends: u16,
    /// With the driver.
    pub(super) raw_ns: f64,
    /// Without it.
    pub(super) net_ns: f64,
    /// Raw, over a program that returns at once.
    pub(super) ratio_return: f64,
    /// Raw, over a program that moves the head by 20 bytes.
    pub(super) ratio_head: f64,
    /// Half of the samples lie within this part of the median of `raw_ns`.
    pub(super) spread: f64,
    /// Samples that the medians are of.
    pub(super) samples: usize,
    /// Samples that were taken while the machine ran at its full pace.
    pub(super) quiet: usize,
    /// Whether they were too few, and the medians are of the least disturbed ones: the row is slower than
    /// this machine is at its best, and even its ratios are larger.
    pub(super) noisy: bool,
    /// The two baselines, in the same samples.
    pub(super) base_ns: f64,
    pub(super) head_ns: f64,
}

/// What one kind of packet makes the load balancer execute.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Profile {
    pub(super) mode: String,
    pub(super) family: String,
    pub(super) protocol: String,
    pub(super) state: String,
    /// Instructions of the object; one that loads 64 bits is one.
    pub(crate) instructions: u32,
    /// Look-ups in arrays: one instruction each, which the kernel replaces by some seven more.
    pub(super) lookups: u32,
    /// Calls of functions of the kernel: one instruction each, and what the kernel does.
    pub(super) calls: u32,
    /// Loads from the stack and stores to it.
    pub(super) stack: u32,
}

/// One kind of work on a flow table, without what all of them do: medians.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct FlowTable {
    /// `find`, `miss` or `add`.
    pub(super) work: String,
    /// `dense`, `hash map`, or `two reads` of arrays as large as those of the dense table.
    pub(super) table: String,
    /// In the table, of which they take a half.
    pub(super) flows: u32,
    /// Instructions of the object, without those that all execute. A call of the kernel's is one.
    pub(super) instructions: u32,
    /// Nanoseconds.
    pub(super) net_ns: f64,
    /// Over the hash map, in the same turns.
    pub(super) ratio_hash_map: f64,
    /// Over two reads, in the same turns.
    pub(super) ratio_reads: f64,
    /// Half of the turns lie within this part of the median.
    pub(super) spread: f64,
    pub(super) turns: usize,
}

/// A packet of a translated flow, or what that is compared with, without the driver: medians.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Nat {
    /// As `nat, forward` or `two reads`.
    pub(super) work: String,
    /// In the table, of which they take a half.
    pub(super) flows: u32,
    /// Nanoseconds.
    pub(super) net_ns: f64,
    /// Over `dsr`, in the same turns.
    pub(super) ratio_dsr: f64,
    /// What is more than `dsr`, over as many reads as the direction has to make; not a number of other work.
    pub(super) more_reads: f64,
    /// Over the program with two hash maps, in the same direction and turns; not a number of other work.
    pub(super) ratio_hash_maps: f64,
    /// Half of the turns lie within this part of the median.
    pub(super) spread: f64,
    pub(super) turns: usize,
}

/// One kind of packet sent through the program and out of a device, frame by frame.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Live {
    pub(super) mode: String,
    pub(super) family: String,
    pub(super) protocol: String,
    pub(super) flows: u32,
    /// Frames that arrived on the other side, a second of one processor.
    pub(super) packets_per_second: f64,
    /// The same over a program that sends each frame back as it is.
    pub(super) ratio: f64,
    /// As of a row.
    pub(super) spread: f64,
    pub(super) samples: usize,
    pub(super) quiet: usize,
    pub(super) noisy: bool,
}

/// One figure of the control plane.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Control {
    /// What is done, as "table build".
    pub(super) bench: String,
    /// How much of it, as "65,536 slots, 1,000 backends".
    pub(super) size: String,
    /// Median.
    pub(super) value: f64,
    /// `ns`, `probes/s`, `CPU s/s` and the like.
    pub(super) unit: String,
    /// Half of the samples lie within this part of the median.
    pub(super) spread: f64,
}

/// One load balancer in the lab, with real clients.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Peer {
    /// As "edge ipip" or "nginx stream".
    pub(super) name: String,
    pub(super) version: String,
    /// The committed configuration, a path from the project's root.
    pub(super) configuration: Option<String>,
    pub(super) connections_per_second: f64,
    /// Over connections that are kept.
    pub(super) requests_per_second: f64,
    pub(super) latency: Latency,
    /// Of the whole machine, clients and backends included, at the rate of `latency`.
    pub(super) cpu_seconds_per_million: f64,
    pub(super) failover: Failover,
}

/// Latency at a fixed rate, counted from when a request was due.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Latency {
    /// Requests a second.
    pub(super) rate: u32,
    pub(super) requests: u64,
    /// Microseconds.
    pub(super) p50_us: f64,
    pub(super) p99_us: f64,
    pub(super) p999_us: f64,
}

/// What clients see when a backend dies.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Failover {
    pub(super) requests: u64,
    pub(super) failed: u64,
    /// The longest time in which a client that asked had no answer, milliseconds.
    pub(super) longest_gap_ms: f64,
    /// Answers in each tenth of a second, from the start.
    pub(super) answers: Vec<u32>,
    /// The tenth in which the backend died.
    pub(super) died_at: usize,
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { processor, processors, kernel } = self;
        write!(f, "{processor}, {processors} processors, Linux {kernel}")
    }
}

impl Profile {
    /// What it is called in a budget: of packets that are not simply forwarded, what they are stands first.
    pub(crate) fn name(&self) -> String {
        let Self { mode, family, protocol, state, .. } = self;
        format!("{} {family} {protocol}", if state == "steady" { mode } else { state })
    }
}

impl Machine {
    /// This one.
    pub(super) fn this() -> Self {
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        let processor = read("/proc/cpuinfo")
            .lines()
            .find_map(|line| Some(line.strip_prefix("model name")?.trim_start_matches([' ', '\t', ':']).to_owned()))
            .unwrap_or_else(|| std::env::consts::ARCH.to_owned());
        Self {
            processor,
            processors: std::thread::available_parallelism().map_or(1, Into::into),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
        }
    }
}

/// The middle of `values`; not a number when there is none.
pub(super) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        count => f64::midpoint(values[(count - 1) / 2], values[count / 2]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::float_cmp, reason = "halves are exact")]
    fn a_median_is_the_middle() {
        assert_eq!(median([3.0, 1.0, 2.0].into_iter()), 2.0);
        assert_eq!(median([4.0, 1.0, 2.0, 3.0].into_iter()), 2.5);
        assert!(median(std::iter::empty()).is_nan());
    }
}
