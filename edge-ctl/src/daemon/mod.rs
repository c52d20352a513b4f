//! The daemon: one loop that takes probe results, network events and the operator's word to the kernel.
