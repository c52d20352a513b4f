//! The kinds of probes, one file each: the packets sent to a backend, and the expected answer.

mod tcp;
mod http;
mod version;
mod http1;
mod http2;
mod roots;
mod tls;
mod verify;
mod expiry;
mod udp;
mod icmp;
mod dns;
mod command;
mod grpc;

use std::{net::IpAddr, sync::Arc};

pub(super) use self::roots::Roots;
use self::{http::Get, tls::Handshake};
use super::dial::Dial;
use crate::{
    config::{Probe, ProbeKind},
    health::Verdict,
};

/// The probe of one address, prepared for repeated use.
#[derive(Debug)]
pub(super) struct PreparedProbe {
    how: Probe,
    /// For kinds with TLS: the handshake, with the sessions of this backend.
    handshake: Option<Handshake>,
    /// For kinds with an expected body: its pattern.
    pattern: Option<regex::bytes::Regex>,
}

impl PreparedProbe {
    pub(super) fn new(address: IpAddr, how: Probe, roots: Arc<Roots>) -> Self {
        let handshake = how.kind.tls().map(|tls| Handshake::new(tls, how.kind.host(), address, roots));
        // The configuration rejects invalid patterns; if one gets here, it is ignored.
        let pattern = how.kind.body().and_then(|body| regex::bytes::Regex::new(&body.pattern()).ok());
        Self { how, handshake, pattern }
    }

    pub(super) fn how(&self) -> &Probe {
        &self.how
    }

    /// Maximum number of file descriptors of a look.
    pub(super) fn descriptors(&self) -> u32 {
        if matches!(self.how.kind, ProbeKind::Command { .. }) { command::DESCRIPTORS } else { 1 }
    }

    /// End of validity of the backend's certificate, in seconds since 1970; `None` if no certificate was seen.
    pub(super) fn certificate_end(&self) -> Option<i64> {
        self.handshake.as_ref()?.certificate_end()
    }

    /// Discards the sessions, as if they had expired.
    #[cfg(test)]
    pub(super) fn forget_sessions(&self) {
        self.handshake.iter().for_each(Handshake::age);
    }

    /// Whether a backend passes if it does not answer in time.
    pub(super) fn takes_silence(&self) -> bool {
        matches!(self.how.kind, ProbeKind::Udp { expect: None, .. })
    }

    /// Makes one look, without a timeout.
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
