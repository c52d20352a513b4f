//! Short sequences of frames, as bytes that a fuzzer can keep, change and replay.

use std::time::Duration;

use edge_common::{
    abi::{DecapExit, Exit},
    host::Memory,
};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};

use super::{Try, generate, oracle};
use crate::{
    both::{Program, hex, on_host},
    cases::Case,
    kernel::{Arrival, LONGEST},
    namespace::{EDGE0, LO},
};

/// Maximum number of frames in a sequence: enough to start something, disturb it, and go on.
const MOST: usize = 8;
/// Bytes before each frame: arrival, pause, and the frame's length.
const HEAD: usize = 4;

/// A frame, and the pause before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Binary logarithm of the pause, nanoseconds; 0 for none.
    pause: u8,
    pub what: Try,
}

impl Step {
    /// A frame without a pause before it.
    pub const fn at_once(what: Try) -> Self {
        Self { pause: 0, what }
    }

    fn pause(&self) -> Duration {
        // The longest pause is more than an hour.
        Duration::from_nanos(if self.pause == 0 { 0 } else { 1 << (self.pause % 43) })
    }
}

/// Reads a sequence. Any bytes are a valid sequence: a frame whose length exceeds the rest ends with the rest.
pub fn read(mut bytes: &[u8]) -> Vec<Step> {
    let mut steps = Vec::new();
    while let Some((&[how, pause, high, low], rest)) = bytes.split_first_chunk::<HEAD>()
        && steps.len() < MOST
    {
        let length = usize::from(u16::from_be_bytes([high, low])).min(LONGEST).min(rest.len());
        let (frame, rest) = rest.split_at(length);
        let program = if how & 1 == 0 { Program::Edge } else { Program::Decap };
        let ingress = if how & 2 == 0 { LO } else { EDGE0 };
        // Metadata comes in words of four bytes.
        let arrival = Arrival { ingress, metadata: usize::from(how >> 2).min(50) * 4 };
        steps.push(Step { pause, what: Try { program, arrival, frame: frame.to_vec() } });
        bytes = rest;
    }
    steps
}

/// Encodes steps as bytes that [`read`] decodes to the same steps.
pub fn write(steps: &[Step]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for Step { pause, what: Try { program, arrival, frame } } in steps {
        let words = u8::try_from(arrival.metadata / 4).expect("little room");
        let how = words << 2 | u8::from(arrival.ingress == EDGE0) << 1 | u8::from(*program == Program::Decap);
        let [high, low] = u16::try_from(frame.len()).expect("a frame's length").to_be_bytes();
        bytes.extend([how, *pause, high, low]);
        bytes.extend(frame);
    }
    bytes
}

/// Makes one change to a sequence, most often by inserting a frame of a known case.
pub fn mutate(steps: &mut Vec<Step>, cases: &[Case], seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let at = random.random_range(0..=steps.len());
    let is_there = at < steps.len();
    match random.random_range(0..12) {
        0 if is_there && steps.len() > 1 => drop(steps.remove(at)),
        1 if is_there && steps.len() < MOST => steps.insert(at, steps[at].clone()),
        2 if is_there => steps[at].pause = random.random_range(0..43),
        3 if is_there => steps[at].what.arrival.metadata = 4 * random.random_range(0..=50),
        4..=9 if is_there => generate::change(&mut steps[at].what.frame, &mut random),
        _ => {
            let mut what = generate::frame(cases, &mut random);
            if random.random_ratio(1, 2) {
                let case = cases.choose(&mut random).expect("there are cases");
                what = Try { program: case.exit.program(), arrival: case.arrival, frame: case.frame.clone() };
            }
            let step = Step { pause: 0, what };
            if is_there && steps.len() >= MOST {
                steps[at] = step;
            } else if steps.len() < MOST {
                steps.insert(at, step);
            }
        }
    }
}

/// Sends a sequence through the host pipeline.
///
/// # Errors
/// The frame and the rule that it breaks.
pub fn run(memory: &Memory, steps: &[Step]) -> Result<(), String> {
    for (number, step) in (1..).zip(steps) {
        let now = u128::from(memory.clock_ns.get()) + step.pause().as_nanos();
        memory.clock_ns.set(u64::try_from(now).expect("hours at most"));
        let Try { program, arrival, frame } = &step.what;
        let seen = on_host(memory, *program, frame, *arrival);
        oracle::check(&step.what, &seen)
            .and_then(|()| oracle::check_sent(frame, &seen))
            .and_then(|()| if counted(memory) == number { Ok(()) } else { Err("not counted once".to_owned()) })
            .map_err(|error| format!("frame {number}: {error}\n{}", hex(frame)))?;
    }
    Ok(())
}

/// Number of frames that left, over all exits.
fn counted(memory: &Memory) -> u64 {
    let edge = Exit::ALL.iter().map(|exit| memory.exit_count(*exit));
    edge.chain(DecapExit::ALL.iter().map(|exit| memory.decap_exit_count(*exit))).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cases::{self, Scene};

    #[test]
    fn what_is_written_is_read() {
        let cases = cases::all(&Scene::new());
        let mut steps = Vec::new();
        for seed in 0..2_000 {
            mutate(&mut steps, &cases, seed);
            assert!(steps.len() <= MOST);
            assert_eq!(read(&write(&steps)), steps);
        }
        assert!(steps.len() > 1, "sequences grow");
    }

    #[test]
    fn any_bytes_are_a_sequence() {
        for length in 0..200 {
            let bytes = vec![0xff; length];
            assert!(read(&bytes).iter().all(|step| step.what.frame.len() <= length));
        }
    }

    #[test]
    fn each_case_keeps_every_rule() {
        let scene = Scene::new();
        for case in cases::all(&scene) {
            let what = Try { program: case.exit.program(), arrival: case.arrival, frame: case.frame.clone() };
            let result = run(&scene.world.memory(), &[Step { pause: 0, what }]);
            assert_eq!(result, Ok(()), "{}", case.name);
        }
    }
}
