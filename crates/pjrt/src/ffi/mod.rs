//! A small safe binding to the PJRT C interface: what is unsafe stays in this folder.

#![allow(unsafe_code, reason = "calls into a library that is loaded at run time")]

mod buffer;
mod client;
mod elf;
mod executable;
mod plugin;
mod raw;
mod topology;

pub(crate) use buffer::{Buffer, Download};
pub(crate) use client::{Client, Device};
pub(crate) use executable::Executable;
pub use executable::MemoryStatistics;
pub(crate) use plugin::Plugin;
pub(crate) use topology::Topology;
