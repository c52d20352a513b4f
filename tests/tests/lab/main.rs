//! Labs of network namespaces with real traffic: what users are promised, seen.

mod change;
mod decap;
mod decap_mss;
mod decap_watch;
mod fabric;
mod faults;
mod flows;
mod generic;
mod http;
mod judging;
mod kernels;
mod links;
mod liveness;
mod path_mtu;
mod preflight;
mod probe_kinds;
mod dns;
mod probe_programs;
mod certificates;
mod probes;
mod reach;
mod rehearsal;
mod segment;
mod status;
mod upgrade;
mod vip_other;
