//! The library: load, optimize, compile, run, compare.
//!
//! ```no_run
//! use anychip::{CompileOptions, Engine, Model};
//!
//! # fn main() -> Result<(), anychip::Error> {
//! let arrays = anychip::read_npz("models/digits-cnn.npz".as_ref())?;
//! let model = Model::load("models/digits-cnn.onnx".as_ref())?;
//! let inputs = anychip::arrange(model.graph(), &arrays)?;
//! let (graph, _reports) = model.optimized()?;
//! let mut engine = Engine::new(&graph, &anychip::local_chip("cpu")?, &CompileOptions::default())?;
//! let (outputs, _counters) = engine.run(&inputs)?;
//! # Ok(())
//! # }
//! ```

mod accuracy;
mod build;
mod choose;
mod compare;
mod describe;
mod diff;
mod doctor;
mod engine;
mod error;
mod inputs;
mod inspect;
mod machine;
mod measure;
mod meter;
mod model;
mod npz;
#[cfg(feature = "pjrt")]
mod plugins;
mod quantize;
mod scenario;
mod simulate;
mod targets;

pub use accuracy::accuracy;
pub use anychip_chips::{Catalog, Chip, ChipError, Family, Filter, Order, Precision, Verdict};
pub use anychip_ir::{Graph, Op, Prim};
pub use anychip_onnx::{ExportOptions, ImportOptions};
pub use anychip_passes::{PassReport, node_count};
#[cfg(feature = "pjrt")]
pub use anychip_pjrt::{AheadOfTime, InstructionEstimate, MemoryStatistics, ahead_of_time};
pub use anychip_record::Record;
pub use anychip_target::CompileOptions;
pub use anychip_tensor::Tensor;
pub use anychip_zoo::{
    KEYS as ARCHITECTURE_SETTINGS, Published, Row as ArchitectureRow, rows as architectures,
};
pub use build::{Built, build};
pub use choose::{Limit, Metric, NothingMeets, Relaxation, SearchOptions, choose, search};
pub use compare::{CompareOptions, compare, estimate, select_chips};
pub use diff::{Difference, Differences, REFERENCE, Side, diff};
pub use doctor::{Finding, doctor};
pub use engine::Engine;
pub use error::Error;
pub use inputs::{Arrays, arrange, made_up};
pub use inspect::{Facts, inspect};
pub use machine::{THIS_CPU, this_cpu};
pub use measure::{MeasureOptions, Subject, measure};
pub use model::{Model, Sizes, ZOO, choose_sizes, describe, optimize, size_names, with_sizes};
pub use npz::{NpzError, read_npz, write_npz};
#[cfg(feature = "pjrt")]
pub use plugins::{PLUGINS_VARIABLE, VendorCompiler, pjrt, plugin_files, vendor_compiler};
pub use quantize::{
    Batch, Budget, Equalize, Gain, LayerReport, Method, PruneReport, Pruning, QuantizeOptions,
    QuantizeReport, Samples, WeightFormat, WeightRounding, gains, halve, prune, quantize,
    quantize_dynamic, quantize_weights,
};
pub use scenario::{MLPERF_DURATION, STREAMS, Scenario};
pub use simulate::{Simulated, simulate};
pub use targets::{find_place, is_simulated, targets};

use std::path::Path;

/// The names of a graph's inputs.
pub fn input_names(graph: &Graph) -> Vec<String> {
    model::input_types(graph).into_iter().map(|(name, _, _)| name.to_string()).collect()
}

/// The row of a chip of this machine; peaks of its CPU are not measured.
pub fn local_chip(name: &str) -> Result<Chip, Error> {
    if name == THIS_CPU {
        return Ok(this_cpu(false, None));
    }
    // A chip of the catalogue that is not here: say so; one that is in no catalogue: say that.
    let (plain, ordinal) = anychip_target::split_ordinal(name);
    let catalog = Catalog::builtin()?;
    let row = targets::device_rows(&catalog).into_iter().find(|row| row.id == plain);
    let mut chip = match row {
        Some(row) => row,
        None => catalog.find(plain).cloned()?,
    };
    if ordinal > 0 {
        chip.id = name.to_string();
    }
    if find_place(&chip).is_some() { Ok(chip) } else { Err(Error::NotHere { chip: chip.id }) }
}

/// The graph in its text form with large constants elided, for people.
pub fn print_summary(graph: &Graph) -> String {
    anychip_ir::text::print_summary(graph)
}

/// Writes a graph as an ONNX file; weights beyond 2 GiB go to a file beside it.
pub fn export_to(graph: &Graph, path: &Path, options: &ExportOptions) -> Result<(), Error> {
    Ok(anychip_onnx::save(graph, path, options)?)
}
