//! What can go wrong between a plugin and a result, each with the way out.

use std::path::PathBuf;

/// Why a plugin cannot be used, or a program cannot be compiled or run on it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PjrtError {
    /// The file cannot be read.
    #[error("{path}: the plugin cannot be read: {reason}")]
    Missing {
        /// The file.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// The file is no shared library of this machine, or only part of one.
    #[error("{path}: not a plugin: {reason}\n  help: install the package that it comes from again")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The system's loader refuses it.
    #[error(
        "{path}: the plugin cannot be loaded: {reason}\n  help: a library it needs is missing; the vendor's driver brings it"
    )]
    Load {
        /// The file.
        path: PathBuf,
        /// What the loader said.
        reason: String,
    },
    /// A library that is no PJRT plugin.
    #[error("{path}: a shared library, but no PJRT plugin: it has no `GetPjrtApi`")]
    NotAPlugin {
        /// The file.
        path: PathBuf,
    },
    /// A version of the interface that was never tried.
    #[error(
        "{path}: speaks PJRT {major}.{minor}; known are 0.{least} and newer\n  help: install a newer plugin"
    )]
    Version {
        /// The file.
        path: PathBuf,
        /// Its major version.
        major: i32,
        /// Its minor version.
        minor: i32,
        /// The least minor version that is known.
        least: i32,
    },
    /// The plugin's table ends before a function that is needed, or has a hole there.
    #[error("the plugin has no {function}")]
    NoFunction {
        /// The function's name in the interface.
        function: &'static str,
    },
    /// The plugin itself says no.
    #[error("{function}: {message}")]
    Plugin {
        /// The function that was called.
        function: &'static str,
        /// The code, as `google.rpc.Code` numbers them.
        code: i32,
        /// What the plugin said.
        message: String,
    },
    /// An ordinal beyond the devices that there are.
    #[error("there is no device {ordinal}; the plugin has {count}")]
    NoDevice {
        /// Which was asked for.
        ordinal: usize,
        /// How many there are.
        count: usize,
    },
    /// A result that is not what the program says.
    #[error("a result is {found}, expected {expected}")]
    Result {
        /// What came out.
        found: String,
        /// What the program says.
        expected: String,
    },
    /// An element type that has no form on such devices.
    #[error("no element type of the interface holds {0}")]
    Element(String),
}
