//! The command line: arguments, requests to the daemon, and what to do without one.
