//! The one suite every target passes: cases × targets.
