//! Devices that are not here: a compiler can be asked for their programs all the same.

use std::sync::Arc;

use super::Plugin;
use super::executable::{FORMAT, MemoryStatistics, destroy, memory, optimized, serialize};
use super::raw::{Compile, Handle, Program, TopologyCreate, TopologyDestroy};
use crate::PjrtError;

/// Devices by name, such as `v5e:1x1`.
#[derive(Debug)]
pub(crate) struct Topology {
    plugin: Arc<Plugin>,
    handle: Handle,
}

/// What a compiler makes for devices that are not here.
#[derive(Debug, Clone)]
pub(crate) struct Compiled {
    /// The program, for a plugin of the same build.
    pub(crate) program: Vec<u8>,
    /// Bytes that it takes, where the compiler says.
    pub(crate) memory: Option<MemoryStatistics>,
    /// The program after the compiler's passes, and the name of its form.
    pub(crate) optimized: Option<(Vec<u8>, String)>,
}

impl Topology {
    /// The devices of a name that the plugin knows.
    pub(crate) fn named(plugin: &Arc<Plugin>, name: &str) -> Result<Topology, PjrtError> {
        let mut create = TopologyCreate::new();
        create.name = name.as_ptr().cast();
        create.name_size = name.len();
        plugin.call(&mut create)?;
        Ok(Topology { plugin: Arc::clone(plugin), handle: create.topology })
    }

    /// Compiles StableHLO text for them.
    pub(crate) fn compile(&self, text: &str, options: &[u8]) -> Result<Compiled, PjrtError> {
        let mut code = text.as_bytes().to_vec();
        let program = Program::new(code.as_mut_ptr().cast(), code.len(), FORMAT);
        let mut arguments = Compile::new();
        arguments.topology = self.handle;
        arguments.program = &raw const program;
        arguments.options = options.as_ptr().cast();
        arguments.options_size = options.len();
        self.plugin.call(&mut arguments)?;
        let executable = arguments.executable;
        let compiled = serialize(&self.plugin, executable).map(|program| Compiled {
            program,
            memory: memory(&self.plugin, executable).ok(),
            optimized: optimized(&self.plugin, executable).ok(),
        });
        destroy(&self.plugin, executable)?;
        compiled
    }
}

impl Drop for Topology {
    fn drop(&mut self) {
        let mut destroy = TopologyDestroy::new();
        destroy.topology = self.handle;
        // Nobody is left who could be told.
        let _ = self.plugin.call(&mut destroy);
    }
}
