//! Quantities with units, and `Figure`: a value with its interval, basis and source.
