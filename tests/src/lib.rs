//! What packet tests and labs are made of.
