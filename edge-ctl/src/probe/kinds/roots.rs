//! The certificate authorities that a probe trusts: those of this host, or those of a file.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use rustls::RootCertStore;

use crate::preflight::{authorities, text_of_authorities};

/// The authorities of this host and of other files, each read once until all are to be read again.
#[derive(Debug, Default)]
pub(in crate::probe) struct Roots {
    reading: AtomicU64,
    files: Mutex<BTreeMap<Option<PathBuf>, File>>,
}

#[derive(Debug)]
struct File {
    /// When it was last read.
    reading: u64,
    text: Vec<u8>,
    roots: Arc<RootCertStore>,
}

impl Roots {
    /// Has each file read again when it is next needed.
    pub(in crate::probe) fn read_again(&self) {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.reading.fetch_add(1, Ordering::Relaxed);
        // The others are used no longer.
        files.retain(|_, file| file.reading == before);
    }

    /// Number of the present reading.
    pub(super) fn reading(&self) -> u64 {
        self.reading.load(Ordering::Relaxed)
    }

    /// The authorities of a file, or of this host. They are the same object as long as the file has the same content.
    ///
    /// # Errors
    /// If the file can't be read, or has no certificate in it.
    pub(super) fn read(&self, file: Option<&Path>) -> Result<Arc<RootCertStore>, String> {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        let (reading, key) = (self.reading(), file.map(Path::to_owned));
        if let Some(known) = files.get(&key).filter(|known| known.reading == reading) {
            return Ok(Arc::clone(&known.roots));
        }
        let (path, text) = text_of_authorities(file)?;
        if let Some(known) = files.get_mut(&key).filter(|known| known.text == text) {
            known.reading = reading;
            return Ok(Arc::clone(&known.roots));
        }
        let roots = Arc::new(authorities(path, &text)?);
        files.insert(key, File { reading, text, roots: Arc::clone(&roots) });
        Ok(roots)
    }
}
