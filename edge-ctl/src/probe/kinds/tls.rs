//! A TLS handshake: names, certificates, and session resumption to make the next handshake cheap.

use std::{
    collections::BTreeMap,
    fs, io,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rustls::{
    ClientConfig, RootCertStore,
    client::{Resumption, WebPkiServerVerifier, danger::ServerCertVerifier},
    crypto::ring,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use tokio::time::Instant;
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{
    super::{
        classify::{Stage, classify},
        dial::{Connection, Dial},
    },
    verify::{Noted, Noting, Unchecked},
};
use crate::{config::TlsProbe, health::Verdict};

/// Files of trusted authorities on Debian, Fedora, Alpine and others.
const SYSTEM: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

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

/// TLS handshakes with one backend.
#[derive(Debug)]
pub(super) struct Handshake {
    tls: TlsProbe,
    name: ServerName<'static>,
    roots: Arc<Roots>,
    /// Made at the first look, since it reads a file; with the time at which its sessions began.
    config: Mutex<Option<(Instant, Arc<ClientConfig>)>>,
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
        *known = known.take().and_then(|(since, config)| Some((since.checked_sub(RESUMED_FOR)?, config)));
    }

    fn config(&self) -> Result<Arc<ClientConfig>, Verdict> {
        let mut known = self.config.lock().unwrap_or_else(PoisonError::into_inner);
        let mut config = match &*known {
            Some((since, config)) if since.elapsed() < RESUMED_FOR => return Ok(Arc::clone(config)),
            Some((_, config)) => ClientConfig::clone(config),
            None => self.make().map_err(Verdict::Inconclusive)?,
        };
        config.resumption = Resumption::in_memory_sessions(SESSIONS);
        let config = Arc::new(config);
        *known = Some((Instant::now(), Arc::clone(&config)));
        Ok(config)
    }

    /// Sessions are kept per backend: another server cannot decrypt its tickets, even if it has the same name.
    fn make(&self) -> Result<ClientConfig, String> {
        let provider = Arc::new(ring::default_provider());
        let verifier: Arc<dyn ServerCertVerifier> = if self.tls.verify {
            let roots = self.roots.read(self.tls.ca.as_deref())?;
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

/// The authorities of this host and of other files, each read once.
#[derive(Debug, Default)]
pub(in crate::probe) struct Roots(Mutex<BTreeMap<Option<PathBuf>, Arc<RootCertStore>>>);

impl Roots {
    fn read(&self, file: Option<&Path>) -> Result<Arc<RootCertStore>, String> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = file.map(Path::to_owned);
        if let Some(roots) = known.get(&key) {
            return Ok(Arc::clone(roots));
        }
        let roots = Arc::new(authorities(file)?);
        known.insert(key, Arc::clone(&roots));
        Ok(roots)
    }
}

fn authorities(file: Option<&Path>) -> Result<RootCertStore, String> {
    let file = match file {
        Some(file) => file,
        None => SYSTEM.iter().map(Path::new).find(|file| file.exists()).ok_or_else(|| {
            "this host has no list of certificate authorities: install ca-certificates, or set ca or verify = false"
                .to_owned()
        })?,
    };
    let shown = file.display();
    let text = fs::read(file).map_err(|error| format!("{shown}: {error}"))?;
    let mut roots = RootCertStore::empty();
    // A system's list may have certificates that can't be parsed; they are left out.
    roots.add_parsable_certificates(CertificateDer::pem_slice_iter(&text).flatten());
    if roots.is_empty() { Err(format!("{shown} has no certificate in it")) } else { Ok(roots) }
}
