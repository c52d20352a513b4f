//! The kinds of probes, one file each: what is sent to a backend, and what has to come back.

mod tcp;
mod http;
mod http1;
mod http2;
mod tls;
mod verify;
mod expiry;
mod udp;
mod icmp;
mod dns;
mod command;
mod grpc;

use std::{net::IpAddr, sync::Arc};

pub(super) use self::tls::Roots;
use self::{http::Get, tls::Handshake};
use super::dial::Dial;
use crate::{
    config::{Probe, ProbeKind},
    health::Verdict,
};

/// The probe of one address, ready to be made again and again.
#[derive(Debug)]
pub(super) struct PreparedProbe {
    how: Probe,
    /// For the kinds that speak TLS: with the sessions of this backend.
    handshake: Option<Handshake>,
    /// For those that look at a body.
    pattern: Option<regex::bytes::Regex>,
}

impl PreparedProbe {
    pub(super) fn new(address: IpAddr, how: Probe, roots: Arc<Roots>) -> Self {
        let handshake = how.kind.tls().map(|tls| Handshake::new(tls, how.kind.host(), address, roots));
        // Configuration lets no other pattern through; one that slips in matches as if there were none.
        let pattern = how.kind.body().and_then(|body| regex::bytes::Regex::new(&body.pattern()).ok());
        Self { how, handshake, pattern }
    }

    pub(super) fn how(&self) -> &Probe {
        &self.how
    }

    /// How many file descriptors a look takes at most.
    pub(super) fn descriptors(&self) -> u32 {
        if matches!(self.how.kind, ProbeKind::Command { .. }) { command::DESCRIPTORS } else { 1 }
    }

    /// Until when the backend's certificate is valid, in seconds since 1970; `None` where none was seen.
    pub(super) fn certificate_end(&self) -> Option<i64> {
        self.handshake.as_ref()?.certificate_end()
    }

    /// As if the time of its sessions were over.
    #[cfg(test)]
    pub(super) fn forget_sessions(&self) {
        self.handshake.iter().for_each(Handshake::age);
    }

    /// Whether a backend that says nothing in time has passed.
    pub(super) fn takes_silence(&self) -> bool {
        matches!(self.how.kind, ProbeKind::Udp { expect: None, .. })
    }

    /// Makes one look, however long that takes.
    pub(super) async fn look(&self, dial: &Dial<'_>) -> Verdict {
        let result = match &self.how.kind {
            ProbeKind::Tcp => tcp::look(dial).await,
            ProbeKind::Http { path, status, host, .. } => {
                let get = Get { dial, path, status, host: host.as_deref(), body: self.pattern.as_ref() };
                get.look(self.handshake.as_ref()).await
            }
            ProbeKind::Tls { .. } => tls::look(dial, self.handshake.as_ref()).await,
            ProbeKind::Icmp => icmp::look(dial).await,
            ProbeKind::Udp { send, expect } => udp::look(dial, send, expect.as_deref()).await,
            ProbeKind::Dns(dns) => dns::look(dial, dns).await,
            ProbeKind::Command { argv, user } => command::look(dial.address, dial.port, argv, user).await,
            ProbeKind::Grpc { service, host, .. } => {
                grpc::look(dial, host.as_deref(), service, self.handshake.as_ref()).await
            }
        };
        result.err().unwrap_or(Verdict::Pass)
    }
}
