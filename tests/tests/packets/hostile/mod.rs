//! Hostile packets: for any frame, the real program never aborts, behaves exactly like the host pipeline, and keeps the
//! rules that hold for any frame.

mod corpus;

use std::{env, fs, path::PathBuf, sync::LazyLock, time::Instant};

use edge_common::abi::{DecapExit, Exit};
use edge_tests::{
    both::{Both, Program, ProgramExit, hex, on_host, unhex},
    cases::{self, Case, Scene},
    hostile::{Try, generate, oracle},
    kernel::Arrival,
    namespace::in_namespace,
};
use rand::{SeedableRng as _, rngs::StdRng};

/// Number of frames of the random test, without `PACKETS_COUNT`.
const COUNT: usize = 250_000;
/// Minimum number of these frames that leave by each exit: they are made of thousands of cases, and some exits have
/// only two.
const FEW: u64 = 5;
/// Seed of the random test, without `PACKETS_SEED`.
const SEED: u64 = 0x00ed_9e5e_ed00;
/// Number of frames between two comparisons of all counters and owners.
const BATCH: usize = 2_000;

/// Time at which the host's clock was 0.
static STARTED: LazyLock<Instant> = LazyLock::new(Instant::now);

#[test]
fn truncated_at_every_length() {
    run(|cases, try_all| {
        for case in cases {
            // Behind the headers, a few lengths represent all others.
            let lengths = (0..case.frame.len()).filter(|length| *length < 180 || length % 31 == 0);
            try_all(&mut lengths.map(|length| altered(case, case.frame[..length].to_vec())));
        }
    });
}

#[test]
fn every_byte_of_every_header_changed() {
    run(|cases, try_all| {
        for (number, case) in cases.iter().enumerate() {
            let each = (12..case.frame.len().min(100)).flat_map(|at| {
                // All values for a few cases, the nastiest values for all.
                let nasty = [0, 0xff, case.frame[at] ^ 1, case.frame[at] ^ 0x80, case.frame[at].wrapping_add(1)];
                let all = if number % 97 == 0 { 256 } else { 0 };
                nasty.into_iter().chain((0..=255).take(all)).map(move |value| (at, value))
            });
            try_all(&mut each.map(|(at, value)| {
                let mut frame = case.frame.clone();
                frame[at] = value;
                altered(case, frame)
            }));
        }
    });
}

#[test]
fn claimed_lengths_of_every_kind() {
    run(|cases, try_all| {
        for case in cases {
            // Offsets of the length fields of IPv4, IPv6 and UDP, with and without tags.
            let fields = [16, 18, 20, 22, 24, 26, 38, 42, 46, 58, 62, 66];
            let each = fields.into_iter().filter(|at| at + 2 <= case.frame.len()).flat_map(|at| {
                let around = u16::try_from(case.frame.len()).expect("a frame's length");
                let near = (around.saturating_sub(80)..around + 3).step_by(3);
                [0, 1, 7, 8, 19, 20, 21, 39, 40, 41, 65_535, 65_534, 65_516, 65_515, 0x8000]
                    .into_iter()
                    .chain(near)
                    .map(move |length| (at, length))
            });
            try_all(&mut each.map(|(at, length)| {
                let mut frame = case.frame.clone();
                frame[at..at + 2].copy_from_slice(&length.to_be_bytes());
                altered(case, frame)
            }));
        }
    });
}

#[test]
fn all_zeros_all_ones_and_one_byte_over_and_over() {
    run(|cases, try_all| {
        for byte in 0..=255 {
            for length in (0..200).chain([1514, 3500]) {
                for program in [Program::Edge, Program::Decap] {
                    let frame = vec![byte; length];
                    try_all(&mut [Try { program, arrival: Arrival::by(1), frame }].into_iter());
                }
            }
        }
        for case in cases {
            // Behind the link layer, and behind the network layer.
            let each = [14, 34, 54].into_iter().flat_map(|from| [(from, 0), (from, 0xff)]);
            try_all(&mut each.filter(|(from, _)| *from < case.frame.len()).map(|(from, byte)| {
                let mut frame = case.frame.clone();
                frame[from..].fill(byte);
                altered(case, frame)
            }));
        }
    });
}

#[test]
fn random_and_mutated_frames_by_the_hundred_thousand() {
    let number = |name: &str| env::var(name).ok().map(|text| text.parse().expect("a number"));
    let seed = number("PACKETS_SEED").unwrap_or(SEED);
    let count = number("PACKETS_COUNT").map_or(COUNT, |count| usize::try_from(count).expect("a count"));
    println!("PACKETS_SEED={seed} PACKETS_COUNT={count}");
    let exits = run(|cases, try_all| {
        let mut random = StdRng::seed_from_u64(seed);
        try_all(&mut (0..count).map(|_| generate::frame(cases, &mut random)));
    });
    let wanted = Exit::ALL.iter().filter(|exit| !cases::OF_NO_CASE.contains(exit));
    let unseen: Vec<_> = wanted.map(|exit| (exit, exits[*exit as usize])).filter(|(_, frames)| *frames < FEW).collect();
    assert!(count < COUNT || unseen.is_empty(), "these frames hardly ever leave by {unseen:?}");
}

#[test]
fn frames_that_once_failed() {
    let mut tries = Vec::new();
    for file in fs::read_dir(regressions()).expect("the regressions' folder") {
        let path = file.expect("a file").path();
        if path.extension().is_some_and(|extension| extension == "txt") {
            tries.push(read(&fs::read_to_string(&path).expect("a regression")));
        }
    }
    run(|_, try_all| try_all(&mut tries.into_iter()));
}

#[test]
fn a_frame_shorter_than_its_link_layer_is_not_ours() {
    // The kernel's test runs need 14 bytes; drivers deliver no shorter frames either.
    let memory = Scene::new().world.memory();
    for length in 0..14 {
        for byte in [0, 0x08, 0x81, 0xff] {
            let seen = |program| on_host(&memory, program, &vec![byte; length], Arrival::by(1)).exit;
            assert_eq!(seen(Program::Edge), ProgramExit::Edge(Exit::NotOurs));
            assert_eq!(seen(Program::Decap), ProgramExit::Decap(DecapExit::NotTunnel));
        }
    }
}

fn altered(case: &Case, frame: Vec<u8>) -> Try {
    Try { program: case.exit.program(), arrival: case.arrival, frame }
}

/// Calls `tries` with all cases and a function that tries frames; saves the first failing frame and panics. Returns the
/// number of frames that left the load balancer by each exit.
fn run(tries: impl FnOnce(&[Case], &mut dyn FnMut(&mut dyn Iterator<Item = Try>)) + Send) -> Vec<u64> {
    let scene = Scene::new();
    let cases = cases::runnable(&scene, "packets_hostile");
    in_namespace(|| {
        let both = Both::new(scene.world.clone());
        let (mut count, mut batch) = (0u64, Vec::new());
        let mut flush = |batch: &mut Vec<Try>| {
            count += batch.iter().filter(|each| each.frame.len() >= 14).count() as u64;
            if let Err(error) = both.compare_state() {
                find(&scene, batch, &error);
            }
            batch.clear();
        };
        tries(&cases, &mut |frames| {
            for each in frames {
                if let Err(error) = attempt(&both, &each) {
                    fail(&each, &error);
                }
                batch.push(each);
                if batch.len() == BATCH {
                    flush(&mut batch);
                }
            }
        });
        flush(&mut batch);
        let counted = both.kernel.exits().iter().chain(&both.kernel.decap_exits()).sum::<u64>();
        assert_eq!(counted, count, "every packet is counted once");
        println!("{count} frames");
        both.kernel.exits()
    })
}

fn attempt(both: &Both, each: &Try) -> Result<(), String> {
    // Fragments are remembered for a time, which must pass equally on both clocks.
    both.memory.clock_ns.set(u64::try_from(STARTED.elapsed().as_nanos()).expect("not that long"));
    let seen = both.try_run(each.program, &each.frame, each.arrival)?;
    oracle::check(each, &seen)?;
    oracle::check_sent(&each.frame, &seen)
}

/// Finds the frame of a batch after which counters or owners differ.
fn find(scene: &Scene, batch: &[Try], error: &str) -> ! {
    let both = Both::new(scene.world.clone());
    for each in batch {
        let result = attempt(&both, each).and_then(|()| both.compare_state());
        if let Err(error) = result {
            fail(each, &error);
        }
    }
    panic!("{error}, but not when the last {} frames come alone", batch.len());
}

/// Saves a frame for [`frames_that_once_failed`].
fn fail(each: &Try, error: &str) -> ! {
    let Try { program, arrival, frame } = each;
    let name = if *program == Program::Edge { "edge" } else { "decap" };
    let text = format!("{name} {} {} {}\n", arrival.ingress, arrival.metadata, hex(frame));
    let sum = text.bytes().fold(0u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
    let path = regressions().join(format!("{sum:08x}.txt"));
    fs::write(&path, &text).expect("the regressions' folder can be written");
    panic!("{error}\n{text}saved as {}", path.display());
}

fn read(text: &str) -> Try {
    let words: Vec<_> = text.split_whitespace().collect();
    let [program, ingress, metadata, frame] = words[..] else { panic!("no regression: {text}") };
    let program = if program == "edge" { Program::Edge } else { Program::Decap };
    let number = |word: &str| word.parse().expect("a number");
    let arrival = Arrival { ingress: number(ingress), metadata: number(metadata) as usize };
    Try { program, arrival, frame: unhex(frame) }
}

fn regressions() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/regressions"))
}
