//! Health: what a row of probe results says about a backend. Pure; time is an argument.
