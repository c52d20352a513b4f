//! One traced frame in a line: the time, the frame, why it went where, and how it left.

use std::{
    fmt,
    time::{Duration, UNIX_EPOCH},
};

use edge_common::abi::{Exit, TracedFrame, Verdict};
use serde::Serialize;

use super::headers::Headers;
use crate::control::trace::{Fate, is_sent};

/// A frame and its fate in words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Line {
    /// Since 1970, nanoseconds.
    pub(super) time_ns: u64,
    pub(super) interface: String,
    /// `None` if the frame ends in its link layer.
    pub(super) before: Option<Headers>,
    #[serde(flatten)]
    pub(super) fate: Fate,
    /// The interface that the frame left by.
    pub(super) egress: Option<String>,
    /// The headers of a frame that was sent.
    pub(super) after: Option<Headers>,
    /// Bytes of the frame.
    pub(super) length_before: u32,
    pub(super) length_after: u32,
}

/// The part of a frame that was kept.
pub(super) fn kept(bytes: &[u8], length: u32) -> &[u8] {
    bytes.get(..length as usize).unwrap_or(bytes)
}

impl Line {
    /// `offset` is the time from 1970 to the beginning of the clock of traces; `name` gives the name of an interface.
    pub(super) fn of(frame: &TracedFrame, offset: Duration, fate: Fate, name: &dyn Fn(u32) -> String) -> Self {
        let time = offset + Duration::from_nanos(frame.time_ns);
        let verdict = Exit::from_raw(frame.exit).verdict();
        let egress = match verdict {
            Verdict::Redirect => Some(name(frame.egress)),
            Verdict::Tx => Some(name(frame.ingress)),
            Verdict::Pass | Verdict::Drop => None,
        };
        let after = || Headers::read(kept(&frame.after, frame.length_after));
        Self {
            time_ns: u64::try_from(time.as_nanos()).unwrap_or(u64::MAX),
            interface: name(frame.ingress),
            before: Headers::read(kept(&frame.before, frame.length_before)),
            fate,
            egress,
            after: is_sent(frame).then(after).flatten(),
            length_before: frame.length_before,
            length_after: frame.length_after,
        }
    }

    /// The packet path's verdict, `enum xdp_action`.
    pub(super) fn action(&self) -> u64 {
        match (self.fate.verdict, &self.egress) {
            ("dropped", _) => 1,
            ("passed", _) => 2,
            (_, Some(egress)) if *egress == self.interface => 3,
            _ => 4,
        }
    }

    /// The fate as the comment of a packet in a capture.
    pub(super) fn comment(&self) -> String {
        format!("{}{}", Why(&self.fate), Out(self))
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = humantime::format_rfc3339_micros(UNIX_EPOCH + Duration::from_nanos(self.time_ns)).to_string();
        // The time of day, UTC.
        let time = time.get(11..26).unwrap_or(&time);
        write!(f, "{time} {} ", self.interface)?;
        match &self.before {
            Some(headers) => write!(f, "{headers}")?,
            None => f.write_str("no whole link layer")?,
        }
        write!(f, ": {}{}", Why(&self.fate), Out(self))
    }
}

/// Why a packet went where it went.
struct Why<'a>(&'a Fate);

impl fmt::Display for Why<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Fate {
            service, slot, owner, in_transition, looked_up, record, record_changed, starts_flow, backend, ..
        } = self.0;
        let Some(service) = service else { return Ok(()) };
        write!(f, "{service}")?;
        if let Some(slot) = slot {
            write!(f, " slot {slot}")?;
        }
        if let Some(owner) = owner {
            write!(f, " owner {owner}")?;
        }
        if *in_transition {
            f.write_str(" in transition")?;
        }
        match record {
            Some(record) => write!(f, " record {record}")?,
            None if *looked_up => f.write_str(" no record")?,
            None => {}
        }
        if *record_changed {
            f.write_str(" record changed")?;
        }
        if *starts_flow {
            f.write_str(" new flow")?;
        }
        match backend {
            Some(backend) => write!(f, " backend {backend} "),
            None => f.write_str(" no backend "),
        }
    }
}

/// How a frame left.
struct Out<'a>(&'a Line);

impl fmt::Display for Out<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Line { fate, egress, before, after, length_before, length_after, .. } = self.0;
        write!(f, "{} ({})", fate.exit, fate.verdict)?;
        let (Some(egress), Some(after)) = (egress, after) else { return Ok(()) };
        write!(f, " by {egress} to {}", after.station)?;
        if before.as_ref().is_none_or(|before| before.network != after.network || before.vlans != after.vlans) {
            write!(f, " as {after}")?;
        }
        if length_before != length_after {
            write!(f, ", {length_before} to {length_after} bytes")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use bytemuck::Zeroable as _;

    use super::*;

    fn fate(exit: Exit) -> Fate {
        Fate {
            service: Some("web".to_owned()),
            slot: Some(17),
            owner: Some("provider-a/a1".to_owned()),
            in_transition: false,
            looked_up: false,
            record: None,
            record_changed: false,
            starts_flow: true,
            backend: Some("provider-a/a1".to_owned()),
            exit: exit.name(),
            verdict: match exit.verdict() {
                Verdict::Pass => "passed",
                Verdict::Drop => "dropped",
                Verdict::Tx | Verdict::Redirect => "sent",
            },
        }
    }

    /// A frame with a TCP SYN.
    fn frame(exit: Exit) -> TracedFrame {
        let mut frame = TracedFrame::zeroed();
        (frame.exit, frame.ingress, frame.egress, frame.time_ns) = (exit as u32, 1, 2, 1_000_001_000);
        (frame.length_before, frame.length_after) = (60, 60);
        let bytes = [
            2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45, 0, 0, 46, 0, 0, 0, 0, 64, 6, 0, 0, 203, 0, 113, 7, 192, 0,
            2, 10, 0xc0, 0, 1, 187, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, 2,
        ];
        frame.before[..bytes.len()].copy_from_slice(&bytes);
        frame.after = frame.before;
        frame.after[5] = 9;
        frame
    }

    fn lines() -> Vec<Line> {
        let name = |index: u32| format!("eth{index}");
        let line = |exit, fate| Line::of(&frame(exit), Duration::from_hours(500_000), fate, &name);
        let in_transition = Fate {
            in_transition: true,
            looked_up: true,
            record: Some("provider-b/b1".to_owned()),
            record_changed: true,
            starts_flow: false,
            backend: Some("provider-b/b1".to_owned()),
            ..fate(Exit::DsrTx)
        };
        let unserved = Fate { service: None, slot: None, owner: None, backend: None, ..fate(Exit::NotOurs) };
        let exhausted = Fate { owner: None, looked_up: true, backend: None, ..fate(Exit::Exhausted) };
        vec![
            line(Exit::DsrRedirect, fate(Exit::DsrRedirect)),
            line(Exit::DsrTx, in_transition),
            line(Exit::NotOurs, unserved),
            line(Exit::Exhausted, exhausted),
        ]
    }

    #[test]
    fn a_frame_is_one_line() {
        let text: Vec<_> = lines().iter().map(ToString::to_string).collect();
        insta::assert_snapshot!(text.join("\n"), @r"
        08:00:01.000001 eth1 tcp [S] 203.0.113.7:49152 > 192.0.2.10:443: web slot 17 owner provider-a/a1 new flow backend provider-a/a1 dsr_redirect (sent) by eth2 to 02:00:00:00:00:09
        08:00:01.000001 eth1 tcp [S] 203.0.113.7:49152 > 192.0.2.10:443: web slot 17 owner provider-a/a1 in transition record provider-b/b1 record changed backend provider-b/b1 dsr_tx (sent) by eth1 to 02:00:00:00:00:09
        08:00:01.000001 eth1 tcp [S] 203.0.113.7:49152 > 192.0.2.10:443: not_ours (passed)
        08:00:01.000001 eth1 tcp [S] 203.0.113.7:49152 > 192.0.2.10:443: web slot 17 no record new flow no backend exhausted (dropped)
        ");
    }

    #[test]
    fn json_is_stable() {
        insta::assert_snapshot!(serde_json::to_string_pretty(&lines()[1]).expect("names are strings"), @r#"
        {
          "time_ns": 1800000001000001000,
          "interface": "eth1",
          "before": {
            "station": "02:00:00:00:00:01",
            "source": "203.0.113.7",
            "destination": "192.0.2.10",
            "protocol": "tcp",
            "ports": [
              49152,
              443
            ],
            "flags": "S"
          },
          "service": "web",
          "slot": 17,
          "owner": "provider-a/a1",
          "in_transition": true,
          "looked_up": true,
          "record": "provider-b/b1",
          "record_changed": true,
          "starts_flow": false,
          "backend": "provider-b/b1",
          "exit": "dsr_tx",
          "verdict": "sent",
          "egress": "eth1",
          "after": {
            "station": "02:00:00:00:00:09",
            "source": "203.0.113.7",
            "destination": "192.0.2.10",
            "protocol": "tcp",
            "ports": [
              49152,
              443
            ],
            "flags": "S"
          },
          "length_before": 60,
          "length_after": 60
        }
        "#);
    }

    #[test]
    fn verdicts_are_the_kernels() {
        assert_eq!(lines().iter().map(Line::action).collect::<Vec<_>>(), [4, 3, 2, 1]);
    }
}
