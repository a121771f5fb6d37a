//! The `pjrt` target.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use anychip_chips::Chip;
use anychip_ir::{Graph, Node, Op};
use anychip_passes::specialize::fold_constants;
use anychip_target::{
    CompileError, CompileOptions, LegalGraph, Place, Program, Refused, Support, Target,
};

use crate::devices::{self, DeviceFound};
use crate::emit::Style;
use crate::plugins::{self, PluginReport};
use crate::program::PjrtProgram;
use crate::sizes::undecided;

/// The target's name.
pub(crate) const ID: &str = "pjrt";

/// Runs on the devices of given plugins, and writes programs for chips that are elsewhere.
#[derive(Debug, Clone, Default)]
pub struct PjrtTarget {
    plugins: Vec<PathBuf>,
    /// Looked for once: `compare` asks about every chip of the catalogue.
    found: Arc<OnceLock<Vec<DeviceFound>>>,
}

impl PjrtTarget {
    /// With the plugins in these files, none of which is loaded before somebody asks for a place.
    pub fn new(plugins: Vec<PathBuf>) -> PjrtTarget {
        PjrtTarget { plugins, found: Arc::default() }
    }

    /// The plugins' devices, in order. A plugin that cannot be used has none; [`PjrtTarget::reports`] says why.
    pub fn devices(&self) -> Vec<DeviceFound> {
        self.found.get_or_init(|| devices::find(&self.plugins)).clone()
    }

    /// What each plugin says of itself, or why it cannot be used.
    pub fn reports(&self) -> Vec<PluginReport> {
        self.plugins.iter().map(|path| plugins::report(path)).collect()
    }
}

impl Target for PjrtTarget {
    fn id(&self) -> &'static str {
        ID
    }

    fn support(&self, node: &Node, graph: &Graph) -> Support {
        match &node.op {
            // The plugin's compiler fuses what an expansion consists of.
            Op::Composite(_) => Support::Expand,
            Op::Prim(_) => match undecided(node, graph) {
                None => Support::Native,
                Some(reason) => Support::Refuse(Refused {
                    reason: reason.to_string(),
                    help: Some(
                        "run the model on `cpu`, which sizes such results as it goes".to_string(),
                    ),
                }),
            },
        }
    }

    fn compile(
        &self,
        graph: &LegalGraph,
        _chip: &Chip,
        options: &CompileOptions,
    ) -> Result<Box<dyn Program>, CompileError> {
        let graph = fold_constants(graph.graph())?;
        let style = Style { relaxed: options.relaxed, keeps_nan: false };
        Ok(Box::new(PjrtProgram::new(graph, style, self.clone(), options.cache.clone())))
    }

    fn places(&self) -> Vec<Place> {
        self.devices()
            .into_iter()
            .map(|device| Place::Device { chip: device.chip, ordinal: device.ordinal })
            .collect()
    }
}
