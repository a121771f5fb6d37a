//! The library: load, optimise, compile, run, compare.
