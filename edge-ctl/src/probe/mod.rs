//! Probes: asking backends how they are, at a constant rate.
