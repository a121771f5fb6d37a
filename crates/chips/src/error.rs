//! What can be wrong with a chip file or a chip's name.

use std::path::PathBuf;

/// What can be wrong with a chip file or a chip's name.
#[derive(Debug, thiserror::Error)]
pub enum ChipError {
    /// The file cannot be read.
    #[error("cannot read the chip file {}: {error}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// The file is not TOML of this schema; the text names line, column and key.
    #[error("{origin}: {error}{}", helped(help.as_ref()))]
    Parse {
        /// The file.
        origin: String,
        /// What to try, where that is known.
        help: Option<String>,
        /// What the parser said.
        error: Box<toml::de::Error>,
    },
    /// A row that comes with anychip is not of this schema: a fault of ours, which a test finds.
    #[error("{origin}, a row that comes with anychip: {error}")]
    BuiltIn {
        /// The file in `data/`.
        origin: &'static str,
        /// What the parser said.
        error: serde_json::Error,
    },
    /// The file can be read but contradicts itself or lacks evidence; everything found is listed.
    #[error("{origin}: {}", lines(problems))]
    Check {
        /// The file, or the id of a chip made in code.
        origin: String,
        /// All that was found.
        problems: Vec<Problem>,
    },
    /// Two chips answer to one name.
    #[error("two chips are called `{name}`: {}", of_two(holder, other))]
    Duplicate {
        /// The name.
        name: String,
        /// The id of the chip that has it already.
        holder: String,
        /// The id of the chip that claims it.
        other: String,
    },
    /// No chip answers to the name.
    #[error("no chip is called `{name}`{}", close_names(close))]
    Unknown {
        /// The name.
        name: String,
        /// Names that come close.
        close: Vec<String>,
    },
}

/// One thing wrong with one chip.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Which figure or key, as `compute.peaks.f16.dense`.
    pub path: String,
    /// What is wrong.
    pub message: String,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "`{}`: {}", self.path, self.message)
    }
}

fn helped(help: Option<&String>) -> String {
    help.map_or_else(String::new, |help| format!("help: {help}"))
}

fn lines(problems: &[Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n  ")
}

fn of_two(holder: &str, other: &str) -> String {
    if holder == other {
        format!("`{holder}` is in the catalogue already; give the new chip another `id`")
    } else {
        format!("`{holder}` has the name and `{other}` claims it; change an `id` or its `aliases`")
    }
}

fn close_names(close: &[String]) -> String {
    match close {
        [] => "; `anychip chips` lists them".to_owned(),
        names => format!("; close: {}", names.join(", ")),
    }
}
