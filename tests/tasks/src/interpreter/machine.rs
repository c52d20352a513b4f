//! A virtual CPU that runs a program on frames.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail, ensure};

use super::{
    arithmetic::{self, ALU, ALU64, CLASS, END, JMP, JMP32, OPERATION, REGISTER},
    maps::{Content, Maps},
    memory::{CONTEXT, DATA, Memory, PACKET, STACK, address, region},
    object::{CALL, IN_PROGRAM, Instruction, LOAD_64, Program},
};

/// Room before a frame, bytes, and the part of it that is reserved for the kernel.
const HEADROOM: u64 = 256;
const KEPT: u64 = 40;
/// Minimum length of a frame, bytes (`ETH_HLEN`).
const SHORTEST: u64 = 14;
/// Length of a function's stack in bytes, and maximum depth of calls.
const FRAME: u64 = 512;
const DEPTH: usize = 8;
/// Maximum number of instructions: far more than any packet needs.
const MOST: u32 = 1 << 20;

const LDX: u8 = 1;
const ST: u8 = 2;
const STX: u8 = 3;
const MODE: u8 = 0xe0;
const PLAIN: u8 = 0x60;
const ATOMIC: u8 = 0xc0;
/// Atomic operations, by immediate.
const ADD: i64 = 0x00;
const COMPARE_EXCHANGE: i64 = 0xf1;
const EXIT: u8 = 0x95;
/// Helpers, by the kernel's numbers.
const LOOKUP: i64 = 1;
const UPDATE: i64 = 2;
const DELETE: i64 = 3;
const TAIL_CALL: i64 = 12;
const ADJUST_HEAD: i64 = 44;
const ADJUST_TAIL: i64 = 65;
const CLOCK: i64 = 160;
const CHECK_MTU: i64 = 163;
const INVALID: i64 = -22;

/// The result of a run.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) verdict: u64,
    pub(crate) frame: Vec<u8>,
    /// Number of executed instructions; a 64-bit load counts once.
    pub(crate) instructions: u32,
    /// Number of lookups in arrays.
    pub(crate) lookups: u32,
    /// Number of calls of kernel functions: to move an end of the frame, to use a hash map, to read the clock.
    pub(crate) calls: u32,
    /// Number of loads from the stack and stores to it.
    pub(crate) stack: u32,
    /// Whether the program ended by a tail call. There is no verdict then.
    pub(crate) is_handed_over: bool,
}

/// A program and its maps, which keep the program's writes.
#[derive(Debug)]
pub(crate) struct Machine<'a> {
    program: &'a Program,
    memory: Memory,
    maps: Maps,
    /// The clock in nanoseconds.
    clock: u64,
}

/// State of the run on one packet.
struct Run {
    registers: [u64; 11],
    /// Return addresses, with the caller's saved registers.
    calls: Vec<(usize, [u64; 5])>,
    /// Addresses of the frame's start and end.
    start: u64,
    end: u64,
    ingress: u32,
    instructions: u32,
    lookups: u32,
    helped: u32,
    stack: u32,
    is_handed_over: bool,
}

impl<'a> Machine<'a> {
    /// A machine with maps of this `content`, by name, and with a fixed `clock` in nanoseconds. A map without content
    /// is empty, and has no room.
    pub(crate) fn new(program: &'a Program, content: BTreeMap<&str, Content>, clock: u64) -> Result<Self> {
        let mut memory = Memory::default();
        for (number, bytes) in (DATA..).zip(&program.data) {
            memory.put(number, bytes.clone());
        }
        let maps = Maps::new(&program.maps, content, &mut memory)?;
        Ok(Self { program, memory, maps, clock })
    }

    /// Content of an array that the program uses.
    pub(crate) fn array(&self, name: &str) -> &[u8] {
        self.maps.array(name, &self.memory)
    }

    /// Keys and values of a hash map that the program uses.
    pub(crate) fn hash(&self, name: &str) -> BTreeMap<Vec<u8>, Vec<u8>> {
        self.maps.hash(name, &self.memory)
    }

    /// Runs the program on a frame with this ingress interface.
    pub(crate) fn run(&mut self, frame: &[u8], ingress: u32) -> Result<Ran> {
        let mut packet = vec![0; usize::try_from(HEADROOM)?];
        packet.extend_from_slice(frame);
        let end = address(PACKET, packet.len() as u64);
        self.memory.put(PACKET, packet);
        self.memory.put(STACK, vec![0; usize::try_from(FRAME)? * DEPTH]);
        let mut registers = [0; 11];
        registers[1] = address(CONTEXT, 0);
        registers[10] = address(STACK, FRAME);
        let start = address(PACKET, HEADROOM);
        let calls = Vec::new();
        let mut run = Run {
            registers,
            calls,
            start,
            end,
            ingress,
            instructions: 0,
            lookups: 0,
            helped: 0,
            stack: 0,
            is_handed_over: false,
        };
        self.lay_out_context(&run)?;

        let mut place = Some(self.program.entry);
        while let Some(now) = place {
            ensure!(run.instructions < MOST, "the program does not end");
            let instruction = *self.program.instructions.get(now).context("a jump out of the program")?;
            run.instructions += 1;
            place = self.step(&mut run, now, instruction).with_context(|| format!("instruction {now}"))?;
        }
        let frame = self.memory.at(run.start, usize::try_from(run.end - run.start)?)?.to_vec();
        let Run { registers: [verdict, ..], instructions, lookups, helped: calls, stack, is_handed_over, .. } = run;
        Ok(Ran { verdict, frame, instructions, lookups, calls, stack, is_handed_over })
    }

    /// Writes `struct xdp_md`: `data`, `data_end`, `data_meta`, `ingress_ifindex`, `rx_queue_index`, `egress_ifindex`.
    fn lay_out_context(&mut self, run: &Run) -> Result<()> {
        let [start, end] = [u32::try_from(run.start)?, u32::try_from(run.end)?];
        let fields = [start, end, start, run.ingress, 0, 0];
        self.memory.put(CONTEXT, fields.into_iter().flat_map(u32::to_le_bytes).collect());
        Ok(())
    }

    /// Executes one instruction; returns the index of the next.
    fn step(&mut self, run: &mut Run, now: usize, instruction: Instruction) -> Result<Option<usize>> {
        let Instruction { code, destination, source, offset, immediate } = instruction;
        let right = if code & REGISTER == 0 { immediate.cast_unsigned() } else { run.registers[source] };
        let left = run.registers[destination];
        let after = |jump: i64| Ok(Some((now + 1).checked_add_signed(isize::try_from(jump)?).context("a wild jump")?));
        match code & CLASS {
            _ if code == LOAD_64 => {
                run.registers[destination] = immediate.cast_unsigned();
                return after(1);
            }
            ALU | ALU64 => {
                ensure!(offset == 0, "unknown instruction {code:#x} with offset {offset}");
                let right = if code & OPERATION == END { immediate.cast_unsigned() } else { right };
                run.registers[destination] = arithmetic::result(code, left, right)?;
            }
            JMP if code == CALL && source == IN_PROGRAM => {
                ensure!(run.calls.len() + 1 < DEPTH, "calls are too deep");
                let [.., r6, r7, r8, r9, r10] = run.registers;
                run.calls.push((now + 1, [r6, r7, r8, r9, r10]));
                run.registers[10] += FRAME;
                return Ok(Some(usize::try_from(immediate)?));
            }
            JMP if code == CALL && immediate == TAIL_CALL => {
                run.is_handed_over = true;
                return Ok(None);
            }
            JMP if code == CALL => run.registers[0] = self.help(run, immediate)?,
            JMP if code == EXIT => {
                let Some((place, callers)) = run.calls.pop() else { return Ok(None) };
                run.registers[6..].copy_from_slice(&callers);
                return Ok(Some(place));
            }
            class @ (JMP | JMP32) if code & OPERATION == 0 => {
                return after(if class == JMP { offset } else { immediate });
            }
            JMP | JMP32 if arithmetic::holds(code, left, right)? => return after(offset),
            JMP | JMP32 => {}
            LDX if code & MODE == PLAIN => {
                let from = run.registers[source].wrapping_add_signed(offset);
                run.note(from)?;
                run.registers[destination] = self.memory.load(from, size(code))?;
            }
            class @ (ST | STX) if code & MODE == PLAIN => {
                let to = left.wrapping_add_signed(offset);
                run.note(to)?;
                let value = if class == ST { immediate.cast_unsigned() } else { run.registers[source] };
                self.memory.store(to, size(code), value)?;
            }
            STX if code & MODE == ATOMIC => {
                let at = left.wrapping_add_signed(offset);
                run.note(at)?;
                let (size, there) = (size(code), self.memory.load(at, size(code))?);
                let value = run.registers[source];
                match immediate {
                    ADD => self.memory.store(at, size, there.wrapping_add(value))?,
                    COMPARE_EXCHANGE => {
                        if there == run.registers[0] {
                            self.memory.store(at, size, value)?;
                        }
                        run.registers[0] = there;
                    }
                    _ => bail!("unknown atomic instruction {immediate:#x}"),
                }
            }
            _ => bail!("unknown instruction {code:#x}"),
        }
        after(0)
    }

    /// Executes a helper; returns its result.
    fn help(&mut self, run: &mut Run, helper: i64) -> Result<u64> {
        let [_, first, second, third, fourth, ..] = run.registers;
        if helper == LOOKUP && self.maps.is_array(first)? {
            run.lookups += 1;
        } else {
            run.helped += 1;
        }
        match helper {
            LOOKUP => self.maps.look_up(&mut self.memory, first, second),
            UPDATE => self.maps.update(&mut self.memory, first, second, third, fourth),
            DELETE => self.maps.delete(&mut self.memory, first, second),
            CLOCK => Ok(self.clock),
            // No interface is known.
            CHECK_MTU => Ok(INVALID.cast_unsigned()),
            ADJUST_HEAD => self.resize(run, run.start.checked_add_signed(int(second)), Some(run.end)),
            // There is no room behind a frame.
            ADJUST_TAIL => {
                self.resize(run, Some(run.start), run.end.checked_add_signed(int(second)).filter(|end| *end <= run.end))
            }
            _ => bail!("unknown helper {helper}"),
        }
    }

    /// Moves the frame's ends if there is room; returns the helper's result.
    fn resize(&mut self, run: &mut Run, start: Option<u64>, end: Option<u64>) -> Result<u64> {
        let (Some(start), Some(end)) = (start, end) else { return Ok(INVALID.cast_unsigned()) };
        if start < KEPT || start + SHORTEST > end {
            return Ok(INVALID.cast_unsigned());
        }
        (run.start, run.end) = (start, end);
        self.lay_out_context(run)?;
        Ok(0)
    }
}

impl Run {
    /// Checks and counts an access before it is made.
    fn note(&mut self, at: u64) -> Result<()> {
        self.stack += u32::from(region(at) == STACK);
        ensure!(region(at) != PACKET || (self.start..self.end).contains(&at), "an access outside the frame");
        Ok(())
    }
}

/// An argument of C's type `int`.
const fn int(argument: u64) -> i64 {
    (argument << 32).cast_signed() >> 32
}

/// Number of bytes that a load or a store accesses.
const fn size(code: u8) -> usize {
    match code & 0x18 {
        0x00 => 4,
        0x08 => 2,
        0x10 => 1,
        _ => 8,
    }
}
