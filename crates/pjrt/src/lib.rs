//! The `pjrt` target: graphs as StableHLO, run by whatever plugin of PJRT is installed.
//!
//! One small C interface runs StableHLO on TPUs, on the GPUs of three vendors and on CPUs. `emit` writes the program (one file a group of
//! primitives), `ffi` is a safe binding to the interface, loaded at run time, `session` keeps weights on a device and a
//! program per set of shapes. Without any plugin the target still writes programs for chips that are elsewhere.

mod cache;
mod devices;
mod element;
mod emit;
mod error;
mod ffi;
mod hlo;
mod options;
mod plugins;
mod program;
mod session;
mod sizes;
mod target;
mod tpu;

pub use devices::{CPU_DEVICE, DeviceFound, serves};
pub use error::PjrtError;
pub use ffi::MemoryStatistics;
pub use hlo::{InstructionEstimate, Product};
pub use plugins::{PluginReport, in_folders};
pub use target::PjrtTarget;
pub use tpu::{AheadOfTime, TOPOLOGIES, ahead_of_time, instruction_estimates, topology};
