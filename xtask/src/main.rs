//! Tasks of the project itself: `cargo xtask help` lists them.

fn main() {}
