//! The serialised result of one model on one chip: the only thing a report reads.
