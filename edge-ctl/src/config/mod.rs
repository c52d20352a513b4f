//! The configuration: TOML text in, a value that can't be invalid out.
