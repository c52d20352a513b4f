//! What probes need of this host: files of authorities, programs and users.

use std::{fs, os::unix::fs::MetadataExt as _};

use nix::unistd::User;

use super::authorities::{authorities, text_of_authorities};
use crate::config::{ProbeKind, TlsProbe};

/// A probe that can't be made on this host, and the remedy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unmade {
    pub(super) why: String,
    pub(super) remedy: String,
}

/// Why probes of this kind can't be made on this host; `None` if they can. Blocks.
pub(super) fn unmade(kind: &ProbeKind) -> Option<Unmade> {
    if let ProbeKind::Command { argv, user } = kind {
        return unmade_command(argv.first()?, user);
    }
    let TlsProbe { ca, .. } = kind.tls().filter(|tls| tls.verify)?;
    let read = text_of_authorities(ca.as_deref()).and_then(|(path, text)| authorities(path, &text).map(drop));
    let remedy = "a file of certificates in PEM as `ca`, or verify = false".to_owned();
    read.err().map(|why| Unmade { why, remedy })
}

fn unmade_command(program: &str, user: &str) -> Option<Unmade> {
    let found = match User::from_name(user) {
        Ok(Some(found)) => found,
        Ok(None) => {
            let remedy = format!("useradd --system {user}, or another `user`");
            return Some(Unmade { why: format!("there is no user {user}"), remedy });
        }
        Err(error) => {
            let remedy = "`getent passwd` shows what this host knows of its users".to_owned();
            return Some(Unmade { why: format!("the user {user} can't be looked up: {error}"), remedy });
        }
    };
    let file = match fs::metadata(program) {
        Ok(file) => file,
        Err(error) => {
            let remedy = "the absolute path of a program first in `command`".to_owned();
            return Some(Unmade { why: format!("{program}: {error}"), remedy });
        }
    };
    // Other groups of the user are not known here.
    let right = match (found.uid.as_raw(), found.gid.as_raw()) {
        (0, _) => 0o111,
        (user, _) if user == file.uid() => 0o100,
        (_, group) if group == file.gid() => 0o010,
        _ => 0o011,
    };
    (!file.is_file() || file.mode() & right == 0).then(|| Unmade {
        why: format!("{program} is no program that the user {user} may execute"),
        remedy: format!("chmod a+x {program}, or another `user`"),
    })
}
