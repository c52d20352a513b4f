//! Cost of the control plane's work with real maps of three sizes: no cost grows faster than the number of objects that
//! the work is done for. Needs root. Passes over slots are measured by the benches: each step of a pass takes the same
//! time at any size.
//!
//! `cargo test --release -p edge-ctl --lib -- --ignored --nocapture what_is_done_for` prints the table.

use std::{fmt::Write as _, fs, time::Duration};

use nix::time::{ClockId, clock_gettime};

use super::*;
use crate::{
    bpf::{PinnedMaps, bpffs::Bpffs, monotonic_time},
    control::{
        change::{Candidate, History, How, Planned, Rehearser, Words},
        offline::Offline,
    },
    plan::Capacity,
};

/// Maximum number of backends of a pool: each of its services needs a hundred slots per backend.
const POOL: u32 = 1250;
/// Number of reports that the daemon judges together.
const TOGETHER: usize = 256;
/// Factor by which the build of a test may be slower than a release.
const SLOWER: u32 = if cfg!(debug_assertions) { 20 } else { 1 };

#[derive(Clone, Copy, Debug)]
struct Size {
    backends: u32,
    services: u32,
    slots: u32,
}

/// Each size has as few slots as its pools need for all backends.
const SIZES: [Size; 3] = [
    Size { backends: 10, services: 10, slots: 1024 },
    Size { backends: 1000, services: 1000, slots: 65_536 },
    Size { backends: 10_000, services: 1000, slots: 131_072 },
];

impl Size {
    /// Number of pools of each provider.
    fn pools(self) -> u32 {
        (self.backends / 2).div_ceil(POOL)
    }

    /// The configuration's text: two providers, and services with one pool of each.
    fn text(self, weight: u32) -> String {
        let mut text = format!(
            "hash_key = \"000102030405060708090a0b0c0d0e0f\"\nslots = {}\n[limits]\nflows = 65536\n\
             [tunnel]\nsource_v4 = \"10.0.0.1\"\n[[interface]]\nname = \"lo\"\n",
            self.slots
        );
        let each = self.backends / 2 / self.pools();
        for (number, provider) in (0..self.pools()).flat_map(|number| [(number, 'a'), (number, 'b')]) {
            write!(
                text,
                "[[pool]]\nname = \"{provider}{number}\"\nprobe = {{ type = \"tcp\", port = 80 }}\nbackend = [\n"
            )
            .unwrap();
            for n in number * each..(number + 1) * each {
                let (second, weight) = (if provider == 'a' { 1 } else { 2 }, if n == 0 { weight } else { 100 });
                writeln!(
                    text,
                    "{{ name = \"{n}\", address = \"10.{second}.{}.{}\", weight = {weight} }},",
                    n / 250,
                    n % 250 + 1
                )
                .unwrap();
            }
            text.push_str("]\n");
        }
        for n in 0..self.services {
            let pool = n % self.pools();
            writeln!(
                text,
                "[[service]]\nname = \"s{n}\"\nvips = [\"198.18.{}.{}\"]\nports = [\"80/tcp\"]\nmode = \"ipip\"\n\
                 pools = [\"a{pool}\", \"b{pool}\"]",
                n / 250,
                n % 250 + 1
            )
            .unwrap();
        }
        text
    }
}

/// Names and values of one size's measurements. A row of the printed table has one measurement of all sizes.
type Row = Vec<(&'static str, f64)>;

/// Does `work`, and adds its CPU time in milliseconds to `row`: other work of this host does not count.
fn timed<T>(row: &mut Row, what: &'static str, work: impl FnOnce() -> T) -> T {
    let used = || Duration::from(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap());
    let start = used();
    let made = work();
    row.push((what, used().saturating_sub(start).as_secs_f64() * 1000.0));
    made
}

/// MiB of this process's own memory.
#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
fn resident() -> f64 {
    let text = fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() as f64 / 1024.0
}

fn candidate(text: &str, how: How) -> Candidate {
    Candidate {
        config: config::parse(text, "edge.toml").unwrap(),
        how,
        file: None,
        words: Words::default(),
        text_of: None,
        host: None,
    }
}

fn judge(controller: &mut Controller<PinnedMaps>, reports: &[Report]) {
    for together in reports.chunks(TOGETHER) {
        controller.now = monotonic_time();
        controller.report(together).unwrap();
    }
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn measured(size: Size) -> Row {
    let (mut row, events) = (Row::new(), Events::new());
    let before = resident();
    let (first, second) = (size.text(100), size.text(60));
    let wanted = timed(&mut row, "the file is read", || candidate(&first, How::Start));
    let bpffs = Bpffs::mount();
    let capacity = Capacity::of(&wanted.config);
    let mut history = History::default();
    let mut maps = timed(&mut row, "maps are made", || PinnedMaps::create(&bpffs.pins(), &capacity).unwrap());
    let inventory = timed(&mut row, "a cold start", || {
        let vetted = Planned::new(&maps, None, wanted).unwrap().unrehearsed(&mut maps);
        vetted.publish(&mut maps, &mut history, Clock::now(), &events).unwrap().0
    });
    let inventory = timed(&mut row, "a weight changes", || {
        let planned = Planned::new(&maps, Some(&inventory), candidate(&second, How::Apply)).unwrap();
        let vetted = planned.unrehearsed(&mut maps);
        vetted.publish(&mut maps, &mut history, Clock::now(), &events).unwrap().0
    });
    let mut rehearser = Rehearser::default();
    let mut rehearse = || rehearser.rehearse_in_force(&maps, &inventory).unwrap();
    assert_eq!(timed(&mut row, "the first rehearsal", &mut rehearse), None);
    assert_eq!(timed(&mut row, "a rehearsal", rehearse), None);
    let mut controller = timed(&mut row, "a restart", || {
        maps.repair().unwrap();
        Controller::adopt(inventory, maps, events).unwrap()
    });
    let numbers: Vec<_> = controller.inventory.members().map(|member| member.number).collect();
    let providers: Vec<_> = controller.inventory.members().map(|member| member.pool.name.starts_with('a')).collect();
    let passes: Vec<_> = numbers.iter().map(|number| report(Subject::Backend(*number), Verdict::Pass)).collect();
    timed(&mut row, "the first verdicts", || judge(&mut controller, &passes));
    timed(&mut row, "as many good verdicts", || judge(&mut controller, &passes));
    timed(&mut row, "a second's look at the maps", || controller.reconcile().unwrap());

    let dead = failed(numbers[1]);
    judge(&mut controller, &[dead.clone(), dead.clone()]);
    timed(&mut row, "a death", || judge(&mut controller, std::slice::from_ref(&dead)));
    assert!(controller.plane.state(numbers[1]).has_all(State::DOWN));
    let provider: Vec<_> =
        numbers.iter().zip(&providers).filter(|(_, is_a)| **is_a).map(|(number, _)| failed(*number)).collect();
    judge(&mut controller, &provider);
    judge(&mut controller, &provider);
    timed(&mut row, "a provider's death", || judge(&mut controller, &provider));
    let down = |report: &Report| {
        let Subject::Backend(number) = report.subject else { return false };
        controller.plane.state(number).has_all(State::DOWN)
    };
    assert!(provider.iter().all(down), "some are not down");
    timed(&mut row, "`status`", || {
        let now = Sample::take(&controller.inventory, &controller.plane, Clock::now());
        let status = status::build(&controller.inventory, &controller.plane, None, &now, None);
        serde_json::to_string(&status).unwrap()
    });
    timed(&mut row, "`status` without a daemon", || {
        let mut offline = Offline::open(&bpffs.path().join("edge")).unwrap();
        serde_json::to_string(&offline.status(&mut None).unwrap()).unwrap()
    });
    row.push(("MiB of this process", resident() - before));
    row.push(("MiB of maps", capacity.memory() as f64 / (1024.0 * 1024.0)));
    row
}

#[test]
#[ignore = "minutes, and gigabytes of maps"]
fn what_is_done_for_ten_thousand_backends_takes_no_more_than_its_share() {
    let rows = SIZES.map(measured);
    println!("{:30} {:>12} {:>12} {:>12}", "ms", "10 x 10", "1,000 x 1,000", "10,000 x 1,000");
    for (((what, small), (_, middle)), (_, large)) in rows[0].iter().zip(&rows[1]).zip(&rows[2]) {
        println!("{what:30} {small:>12.2} {middle:>12.2} {large:>12.2}");
    }
    let large = |what| rows[2].iter().find(|(name, _)| *name == what).map_or(f64::INFINITY, |(_, value)| *value);
    for (what, most) in [("a death", Duration::from_millis(10)), ("a provider's death", Duration::from_secs(1))] {
        let most = (most * SLOWER).as_secs_f64() * 1000.0;
        assert!(large(what) <= most, "{what}: {} ms, which may be {most}", large(what));
    }
    for (position, (what, middle)) in rows[1].iter().enumerate() {
        let (_, large) = rows[2][position];
        // The large size has ten times the backends and twice the slots of the middle one. Where all backends change at
        // once, each batch of verdicts is judged by all backends.
        let times = if what.contains("verdicts") { 100.0 } else { 20.0 };
        assert!(large <= times * middle + 20.0, "{what}: {large} ms, which were {middle} for a tenth");
    }
}
