//! Tables and JSON from serialised records.
