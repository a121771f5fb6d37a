//! The contract of a target: support, legalise, compile, open, run.
