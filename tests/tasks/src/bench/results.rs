//! Results of a run: a struct for each section, as in the output of `--json`.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::programs::Size;

/// Results of a run. A section that was not run is empty.
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
    /// Cases without a measurement, with the reasons; and restrictions of figures.
    pub(super) notes: Vec<String>,
    /// Failures that prevented figures.
    pub(super) failures: Vec<String>,
}

/// The machine of the measurement.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Machine {
    pub(super) processor: String,
    pub(super) processors: usize,
    pub(super) kernel: String,
}

/// Medians over the rows that are not noisy (if all are noisy, over all), nanoseconds: time of the driver with the two
/// programs that do next to nothing.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(super) struct Baselines {
    pub(super) return_ns: f64,
    pub(super) head_ns: f64,
}

/// One kind of packet through one program. Times are medians, in nanoseconds per packet.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Row {
    pub(super) program: String,
    pub(super) mode: String,
    pub(super) family: String,
    pub(super) protocol: String,
    pub(super) state: String,
    pub(super) flows: u32,
    pub(super) services: u32,
    /// `xPORTS` and `/SLOTS` of each service, where they differ from the default.
    #[serde(default)]
    pub(super) layout: String,
    pub(super) backends: u16,
    /// Time with the driver.
    pub(super) raw_ns: f64,
    /// Time without the driver.
    pub(super) net_ns: f64,
    /// Raw time relative to a program that returns immediately.
    pub(super) ratio_return: f64,
    /// Raw time relative to a program that moves the head by 20 bytes.
    pub(super) ratio_head: f64,
    /// Half of the samples are within this fraction of the median of `raw_ns`.
    pub(super) spread: f64,
    /// Number of samples for the medians.
    pub(super) samples: usize,
    /// Number of samples taken while the machine ran at its full speed.
    pub(super) quiet: usize,
    /// Whether there were too few quiet samples, so that the medians are of the least disturbed ones: the row is slower
    /// than this machine at its best, and even its ratios are larger.
    pub(super) noisy: bool,
    /// The two baselines in the same samples.
    pub(super) base_ns: f64,
    pub(super) head_ns: f64,
}

/// Instructions that the load balancer executes for one kind of packet.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Profile {
    pub(super) mode: String,
    pub(super) family: String,
    pub(super) protocol: String,
    pub(super) state: String,
    /// Number of the object's instructions; a 64-bit load counts once.
    pub(crate) instructions: u32,
    /// Number of lookups in arrays: one instruction each, which the kernel replaces by some seven more.
    pub(super) lookups: u32,
    /// Number of calls of kernel functions: one instruction each, plus the kernel's work.
    pub(super) calls: u32,
    /// Number of loads from the stack and stores to it.
    pub(super) stack: u32,
}

/// One kind of work on a flow table, without the work that all of them share: medians.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct FlowTable {
    /// `find`, `miss` or `add`.
    pub(super) work: String,
    /// `dense`, `hash map`, or `two reads` of arrays as large as those of the dense table.
    pub(super) table: String,
    /// Number of flows, which take half of the table.
    pub(super) flows: u32,
    /// Number of the object's instructions, without those that all works execute. A call of the kernel counts once.
    pub(super) instructions: u32,
    /// Nanoseconds.
    pub(super) net_ns: f64,
    /// Time relative to the hash map, in the same turns.
    pub(super) ratio_hash_map: f64,
    /// Time relative to two reads, in the same turns.
    pub(super) ratio_reads: f64,
    /// Half of the turns are within this fraction of the median.
    pub(super) spread: f64,
    pub(super) turns: usize,
}

/// A packet of a translated flow, or a work that it is compared with, without the driver: medians.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Nat {
    /// Name, such as `nat, forward` or `two reads`.
    pub(super) work: String,
    /// Number of flows, which take half of the table.
    pub(super) flows: u32,
    /// Nanoseconds.
    pub(super) net_ns: f64,
    /// Time relative to `dsr`, in the same turns.
    pub(super) ratio_dsr: f64,
    /// Additional time over `dsr`, relative to the reads that the direction makes; NaN for other works.
    pub(super) more_reads: f64,
    /// Time relative to the program with two hash maps, in the same direction and turns; NaN for other works.
    pub(super) ratio_hash_maps: f64,
    /// Half of the turns are within this fraction of the median.
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
    /// Frames per second of one CPU that arrived at the other side.
    pub(super) packets_per_second: f64,
    /// Rate relative to a program that sends each frame back unchanged.
    pub(super) ratio: f64,
    /// Half of the samples are within this fraction of the median.
    pub(super) spread: f64,
    pub(super) samples: usize,
    pub(super) quiet: usize,
    pub(super) noisy: bool,
}

/// One figure of the control plane.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Control {
    /// Name of the work, such as "table build".
    pub(super) bench: String,
    /// Size of the work, such as "65,536 slots, 1,000 backends".
    pub(super) size: String,
    /// Median.
    pub(super) value: f64,
    /// `ns`, `probes/s`, `CPU s/s` and the like.
    pub(super) unit: String,
    /// Half of the samples are within this fraction of the median.
    pub(super) spread: f64,
}

/// One load balancer in the lab, with real clients.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Peer {
    /// Name, such as "edge ipip" or "nginx stream".
    pub(super) name: String,
    pub(super) version: String,
    /// Path of the committed configuration, from the project's root.
    pub(super) configuration: Option<String>,
    pub(super) connections_per_second: f64,
    /// Rate over kept connections.
    pub(super) requests_per_second: f64,
    pub(super) latency: Latency,
    /// CPU time of the whole machine, including clients and backends, at the rate of `latency`.
    pub(super) cpu_seconds_per_million: f64,
    pub(super) failover: Failover,
}

/// Latency at a fixed rate, counted from the time at which a request was due.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Latency {
    /// Requests per second.
    pub(super) rate: u32,
    pub(super) requests: u64,
    /// Microseconds.
    pub(super) p50_us: f64,
    pub(super) p99_us: f64,
    pub(super) p999_us: f64,
}

/// The effect on clients when a backend dies.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Failover {
    pub(super) requests: u64,
    pub(super) failed: u64,
    /// The longest time in which an active client had no answer, milliseconds.
    pub(super) longest_gap_ms: f64,
    /// Number of answers in each tenth of a second, from the start.
    pub(super) answers: Vec<u32>,
    /// Index of the tenth in which the backend died.
    pub(super) died_at: usize,
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { processor, processors, kernel } = self;
        write!(f, "{processor}, {processors} processors, Linux {kernel}")
    }
}

impl Profile {
    /// Name in a budget: for packets that are not simply forwarded, it begins with their kind.
    pub(crate) fn name(&self) -> String {
        let Self { mode, family, protocol, state, .. } = self;
        format!("{} {family} {protocol}", if state == "steady" { mode } else { state })
    }
}

impl Machine {
    /// Describes this machine.
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

/// The median of `values`; NaN if there are none.
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
