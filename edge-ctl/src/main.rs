//! `edge-ctl`: the controller and its command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    edge_ctl::main()
}
