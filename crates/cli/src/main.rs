//! The `anychip` command.

fn main() {}
