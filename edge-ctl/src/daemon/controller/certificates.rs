//! Events and status of backends' certificates.

use edge_common::abi::BackendNumber;

use super::Controller;
use crate::control::{
    data_plane::DataPlane,
    events::EventKind,
    status::{CertificateState, CertificateStatus, Status},
};

impl<P: DataPlane> Controller<P> {
    /// Reports the changes of certificates' states; `now` is in seconds since 1970.
    pub(crate) fn look_at_certificates(&mut self, now: i64) {
        let Self { certificates, inventory, judgement, .. } = self;
        let changes = certificates.look(now, |backend| judgement.warn_days(inventory, backend));
        for (backend, status) in changes {
            let Some(name) = self.inventory.name(backend) else { continue };
            let kind = match status.state {
                CertificateState::Valid => EventKind::CertificateValid,
                CertificateState::ExpiresSoon | CertificateState::Expired => EventKind::CertificateExpires,
            };
            let until = std::time::UNIX_EPOCH + std::time::Duration::from_millis(status.until);
            self.events.report(kind, &name, format!("{status}: until {}", humantime::format_rfc3339_seconds(until)));
        }
    }

    /// Adds the certificates' states to a status, as of the status's own time.
    pub(crate) fn show_certificates(&self, status: &mut Status) {
        let now = i64::try_from(status.at / 1000).unwrap_or(i64::MAX);
        for (pool, numbers) in status.pools.iter_mut().zip(&self.inventory.backends) {
            for (backend, number) in pool.backends.iter_mut().zip(numbers) {
                backend.certificate = self.certificate(*number, now);
            }
        }
    }

    fn certificate(&self, backend: BackendNumber, now: i64) -> Option<CertificateStatus> {
        let warn_days = self.judgement.warn_days(&self.inventory, backend)?;
        self.certificates.status(backend, now, warn_days)
    }
}
