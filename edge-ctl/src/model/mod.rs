//! The model: configuration, health and the operator's word in, the exact content of the maps out. Pure.
