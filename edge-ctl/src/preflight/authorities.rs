//! The files of certificate authorities that probes trust.

use std::{fs, path::Path};

use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, pem::PemObject as _},
};

/// Files of trusted authorities on Debian, Fedora, Alpine and others.
const SYSTEM: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// The file of authorities, by default the one of this host, and its content.
///
/// # Errors
/// If there is none, or it can't be read.
pub(crate) fn text_of_authorities(file: Option<&Path>) -> Result<(&Path, Vec<u8>), String> {
    let file = match file {
        Some(file) => file,
        None => SYSTEM.iter().map(Path::new).find(|file| file.exists()).ok_or_else(|| {
            "this host has no list of certificate authorities: install ca-certificates, or set ca or verify = false"
                .to_owned()
        })?,
    };
    let text = fs::read(file).map_err(|error| format!("{}: {error}", file.display()))?;
    Ok((file, text))
}

/// The authorities in the content of a file.
///
/// # Errors
/// If it has none.
pub(crate) fn authorities(path: &Path, text: &[u8]) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    // A system's list may have certificates that can't be parsed; they are left out.
    roots.add_parsable_certificates(CertificateDer::pem_slice_iter(text).flatten());
    if roots.is_empty() { Err(format!("{} has no certificate in it", path.display())) } else { Ok(roots) }
}
