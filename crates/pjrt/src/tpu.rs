//! Programs of the TPU's own compiler for TPUs that are not here, and what it says of them.
//!
//! libtpu compiles for a topology by name without any device. What it says (bytes, and cycles for each fusion) are its own
//! estimates, never measurements; copies that run beside the arithmetic are not in its cycles.

use std::path::Path;

use crate::ffi::{MemoryStatistics, Topology};
use crate::options::compile_options;
use crate::plugins::load;
use crate::{InstructionEstimate, PjrtError, hlo};

/// Chips of the catalog and the smallest topology of them that libtpu knows by name.
pub const TOPOLOGIES: &[(&str, &str)] = &[
    ("google-tpu-v2", "v2:2x2"),
    ("google-tpu-v3", "v3:2x2"),
    ("google-tpu-v4", "v4:2x2x1"),
    ("google-tpu-v5e", "v5e:1x1"),
    ("google-tpu-v5p", "v5p:2x2x1"),
    ("google-tpu-v6e", "v6e:1x1"),
    ("google-tpu7x", "tpu7x:2x2x1"),
];

/// The topology to compile for, for one chip of the catalog.
pub fn topology(chip: &str) -> Option<&'static str> {
    TOPOLOGIES.iter().find(|(id, _)| *id == chip).map(|(_, topology)| *topology)
}

/// What the vendor's compiler made.
#[derive(Debug, Clone)]
pub struct AheadOfTime {
    /// The program, for a libtpu of the same version.
    pub program: Vec<u8>,
    /// Bytes that it takes, as the compiler says.
    pub memory: Option<MemoryStatistics>,
    /// The program after the compiler's own passes, as a serialized HLO module, and the name of that form.
    pub optimized: Option<(Vec<u8>, String)>,
    /// Its instructions with the cycles that the compiler estimates.
    pub instructions: Vec<InstructionEstimate>,
}

/// What a compiler's optimized program says of its instructions: the bytes of [`AheadOfTime::optimized`], and the name of their form.
pub fn instruction_estimates(optimized: &[u8], format: &str) -> Vec<InstructionEstimate> {
    hlo::estimates(optimized, format == WITH_CONFIG)
}

/// The name of a module with its compiler's settings around it.
const WITH_CONFIG: &str = "hlo_with_config";

/// Compiles StableHLO for a topology with the plugin in a file. The environment must say `TPU_SKIP_MDS_QUERY=1`, or the plugin asks a
/// service that only the vendor's machines have.
pub fn ahead_of_time(plugin: &Path, topology: &str, text: &str) -> Result<AheadOfTime, PjrtError> {
    let loaded = load(plugin)?;
    let topology = Topology::named(&loaded.plugin, topology)?;
    let compiled = topology.compile(text, &compile_options(None))?;
    let instructions = compiled
        .optimized
        .as_ref()
        .map_or_else(Vec::new, |(bytes, format)| instruction_estimates(bytes, format));
    Ok(AheadOfTime {
        instructions,
        program: compiled.program,
        memory: compiled.memory,
        optimized: compiled.optimized,
    })
}
