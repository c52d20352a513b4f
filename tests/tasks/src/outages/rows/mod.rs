//! All rows of the museum, in the order of the page.

mod clock;
mod configuration;
mod controller;
mod health;
mod host;
mod upgrade;

use super::incident::Incident;

pub(super) fn all() -> Vec<Incident> {
    [configuration::rows(), controller::rows(), upgrade::rows(), health::rows(), host::rows(), clock::rows()].concat()
}
