//! The engine under a load, and what it made of it.

use std::{
    fmt::{self, Write as _},
    time::{Duration, Instant},
};

use edge_ctl::bench::{Config, Probes};
use nix::time::{ClockId, clock_gettime};
use tokio::time::timeout_at;

use crate::server::{HTTP, HTTPS, PEM, TCP};

/// Samples in a measurement; odd.
const SLICES: usize = 5;

/// Backends in a pool: a service has eight pools, and a backend 100 slots.
const POOL: u32 = 1250;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProbeType {
    Tcp,
    Http,
    Https,
}

/// Backends that are each probed once in an interval, which is also how long they may take to answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) kind: ProbeType,
    /// Up to 10,000.
    pub(crate) backends: u32,
    pub(crate) interval: Duration,
}

/// A sample for each slice of the time.
#[derive(Debug, Default)]
pub(crate) struct Measured {
    /// Probes a second.
    pub(crate) rate: Vec<f64>,
    /// Seconds of processor time a second, the kernel's part in this process included.
    pub(crate) processor: Vec<f64>,
    probes: u32,
    passed: u32,
    seconds: f64,
    /// Why the first one that did not pass did not.
    fault: Option<String>,
}

impl Load {
    /// Runs the engine, as the daemon does, and looks at it for some slices of time after its first interval, when it calls
    /// `begin`.
    pub(crate) fn measure(self, slice: Duration, begin: impl FnOnce()) -> Measured {
        let config = Config::parse(&self.text().expect("a string takes everything")).expect("a good configuration");
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let mut probes = Probes::start(&config);
            let mut measured = Measured::default();
            count(&mut probes, self.interval, &mut Measured::default()).await;
            begin();
            for _ in 0..SLICES {
                let (start, used, before) = (Instant::now(), processor_seconds(), measured.probes);
                count(&mut probes, slice, &mut measured).await;
                let seconds = start.elapsed().as_secs_f64();
                measured.rate.push(f64::from(measured.probes - before) / seconds);
                measured.processor.push((processor_seconds() - used) / seconds);
                measured.seconds += seconds;
            }
            measured
        })
    }

    /// A configuration with this load in it. All of 10.1.0.0/16 leads to the server.
    fn text(self) -> Result<String, fmt::Error> {
        let probe = match self.kind {
            ProbeType::Tcp => format!("type = \"tcp\", port = {TCP}"),
            ProbeType::Http => format!("type = \"http\", port = {HTTP}, path = \"/healthz\""),
            ProbeType::Https => {
                format!("type = \"https\", port = {HTTPS}, host = \"www.example.org\", ca = \"{PEM}/ca.pem\"")
            }
        };
        let interval = self.interval.as_millis();
        let pools = 0..self.backends.div_ceil(POOL);
        let names: Vec<_> = pools.clone().map(|pool| format!("\"pool-{pool}\"")).collect();
        let mut text = format!(
            "hash_key = \"000102030405060708090a0b0c0d0e0f\"\nslots = 131072\n\
             [[interface]]\nname = \"lo\"\n\
             [[service]]\nname = \"web\"\nvips = [\"192.0.2.1\"]\nports = [\"80/tcp\"]\nmode = \"dsr\"\n\
             pools = [{}]\n",
            names.join(", ")
        );
        for (pool, name) in pools.zip(names) {
            writeln!(text, "[[pool]]\nname = {name}\nprobe = {{ {probe}, jitter = 0.0,")?;
            writeln!(
                text,
                "interval = \"{interval}ms\", fast_interval = \"{interval}ms\", timeout = \"{interval}ms\" }}\nbackend = ["
            )?;
            for n in (pool * POOL..self.backends).take(POOL as usize) {
                writeln!(text, "{{ name = \"b{n}\", address = \"10.1.{}.{}\" }},", n / 250, n % 250 + 1)?;
            }
            writeln!(text, "]")?;
        }
        Ok(text)
    }

    fn wanted_rate(self) -> f64 {
        f64::from(self.backends) / self.interval.as_secs_f64()
    }
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            ProbeType::Tcp => "TCP",
            ProbeType::Http => "HTTP",
            ProbeType::Https => "HTTPS",
        };
        let thousands = match (self.backends / 1000, self.backends % 1000) {
            (0, rest) => rest.to_string(),
            (thousands, rest) => format!("{thousands},{rest:03}"),
        };
        write!(f, "{kind}, {thousands} backends, every {} ms", self.interval.as_millis())
    }
}

impl Measured {
    /// Whether probes were made at the wanted rate, and (almost) all passed.
    pub(crate) fn is_sustained(&self, load: Load) -> bool {
        // A probe that starts late makes all that follow it late: the timer alone, which counts milliseconds, costs 1 %.
        f64::from(self.probes) > 0.9 * load.wanted_rate() * self.seconds && self.passed * 1000 >= self.probes * 999
    }
}

/// Counts what is reported within `time`.
async fn count(probes: &mut Probes, time: Duration, measured: &mut Measured) {
    let end = tokio::time::Instant::now() + time;
    while let Ok(verdict) = timeout_at(end, probes.next()).await {
        measured.probes += 1;
        match verdict {
            Ok(()) => measured.passed += 1,
            Err(why) => measured.fault = measured.fault.take().or_else(|| Some(why.to_string())),
        }
    }
}

/// Processor time that this process has used.
fn processor_seconds() -> f64 {
    Duration::from(clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).expect("Linux has this clock")).as_secs_f64()
}
