//! Code that `cargo xtask` shares with its tasks in `edge-tasks`: cargo, packages, set-up, builds, and results of
//! tests.

pub mod cargo;
pub mod step;
pub mod packages;
pub mod unpacked;
pub mod ebpf_toolchain;
mod linker;
mod nginx;
mod dnsmasq;
mod prometheus;
mod traced;
mod tshark;
pub mod setup;
pub mod build;
pub mod counts;
pub mod tasks;
