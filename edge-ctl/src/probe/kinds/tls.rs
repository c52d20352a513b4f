//! A TLS handshake: names, certificates, and session resumption to make the next handshake cheap.

use std::{
    io,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rustls::{
    ClientConfig, RootCertStore,
    client::{Resumption, WebPkiServerVerifier, danger::ServerCertVerifier},
    crypto::ring,
    pki_types::ServerName,
};
use tokio::time::Instant;
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{
    super::{
        classify::{Stage, classify},
        dial::{Connection, Dial},
    },
    roots::Roots,
    verify::{Noted, Noting, Unchecked},
};
use crate::{config::TlsProbe, health::Verdict};

/// Number of sessions kept per backend: that of the last look, and of the looks that overlap with it.
const SESSIONS: usize = 8;

/// Lifetime of sessions: a server that resumes a session shows no certificate, and its present one may no longer be
/// valid.
const RESUMED_FOR: Duration = Duration::from_mins(10);

/// Checks that a TLS handshake succeeds.
pub(super) async fn look(dial: &Dial<'_>, handshake: Option<&Handshake>) -> Result<(), Verdict> {
    match handshake {
        Some(handshake) => handshake.shake(dial).await.map(drop),
        None => Err(Verdict::Inconclusive("there is no TLS configuration".to_owned())),
    }
}

/// The present configuration of handshakes.
#[derive(Debug)]
struct Known {
    /// When its sessions began.
    since: Instant,
    /// The reading of the authorities' files that it is of.
    reading: u64,
    /// `None` if certificates are not checked.
    roots: Option<Arc<RootCertStore>>,
    config: Arc<ClientConfig>,
}

/// TLS handshakes with one backend.
#[derive(Debug)]
pub(super) struct Handshake {
    tls: TlsProbe,
    name: ServerName<'static>,
    roots: Arc<Roots>,
    /// Made at the first look, since it reads a file.
    config: Mutex<Option<Known>>,
    noted: Arc<Noted>,
}

impl Handshake {
    pub(super) fn new(tls: &TlsProbe, host: Option<&str>, address: IpAddr, roots: Arc<Roots>) -> Self {
        // The name without the port, for example of `www.example.org:8443`. Without a name, the certificate must contain
        // the address.
        let host = tls.server_name.as_deref().or(host.map(|host| host.rsplit_once(':').map_or(host, |(host, _)| host)));
        let name = host.and_then(|host| ServerName::try_from(host.to_owned()).ok());
        let name = name.unwrap_or_else(|| ServerName::IpAddress(address.into()));
        Self { tls: tls.clone(), name, roots, config: Mutex::default(), noted: Arc::default() }
    }

    /// End of validity of the last certificate seen, in seconds since 1970; `None` if none was seen.
    pub(super) fn certificate_end(&self) -> Option<i64> {
        self.noted.end()
    }

    /// Connects, and completes the handshake.
    pub(super) async fn shake(&self, dial: &Dial<'_>) -> Result<TlsStream<Connection>, Verdict> {
        let connector = TlsConnector::from(self.config()?);
        let stream = dial.connect().await?;
        connector.connect(self.name.clone(), stream).await.map_err(|error| fault(&error))
    }

    #[cfg(test)]
    pub(super) fn age(&self) {
        let mut known = self.config.lock().unwrap_or_else(PoisonError::into_inner);
        *known = known.take().and_then(|known| Some(Known { since: known.since.checked_sub(RESUMED_FOR)?, ..known }));
    }

    /// The sessions end with their time, or when the authorities are others.
    fn config(&self) -> Result<Arc<ClientConfig>, Verdict> {
        let mut known = self.config.lock().unwrap_or_else(PoisonError::into_inner);
        let reading = self.roots.reading();
        if let Some(known) = known.as_ref().filter(|known| known.reading == reading && !known.is_old()) {
            return Ok(Arc::clone(&known.config));
        }
        let read = || self.roots.read(self.tls.ca.as_deref());
        let roots = self.tls.verify.then(read).transpose().map_err(Verdict::Inconclusive)?;
        if let Some(known) = known.as_mut().filter(|known| known.is_of(roots.as_ref()) && !known.is_old()) {
            known.reading = reading;
            return Ok(Arc::clone(&known.config));
        }
        let mut config = self.make(roots.clone()).map_err(Verdict::Inconclusive)?;
        config.resumption = Resumption::in_memory_sessions(SESSIONS);
        let config = Arc::new(config);
        *known = Some(Known { since: Instant::now(), reading, roots, config: Arc::clone(&config) });
        Ok(config)
    }

    /// Sessions are kept per backend: another server cannot decrypt its tickets, even if it has the same name.
    fn make(&self, roots: Option<Arc<RootCertStore>>) -> Result<ClientConfig, String> {
        let provider = Arc::new(ring::default_provider());
        let verifier: Arc<dyn ServerCertVerifier> = if let Some(roots) = roots {
            let builder = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider));
            builder.build().map_err(|error| format!("no certificate can be checked: {error}"))?
        } else {
            Arc::new(Unchecked(Arc::clone(&provider)))
        };
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let builder = builder.map_err(|error| error.to_string())?;
        let verifier = Arc::new(Noting { verifier, noted: Arc::clone(&self.noted) });
        let mut config = builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth();
        config.alpn_protocols = self.tls.alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        Ok(config)
    }
}

fn fault(error: &io::Error) -> Verdict {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(error) => Verdict::Fail(format!("TLS: {error}")),
        None if error.kind() == io::ErrorKind::UnexpectedEof => {
            Verdict::Fail("closed during the TLS handshake".to_owned())
        }
        None => classify(error, Stage::Network),
    }
}

impl Known {
    fn is_old(&self) -> bool {
        self.since.elapsed() >= RESUMED_FOR
    }

    fn is_of(&self, roots: Option<&Arc<RootCertStore>>) -> bool {
        match (&self.roots, roots) {
            (Some(known), Some(roots)) => Arc::ptr_eq(known, roots),
            (known, roots) => known.is_none() && roots.is_none(),
        }
    }
}
