//! Compiled programs: made, kept, run.

use std::ffi::c_char;
use std::sync::Arc;

use super::raw::{
    ClientCompile, ExecutableDestroy, ExecutableLoad, ExecutableMemory, ExecutableNumOutputs,
    ExecutableOptimized, ExecutableSerialize, ExecuteOptions, Handle, LoadedDestroy, LoadedExecute,
    LoadedGetExecutable, Program,
};
use super::{Buffer, Client, Plugin};
use crate::PjrtError;

/// The language that programs are written in here.
pub(super) const FORMAT: &str = "mlir";

/// A program compiled for a client's device and loaded there.
#[derive(Debug)]
pub(crate) struct Executable {
    client: Arc<Client>,
    handle: Handle,
    outputs: usize,
}

// SAFETY: the interface's executables may be used from any thread.
unsafe impl Send for Executable {}
// SAFETY: as above.
unsafe impl Sync for Executable {}

/// Bytes that a compiled program takes, as its compiler says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryStatistics {
    /// Instructions.
    pub code: i64,
    /// Arguments: inputs and weights.
    pub arguments: i64,
    /// Results.
    pub outputs: i64,
    /// What lives only during a run.
    pub temporaries: i64,
    /// The most at one time; 0 where the compiler does not say.
    pub peak: i64,
}

impl Executable {
    /// Compiles StableHLO text for one device.
    pub(crate) fn compile(
        client: &Arc<Client>,
        text: &str,
        options: &[u8],
    ) -> Result<Executable, PjrtError> {
        let mut code = text.as_bytes().to_vec();
        let program = Program::new(code.as_mut_ptr().cast(), code.len(), FORMAT);
        let mut arguments = ClientCompile::new();
        arguments.client = client.handle;
        arguments.program = &raw const program;
        arguments.options = options.as_ptr().cast();
        arguments.options_size = options.len();
        client.plugin.call(&mut arguments)?;
        Executable::loaded(client, arguments.executable)
    }

    /// Loads what [`Executable::serialize`] gave.
    pub(crate) fn load(client: &Arc<Client>, bytes: &[u8]) -> Result<Executable, PjrtError> {
        let mut arguments = ExecutableLoad::new();
        arguments.client = client.handle;
        arguments.bytes = bytes.as_ptr().cast();
        arguments.size = bytes.len();
        client.plugin.call(&mut arguments)?;
        Executable::loaded(client, arguments.executable)
    }

    fn loaded(client: &Arc<Client>, handle: Handle) -> Result<Executable, PjrtError> {
        let mut executable = Executable { client: Arc::clone(client), handle, outputs: 0 };
        executable.outputs = executable.unloaded(|plugin, handle| {
            let mut count = ExecutableNumOutputs::new();
            count.executable = handle;
            plugin.call(&mut count)?;
            Ok(count.count)
        })?;
        Ok(executable)
    }

    /// The program as bytes that a plugin of the same build can load again.
    pub(crate) fn serialize(&self) -> Result<Vec<u8>, PjrtError> {
        self.unloaded(serialize)
    }

    /// Calls `f` with the program behind this loaded one.
    fn unloaded<R>(
        &self,
        f: impl FnOnce(&Plugin, Handle) -> Result<R, PjrtError>,
    ) -> Result<R, PjrtError> {
        let plugin = &self.client.plugin;
        let mut get = LoadedGetExecutable::new();
        get.loaded = self.handle;
        plugin.call(&mut get)?;
        let result = f(plugin, get.executable);
        destroy(plugin, get.executable)?;
        result
    }

    /// Starts a run on the device that the program was compiled for; the results may be used at once, and are there when [`Pending::wait`] returns.
    pub(crate) fn execute(&self, arguments: &[&Buffer]) -> Result<Pending, PjrtError> {
        let handles: Vec<Handle> = arguments.iter().map(|buffer| buffer.handle).collect();
        let kept: Vec<i64> = (0..handles.len() as i64).collect();
        let options = ExecuteOptions::new(&kept);
        let lists = [handles.as_ptr()];
        let mut outputs: Vec<Handle> = vec![std::ptr::null_mut(); self.outputs];
        let output_lists = [outputs.as_mut_ptr()];
        let mut event: Handle = std::ptr::null_mut();
        let mut run = LoadedExecute::new();
        run.executable = self.handle;
        run.options = &raw const options;
        run.arguments = lists.as_ptr();
        run.device_count = 1;
        run.argument_count = handles.len();
        run.outputs = output_lists.as_ptr();
        run.events = &raw mut event;
        self.client.plugin.call(&mut run)?;
        let outputs =
            outputs.into_iter().map(|handle| Buffer::from_handle(&self.client, handle)).collect();
        Ok(Pending { plugin: Arc::clone(&self.client.plugin), event, outputs })
    }
}

impl Drop for Executable {
    fn drop(&mut self) {
        let mut destroy = LoadedDestroy::new();
        destroy.executable = self.handle;
        // Nobody is left who could be told.
        let _ = self.client.plugin.call(&mut destroy);
    }
}

/// A run that may still be going on.
pub(crate) struct Pending {
    plugin: Arc<Plugin>,
    event: Handle,
    /// The results, in the program's order.
    pub(crate) outputs: Vec<Buffer>,
}

impl Pending {
    /// Waits for the run to end, and says whether it failed.
    pub(crate) fn wait(&mut self) -> Result<(), PjrtError> {
        let event = std::mem::replace(&mut self.event, std::ptr::null_mut());
        self.plugin.wait(event)
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        let _ = self.wait();
    }
}

pub(super) fn destroy(plugin: &Plugin, executable: Handle) -> Result<(), PjrtError> {
    let mut destroy = ExecutableDestroy::new();
    destroy.executable = executable;
    plugin.call(&mut destroy)
}

pub(super) fn serialize(plugin: &Plugin, executable: Handle) -> Result<Vec<u8>, PjrtError> {
    let mut arguments = ExecutableSerialize::new();
    arguments.executable = executable;
    plugin.call(&mut arguments)?;
    let bytes = if arguments.bytes.is_null() || arguments.size == 0 {
        Vec::new()
    } else {
        // SAFETY: the plugin gives the address of as many bytes, which live until `owner` is deleted.
        unsafe { std::slice::from_raw_parts(arguments.bytes.cast::<u8>(), arguments.size) }.to_vec()
    };
    if let Some(delete) = arguments.delete {
        // SAFETY: this is the function that the plugin gave for it, called once.
        unsafe { delete(arguments.owner) };
    }
    Ok(bytes)
}

pub(super) fn memory(plugin: &Plugin, executable: Handle) -> Result<MemoryStatistics, PjrtError> {
    let mut arguments = ExecutableMemory::new();
    arguments.executable = executable;
    plugin.call(&mut arguments)?;
    Ok(MemoryStatistics {
        code: arguments.code,
        arguments: arguments.arguments,
        outputs: arguments.outputs,
        temporaries: arguments.temporaries,
        peak: arguments.peak,
    })
}

/// The program after the compiler's own passes, as a serialized HLO module, and the name of that form.
pub(super) fn optimized(
    plugin: &Plugin,
    executable: Handle,
) -> Result<(Vec<u8>, String), PjrtError> {
    // First asked for its size, then for its bytes.
    let mut program = Program::new(std::ptr::null_mut::<c_char>(), 0, "");
    let mut arguments = ExecutableOptimized::new();
    arguments.executable = executable;
    arguments.program = &raw mut program;
    plugin.call(&mut arguments)?;
    let mut code = vec![0u8; program.code_size];
    program.code = code.as_mut_ptr().cast();
    plugin.call(&mut arguments)?;
    let format = plugin.text(program.format, program.format_size);
    Ok((code, format))
}
