//! Candidate tables: which backends take the flows of each slot of a pool, best first.
