//! How busy all else keeps the machine meanwhile.

use std::fs;

/// Clock ticks of all processors since the start of the machine: those in which they did something, and all.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ticks {
    busy: u64,
    all: u64,
}

impl Ticks {
    /// Up to now, without those of processor `own`.
    pub(super) fn of_others(own: usize) -> Option<Self> {
        Some(Self::parse(&fs::read_to_string("/proc/stat").ok()?, own))
    }

    /// From the format of `proc_stat(5)`.
    fn parse(text: &str, own: usize) -> Self {
        let mut ticks = Self { busy: 0, all: 0 };
        for line in text.lines() {
            let mut fields = line.split_ascii_whitespace();
            let number = fields.next().and_then(|name| name.strip_prefix("cpu")?.parse().ok());
            if number.is_none_or(|number: usize| number == own) {
                continue;
            }
            // Of user, nice, system, idle, iowait, irq, softirq, steal; guests' are users' already.
            for (place, ticks_of) in fields.take(8).enumerate() {
                let count = ticks_of.parse().unwrap_or(0);
                ticks.all += count;
                ticks.busy += if matches!(place, 3 | 4) { 0 } else { count };
            }
        }
        ticks
    }

    /// Percent of the time since `start` in which they were busy.
    pub(super) fn busy_since(self, start: Self) -> u64 {
        100 * (self.busy - start.busy) / (self.all - start.all).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_processors_are_counted() {
        let start = "cpu  9 9 9 9 9 9 9 9 0 0\ncpu0 10 0 10 60 20 0 0 0 0 0\ncpu1 1000 0 0 0 0 0 0 0 0 0\nintr 5";
        let end = "cpu  9 9 9 9 9 9 9 9 0 0\ncpu0 15 5 20 100 40 5 5 10 9 9\ncpu1 9000 0 0 0 0 0 0 0 0 0\nintr 5";
        assert_eq!(Ticks::parse(end, 1).busy_since(Ticks::parse(start, 1)), 40);
    }
}
