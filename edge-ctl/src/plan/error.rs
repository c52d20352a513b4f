//! Reasons why a configuration does not fit into the maps, and the remedies.

use thiserror::Error;

/// Why a configuration cannot be published into these maps.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub(crate) enum PlanError {
    #[error(
        "the map {map} has room for {has} {unit}, this configuration needs {needs} (while the previous one is still in \
         use): {wait}a daemon that runs makes larger maps for it: repeat the command, or write it into the daemon's own file \
         and run `edge-ctl upgrade`",
        wait = wait(*.retired)
    )]
    Full {
        map: &'static str,
        unit: &'static str,
        has: u32,
        needs: u32,
        /// Removed backends among the needed entries; their numbers are freed in time.
        retired: usize,
    },
    #[error(
        "the services do not fit into the map {map} with this `hash_key`: write larger [limits] destinations into the \
         daemon's own file, then run `edge-ctl upgrade`, which makes larger maps and moves no flow"
    )]
    Index { map: &'static str },
    #[error(
        "[nat] ports are {wanted}, and the entries of running flows are for ports {has}: a running daemon makes new \
         maps, and carries over the flows with ports in the new range"
    )]
    NatPorts { has: String, wanted: String },
    #[error("the snapshot of this configuration cannot be written as JSON")]
    Json(String),
}

impl PlanError {
    /// What does not fit, without the remedies.
    pub(crate) fn fact(&self) -> String {
        let text = self.to_string();
        text.split_once(": ").map_or(text.clone(), |(fact, _)| fact.to_owned())
    }

    /// Adds the number of removed backends, whose numbers will be freed in time.
    pub(super) fn with_retired(self, backends: usize) -> Self {
        match self {
            Self::Full { map, unit, has, needs, .. } => Self::Full { map, unit, has, needs, retired: backends },
            other => other,
        }
    }
}

/// The remedy that costs nothing but time.
fn wait(retired: usize) -> String {
    match retired {
        0 => String::new(),
        1 => "wait until the flows of the backend that was removed have ended (see `edge-ctl status`); or ".to_owned(),
        _ => format!(
            "wait until the flows of the {retired} backends that were removed have ended (see `edge-ctl status`); or "
        ),
    }
}
