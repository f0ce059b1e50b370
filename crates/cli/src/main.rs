//! The `hearth` command: arguments, terminal, exit codes.
#![forbid(unsafe_code)]

fn main() {}
