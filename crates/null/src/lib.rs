//! A target that computes nothing: the one to copy when adding a target.
