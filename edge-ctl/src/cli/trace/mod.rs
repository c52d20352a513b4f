//! `trace`: frames that the packet path handles, as they came and as they left, each with its fate.

mod headers;
mod line;
mod pcapng;

use std::{
    fs::OpenOptions,
    io::{self, BufWriter, Write as _},
    path::PathBuf,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use edge_common::abi::{TRACED_BYTES, TracedFrame};
use tokio::{
    io::{Interest, unix::AsyncFd},
    signal::unix::{SignalKind, signal},
    time::MissedTickBehavior,
};

use self::{
    line::Line,
    pcapng::{Captured, Direction, Pcapng},
};
use super::{
    args::{Dirs, Exits, TraceArgs},
    failure::Failure,
    print_error, runtime, to_json,
};
use crate::{
    bpf::{PinnedMaps, monotonic_time},
    control::{
        inventory::{Inventory, NameError},
        offline::{Offline, OfflineError},
        operations::OperationError,
        trace::{self, Bounds, Names, Wanted},
    },
    net,
    xdp::{TraceCounts, TracedProgram, XdpError},
};

/// Interval at which interfaces, names and numbers are looked up again.
const LOOK: Duration = Duration::from_secs(1);

pub(super) fn trace(dirs: &Dirs, args: &TraceArgs) -> Result<(), Failure> {
    let (inventory, maps) = opened(dirs)?;
    let filter = wanted(args).filter(&inventory).map_err(|error| named(error, dirs))?;
    let output = Output::open(args)?;
    let mut program = TracedProgram::load(&maps, &filter).map_err(Failure::Trace)?;
    let interfaces = program.follow().map_err(Failure::Trace)?;
    if interfaces.is_empty() {
        return Err(Failure::Trace(XdpError::NothingToTrace));
    }
    print_error(&format!("edge-ctl: tracing {}; Ctrl-C ends it", interfaces.join(", ")));
    let names = Names::of(&inventory);
    let tracer =
        Tracer { dirs, args, maps, generation: inventory.generation, names, output, offset: offset(), shown: 0 };
    runtime(false)?.block_on(tracer.run(program))
}

fn opened(dirs: &Dirs) -> Result<(Inventory, PinnedMaps), Failure> {
    Ok(Offline::open(&dirs.pin_dir).map_err(|error| Failure::offline(error, dirs))?.into_parts())
}

fn wanted(args: &TraceArgs) -> Wanted<'_> {
    Wanted {
        service: args.service.as_deref(),
        backend: args.backend.as_deref(),
        client: args.client,
        exits: args.exit.iter().flat_map(|Exits(exits)| exits).copied().collect(),
        bounds: Bounds { sample: args.sample, rate: args.rate },
    }
}

fn named(error: NameError, dirs: &Dirs) -> Failure {
    Failure::offline(OfflineError::Operation(OperationError::Name(error)), dirs)
}

/// Time from 1970 to the beginning of the clock of traces.
fn offset() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().saturating_sub(monotonic_time())
}

struct Tracer<'a> {
    dirs: &'a Dirs,
    args: &'a TraceArgs,
    maps: PinnedMaps,
    /// The generation of `names`.
    generation: u64,
    names: Names,
    output: Output,
    offset: Duration,
    shown: u64,
}

impl Tracer<'_> {
    /// Shows frames until there are enough, the time is over, or a signal comes; then the daemon's program is back.
    async fn run(mut self, program: TracedProgram) -> Result<(), Failure> {
        let signals = [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()].map(signal);
        let [mut terminate, mut interrupt, mut hangup] = signals;
        // SAFETY: the program owns its ring buffer's descriptor, and always returns the same one until it is dropped.
        let program = unsafe { AsyncFd::register_with_interest(program, Interest::READABLE) };
        let mut program = program.map_err(|error| Failure::Runtime(error.into()))?;
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let end = tokio::time::sleep(self.args.time.unwrap_or(Duration::MAX));
        tokio::pin!(end);
        let ended = loop {
            let signalled = async {
                tokio::select! {
                    () = received(&mut terminate) => {}
                    () = received(&mut interrupt) => {}
                    () = received(&mut hangup) => {}
                }
            };
            tokio::select! {
                ready = program.readable_mut() => {
                    let mut ready = ready.map_err(Failure::Runtime)?;
                    let goes_on = self.show_all(ready.get_inner_mut());
                    ready.clear_ready();
                    if !matches!(goes_on, Ok(true)) {
                        break goes_on.map(drop);
                    }
                }
                _ = looks.tick() => match self.look(program.get_mut()) {
                    Ok(true) => {}
                    Ok(false) => break Err(Failure::Trace(XdpError::TraceEnded)),
                    Err(failure) => break Err(failure),
                },
                () = &mut end => break Ok(()),
                () = signalled => break Ok(()),
            }
        };
        let program = program.into_inner();
        let counts = program.counts();
        // In any case before the numbers are told.
        program.detach().map_err(Failure::Trace)?;
        print_error(&summary(self.shown, counts.map_err(Failure::Trace)?));
        ended
    }

    /// Shows what was written; false if that is enough.
    fn show_all(&mut self, program: &mut TracedProgram) -> Result<bool, Failure> {
        while let Some(frame) = program.next() {
            if !self.show(&frame)? || self.args.count.is_some_and(|count| self.shown >= count) {
                return Ok(false);
            }
        }
        self.output.flush()
    }

    /// Shows a frame; false if nobody reads the output any more.
    fn show(&mut self, frame: &TracedFrame) -> Result<bool, Failure> {
        self.shown += 1;
        let line = Line::of(frame, self.offset, self.names.fate(frame, &self.maps), &interface);
        let goes_on = self.output.write(frame, &line, self.shown)?;
        // A count may end the trace with this frame.
        Ok(self.output.flush()? && goes_on)
    }

    /// Follows the interfaces and the configuration; false if nothing is traced any more.
    fn look(&mut self, program: &mut TracedProgram) -> Result<bool, Failure> {
        if program.follow().map_err(Failure::Trace)?.is_empty() {
            return Ok(false);
        }
        // After a takedown the next look sees no link.
        let Ok((inventory, maps)) = opened(self.dirs) else { return Ok(true) };
        if inventory.generation != self.generation {
            self.names = Names::of(&inventory);
            self.maps = maps;
            self.generation = inventory.generation;
            let filter = wanted(self.args).filter(&inventory).map_err(|error| named(error, self.dirs))?;
            program.set_filter(&filter).map_err(Failure::Trace)?;
        }
        Ok(true)
    }
}

/// Waits for a signal; for ever if it can't be waited for.
async fn received(signal: &mut io::Result<tokio::signal::unix::Signal>) {
    match signal {
        Ok(signal) => drop(signal.recv().await),
        Err(_) => std::future::pending().await,
    }
}

/// The name of an interface, or its index if it has gone.
fn interface(index: u32) -> String {
    net::name_of(index).ok().flatten().unwrap_or_else(|| format!("number {index}"))
}

fn summary(shown: u64, TraceCounts { looked, skipped, lost }: TraceCounts) -> String {
    use std::fmt::Write as _;

    let mut text = format!("edge-ctl: {shown} frames of {looked} packets that were looked at");
    if skipped > 0 {
        let _ = write!(text, "; some {skipped} were not: too many in a moment (--rate, --sample)");
    }
    if lost > 0 {
        let _ = write!(text, "; {lost} frames were lost, since they were not read in time");
    }
    text
}

/// Where frames are shown.
enum Output {
    Text,
    Json,
    File { path: PathBuf, capture: Pcapng<BufWriter<std::fs::File>> },
}

impl Output {
    fn open(args: &TraceArgs) -> Result<Self, Failure> {
        let Some(path) = args.write.clone() else { return Ok(if args.json { Self::Json } else { Self::Text }) };
        let unwritten = |source| Failure::Unwritten { file: path.clone(), source };
        let file = OpenOptions::new().write(true).create_new(true).open(&path).map_err(unwritten)?;
        let mut capture =
            Pcapng::begin(BufWriter::new(file), u32::try_from(TRACED_BYTES).unwrap_or(u32::MAX)).map_err(unwritten)?;
        capture.flush().map_err(unwritten)?;
        Ok(Self::File { path, capture })
    }

    /// Writes a frame; false if nobody reads the output any more.
    fn write(&mut self, frame: &TracedFrame, line: &Line, number: u64) -> Result<bool, Failure> {
        match self {
            Self::Text => Ok(writeln!(io::stdout(), "{line}").is_ok()),
            Self::Json => Ok(writeln!(io::stdout(), "{}", to_json(line, false)).is_ok()),
            Self::File { path, capture } => {
                let written = capture_frame(capture, frame, line, number);
                written.map(|()| true).map_err(|source| Failure::Unwritten { file: path.clone(), source })
            }
        }
    }

    fn flush(&mut self) -> Result<bool, Failure> {
        match self {
            Self::Text | Self::Json => Ok(io::stdout().flush().is_ok()),
            Self::File { path, capture } => match capture.flush() {
                Ok(()) => Ok(true),
                Err(source) => Err(Failure::Unwritten { file: path.clone(), source }),
            },
        }
    }
}

/// Writes a frame as it came, and as it left if it was sent.
fn capture_frame(
    capture: &mut Pcapng<impl io::Write>,
    frame: &TracedFrame,
    line: &Line,
    number: u64,
) -> io::Result<()> {
    let comment = line.comment();
    let came = Captured {
        interface: &line.interface,
        direction: Direction::In,
        time_ns: line.time_ns,
        bytes: line::kept(&frame.before, frame.length_before),
        length: frame.length_before,
        number,
        verdict: Some(line.action()),
        comment: &comment,
    };
    capture.write(&came)?;
    if !trace::is_sent(frame) {
        return Ok(());
    }
    let left = Captured {
        interface: line.egress.as_deref().unwrap_or(&line.interface),
        direction: Direction::Out,
        bytes: line::kept(&frame.after, frame.length_after),
        length: frame.length_after,
        verdict: None,
        ..came
    };
    capture.write(&left)
}
