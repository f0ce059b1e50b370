//! Developer commands: `cargo xtask check`, `test`, `peers`, `asan`.

fn main() {}
