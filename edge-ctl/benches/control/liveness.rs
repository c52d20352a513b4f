//! From the store of a backend's death to the first packet that goes elsewhere: the real program on the daemon's maps.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::{Duration, Instant},
};

use aya::programs::{TestRun as _, TestRunOptions, Xdp};
use aya_obj::programs::XdpAttachType;
use criterion::{BenchmarkId, Criterion};
use edge_common::abi::BackendNumber;
use edge_ctl::bench::Maps;
use edge_tests::packet::{Frame, Ip, Payload, Tcp};
use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    unistd::Pid,
};

use crate::{group, maps::published, namespace::Namespace, single_rounds, size::Size};

/// The interface that packets come by and leave by: `lo`, since nothing is sent.
const LO: u32 = 1;
/// `XDP_TX`.
const TX: u32 = 3;
/// Longest wait for another thread.
const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) fn bench(criterion: &mut Criterion, namespace: &Namespace, quick: bool) {
    let small = Size { services: 10, backends: 3, slots: 65_536 };
    let large = Size { services: 10, backends: 1000, slots: 131_072 };
    for size in if quick { vec![small] } else { vec![small, large] } {
        let mut scene = Scene::new(namespace, size);
        let name = |what| BenchmarkId::new(what, size);
        let mut group = group(criterion, "liveness", quick);
        group.bench_function(name("one packet"), |bencher| bencher.iter(|| assert_eq!(scene.packet(), scene.home)));
        group.bench_function(name("store"), |bencher| {
            bencher.iter_custom(|rounds| (0..rounds).map(|_| scene.store()).sum());
        });
        group.bench_function(name("store and the next packet"), |bencher| {
            bencher.iter_custom(|rounds| (0..rounds).map(|_| scene.store_and_packet()).sum());
        });
        group.finish();
        // A round in which this host does something else on one of the two processors takes a hundred times as long.
        let mut group = single_rounds(criterion, "liveness", if quick { 20 } else { 100 });
        group.bench_function(name("store to the first packet elsewhere"), |bencher| {
            bencher.iter_custom(|rounds| scene.among_packets(rounds));
        });
    }
}

/// An established flow, and the maps by which it goes to its backend.
struct Scene {
    maps: Maps,
    flow: Flow,
    /// Where the flow goes while all live.
    home: BackendNumber,
}

/// Packets of one flow through the program.
struct Flow {
    program: Xdp,
    frame: Vec<u8>,
}

impl Scene {
    fn new(namespace: &Namespace, size: Size) -> Self {
        let mut maps = published(namespace, "liveness", size);
        for number in size.config(100).plan().expect("it fits").backends() {
            maps.set_next_hop(number, LO, mac(number)).expect("it is configured");
            maps.set_up(number, true).expect("it is configured");
        }
        let pin = maps.load_program().expect("the kernel takes it");
        let program = Xdp::from_pin(pin, XdpAttachType::Interface).expect("it is pinned");
        let (vip, port) = Size::VIP;
        let tcp = Tcp { destination: port, ..Tcp::default() };
        let ip = Ip::new([203, 0, 113, 7].into(), vip.into(), Payload::Tcp(tcp));
        let flow = Flow { program, frame: Frame::new([2; 6], [4; 6], ip).bytes() };
        let home = flow.packet();
        Self { maps, flow, home }
    }

    fn packet(&self) -> BackendNumber {
        self.flow.packet()
    }

    fn set_home(&mut self, up: bool) {
        self.maps.set_up(self.home, up).expect("it is configured");
    }

    /// The time that it takes to say that the flow's backend is dead.
    fn store(&mut self) -> Duration {
        let start = Instant::now();
        self.set_home(false);
        let took = start.elapsed();
        self.set_home(true);
        took
    }

    /// The same, and the packet after it, which must go elsewhere.
    fn store_and_packet(&mut self) -> Duration {
        let start = Instant::now();
        self.set_home(false);
        let next = self.packet();
        let took = start.elapsed();
        assert_ne!(next, self.home, "the packet after the store went to the dead backend");
        self.set_home(true);
        assert_eq!(self.packet(), self.home, "the flow comes back with its backend");
        took
    }

    /// With packets of the flow running on another processor: from before the store until the first of them has gone
    /// elsewhere; `rounds` times, summed up.
    fn among_packets(&mut self, rounds: u64) -> Duration {
        let Self { maps, flow, home } = self;
        let base = Instant::now();
        let nanoseconds = || u64::try_from(base.elapsed().as_nanos()).expect("not centuries");
        // When the last packet that went elsewhere had done so, and the last that went home was sent; 0: none yet.
        let (elsewhere, at_home, end) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
        let wait = |since: &AtomicU64| {
            let start = Instant::now();
            while since.load(Ordering::Acquire) == 0 {
                assert!(start.elapsed() < PATIENCE, "no packet follows");
                std::thread::yield_now();
            }
        };
        let (all, [first, last]) = processors();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                stay_on(&last);
                while !end.load(Ordering::Relaxed) {
                    let sent = nanoseconds();
                    if flow.packet() == *home {
                        at_home.store(sent, Ordering::Release);
                    } else if elsewhere.load(Ordering::Relaxed) == 0 {
                        elsewhere.store(nanoseconds(), Ordering::Release);
                    }
                }
            });
            let _end = End(&end);
            stay_on(&first);
            let mut total = 0;
            for _ in 0..rounds {
                at_home.store(0, Ordering::Relaxed);
                wait(&at_home);
                elsewhere.store(0, Ordering::Relaxed);
                let start = nanoseconds();
                maps.set_up(*home, false).expect("it is configured");
                let stored = nanoseconds();
                wait(&elsewhere);
                total += elsewhere.load(Ordering::Relaxed) - start;
                assert!(at_home.load(Ordering::Relaxed) <= stored, "a packet went to the dead backend");
                maps.set_up(*home, true).expect("it is configured");
            }
            stay_on(&all);
            Duration::from_nanos(total)
        })
    }
}

/// The processors that this thread may use, and the first and the last of them.
fn processors() -> (CpuSet, [CpuSet; 2]) {
    let all = sched_getaffinity(Pid::from_raw(0)).expect("it is known");
    let usable = || (0..CpuSet::count()).filter(|&cpu| all.is_set(cpu).unwrap_or_default());
    let ends = [usable().next(), usable().next_back()].map(|cpu| {
        let mut one = CpuSet::new();
        one.set(cpu.expect("this thread runs on one")).expect("it is a processor");
        one
    });
    (all, ends)
}

/// Keeps this thread on these processors: two that wait for each other on one would be measured by its time slices.
fn stay_on(processors: &CpuSet) {
    sched_setaffinity(Pid::from_raw(0), processors).expect("they were allowed");
}

/// Ends the other thread with this one's round, also when that panics.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Flow {
    /// Sends a packet of the flow; returns which backend it goes to.
    fn packet(&self) -> BackendNumber {
        let mut out = [0; 128];
        let options =
            TestRunOptions { data_in: Some(&self.frame), data_out: Some(&mut out), ..TestRunOptions::default() };
        let result = self.program.test_run(options).expect("a test run");
        assert_eq!(result.return_value, TX, "the packet is forwarded");
        BackendNumber::from_be_bytes([out[4], out[5]])
    }
}

/// The MAC address of a backend's next hop: its last two bytes are the backend's number.
const fn mac(number: BackendNumber) -> [u8; 6] {
    let [high, low] = number.to_be_bytes();
    [2, 0, 0, 0xbb, high, low]
}
