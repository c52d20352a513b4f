//! Validity of backends' certificates, as last seen by their probes. Pure.
//!
//! Reports once when a certificate has few days left, once when it has expired, and once when it is valid again. A
//! backend that has shown no certificate is not reported.

#![deny(clippy::disallowed_methods)]

use std::collections::BTreeMap;

use edge_common::abi::BackendNumber;

use crate::control::status::{CertificateState, CertificateStatus};

const DAY: i64 = 86_400;

#[derive(Clone, Debug, Default)]
pub(super) struct Certificates(BTreeMap<BackendNumber, Certificate>);

#[derive(Clone, Copy, Debug)]
struct Certificate {
    /// Seconds since 1970.
    end: i64,
    reported: CertificateState,
}

impl Certificates {
    /// Notes that a backend has shown a certificate that is valid until `end`.
    pub(super) fn note(&mut self, backend: BackendNumber, end: i64) {
        let known = self.0.entry(backend).or_insert(Certificate { end, reported: CertificateState::Valid });
        known.end = end;
    }

    /// The changes since the last look. `now` is in seconds since 1970, and `warn_days` returns the days of a backend's
    /// probe. Backends without such a probe are forgotten.
    pub(super) fn look(
        &mut self,
        now: i64,
        warn_days: impl Fn(BackendNumber) -> Option<u16>,
    ) -> Vec<(BackendNumber, CertificateStatus)> {
        let mut changes = Vec::new();
        self.0.retain(|backend, certificate| {
            let Some(warn_days) = warn_days(*backend) else { return false };
            let status = status(certificate.end, now, warn_days);
            if std::mem::replace(&mut certificate.reported, status.state) != status.state {
                changes.push((*backend, status));
            }
            true
        });
        changes
    }

    /// The state of a backend's certificate; `None` if the backend has shown none.
    pub(super) fn status(&self, backend: BackendNumber, now: i64, warn_days: u16) -> Option<CertificateStatus> {
        self.0.get(&backend).map(|certificate| status(certificate.end, now, warn_days))
    }
}

fn status(end: i64, now: i64, warn_days: u16) -> CertificateStatus {
    let days = (end - now).div_euclid(DAY);
    let state = if now > end {
        CertificateState::Expired
    } else if days < warn_days.into() {
        CertificateState::ExpiresSoon
    } else {
        CertificateState::Valid
    };
    CertificateStatus { until: u64::try_from(end).unwrap_or(0).saturating_mul(1000), days, state }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: BackendNumber = 1;
    const NOW: i64 = 1_800_000_000;

    /// Changes of the only backend's state at `now`.
    fn look(certificates: &mut Certificates, now: i64) -> Vec<CertificateState> {
        certificates.look(now, |_| Some(14)).into_iter().map(|(_, status)| status.state).collect()
    }

    #[test]
    fn each_change_is_reported_once() {
        let mut certificates = Certificates::default();
        certificates.note(ONE, NOW + 20 * DAY);
        assert_eq!(look(&mut certificates, NOW), []);
        // Exactly fourteen days are left.
        assert_eq!(look(&mut certificates, NOW + 6 * DAY), []);
        assert_eq!(look(&mut certificates, NOW + 6 * DAY + 1), [CertificateState::ExpiresSoon]);
        certificates.note(ONE, NOW + 20 * DAY);
        assert_eq!(look(&mut certificates, NOW + 19 * DAY), [], "that the days are fewer is no news");
        assert_eq!(look(&mut certificates, NOW + 20 * DAY), []);
        assert_eq!(look(&mut certificates, NOW + 20 * DAY + 1), [CertificateState::Expired]);
        assert_eq!(look(&mut certificates, NOW + 30 * DAY), []);
        certificates.note(ONE, NOW + 90 * DAY);
        assert_eq!(look(&mut certificates, NOW + 30 * DAY), [CertificateState::Valid]);
    }

    #[test]
    fn an_expired_one_is_reported_at_its_first_sight() {
        let mut certificates = Certificates::default();
        certificates.note(ONE, NOW - 3 * DAY);
        assert_eq!(look(&mut certificates, NOW), [CertificateState::Expired]);
        let status = certificates.status(ONE, NOW, 14).expect("it was seen");
        assert_eq!((status.days, status.until), (-3, u64::try_from(NOW - 3 * DAY).unwrap_or(0) * 1000));
    }

    #[test]
    fn backends_without_a_certificate_have_none_and_other_probes_remove_it() {
        let mut certificates = Certificates::default();
        assert_eq!(certificates.status(ONE, NOW, 14), None);
        certificates.note(ONE, NOW - DAY);
        assert!(certificates.look(NOW, |_| None).is_empty());
        assert_eq!(certificates.status(ONE, NOW, 14), None);
    }

    #[test]
    fn other_days_are_another_judgement() {
        let mut certificates = Certificates::default();
        certificates.note(ONE, NOW + 20 * DAY);
        assert_eq!(certificates.look(NOW, |_| Some(30)).len(), 1);
        assert_eq!(look(&mut certificates, NOW), [CertificateState::Valid]);
        certificates.note(ONE, NOW + DAY / 2);
        assert!(certificates.look(NOW, |_| Some(0)).is_empty(), "no warning is wanted");
    }
}
