//! What a choice among records found of one of them: kept, or lost and why.

use serde::{Deserialize, Serialize};

/// How a record came out of a choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// No other one is better under the limits.
    Front,
    /// One that was kept is better at something and worse at nothing.
    Dominated,
    /// It breaks a limit.
    OverLimit,
    /// A figure that a limit is about is not known.
    Unknown,
    /// It cannot run the model as it is; `why_not` of the record says why.
    CannotRun,
}

/// What a choice found of a record, in words for people; the figures are the record's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Verdict {
    /// How it came out.
    pub standing: Standing,
    /// It is the best for the goal, or cannot be told from it.
    pub best: bool,
    /// Limits that it meets by its value and breaks at an end of its interval: `power 15.0 [7.50–25.0] W`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub may_break: Vec<String>,
    /// Why it lost, in words that others which lost for the same share; empty where it was kept.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// By how much and in which figures; empty where the reason says it all.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
}

impl Verdict {
    /// A verdict with nothing but how it came out.
    pub fn new(standing: Standing) -> Self {
        Self {
            standing,
            best: false,
            may_break: Vec::new(),
            reason: String::new(),
            detail: String::new(),
        }
    }

    /// As lost, for a reason and in detail.
    pub fn lost(standing: Standing, reason: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { reason: reason.into(), detail: detail.into(), ..Self::new(standing) }
    }
}
