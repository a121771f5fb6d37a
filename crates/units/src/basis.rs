//! How a number came about: measured, simulated or estimated.

use serde::{Deserialize, Serialize};

/// How a number came about. Ordered from strong to weak, so the basis of a combination is the maximum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Basis {
    /// A clock or meter was read while the real device ran.
    Measured,
    /// A simulator that executed the compiled program counted it.
    Simulated,
    /// Computed from the graph and the catalog.
    Estimated,
}

impl Basis {
    /// All of them, strongest first.
    pub const ALL: [Self; 3] = [Self::Measured, Self::Simulated, Self::Estimated];

    /// The basis of a number made from two others.
    #[must_use]
    pub fn weakest(self, other: Self) -> Self {
        self.max(other)
    }

    /// One narrow character that tells the three apart without color: full, half, empty.
    pub fn mark(self) -> char {
        match self {
            Self::Measured => '●',
            Self::Simulated => '◐',
            Self::Estimated => '○',
        }
    }

    /// The word, as it is serialized.
    pub fn word(self) -> &'static str {
        match self {
            Self::Measured => "measured",
            Self::Simulated => "simulated",
            Self::Estimated => "estimated",
        }
    }
}

impl std::fmt::Display for Basis {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(self.word())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_combination_is_as_weak_as_its_weakest_part() {
        for a in Basis::ALL {
            assert_eq!(a.weakest(Basis::Estimated), Basis::Estimated);
            assert_eq!(a.weakest(Basis::Measured), a);
            for b in Basis::ALL {
                assert_eq!(a.weakest(b), b.weakest(a));
            }
        }
        assert_eq!(Basis::Simulated.weakest(Basis::Measured), Basis::Simulated);
    }
}
