//! A loaded plugin: its table of functions, its version, its errors.

use std::ffi::{c_char, c_void};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::elf;
use super::raw::{
    self, Arguments, ErrorDestroy, ErrorGetCode, ErrorMessage, EventAwait, EventDestroy, Handle,
    Head, KIND_INTEGER, KIND_INTEGERS, KIND_STRING, PluginAttributes, PluginInitialize,
};
use crate::PjrtError;

/// Older tables than this were never tried.
pub(crate) const LEAST_MINOR: i32 = 60;

/// A loaded and initialized plugin. It stays loaded until the process ends: none of them can be unloaded.
#[derive(Debug)]
pub(crate) struct Plugin {
    path: PathBuf,
    table: Table,
    minor: i32,
}

/// The table of functions, which lives as long as the process.
#[derive(Debug, Clone, Copy)]
struct Table(*const Head);

// SAFETY: the table is constant, and its functions may be called from any thread, as the interface promises.
unsafe impl Send for Table {}
// SAFETY: as above.
unsafe impl Sync for Table {}

type Function<A> = unsafe extern "C" fn(*mut A) -> Handle;

impl Plugin {
    /// Loads and initializes the plugin in a file.
    pub(crate) fn load(path: &Path) -> Result<Arc<Plugin>, PjrtError> {
        elf::check(path)?;
        let load = |error: libloading::Error| PjrtError::Load {
            path: path.to_path_buf(),
            reason: error.to_string(),
        };
        // SAFETY: the file's initializers run, which is what loading a plugin that the user named or installed means.
        let library = unsafe { libloading::Library::new(path) }.map_err(load)?;
        // SAFETY: the interface gives the function this type.
        let entry =
            unsafe { library.get::<unsafe extern "C" fn() -> *const Head>(b"GetPjrtApi\0") };
        let Ok(entry) = entry else {
            return Err(PjrtError::NotAPlugin { path: path.to_path_buf() });
        };
        // SAFETY: the function takes nothing and gives the address of a constant table or null.
        let table = unsafe { entry() };
        // Threads and handlers of a plugin outlive every handle to it, so it must never be unmapped.
        std::mem::forget(library);
        if table.is_null() {
            return Err(PjrtError::NotAPlugin { path: path.to_path_buf() });
        }
        // SAFETY: every table begins so.
        let head = unsafe { &*table };
        let (major, minor) = (head.version.major, head.version.minor);
        if major != 0 || minor < LEAST_MINOR || head.struct_size < raw::HEAD {
            let path = path.to_path_buf();
            return Err(PjrtError::Version { path, major, minor, least: LEAST_MINOR });
        }
        let plugin = Plugin { path: path.to_path_buf(), table: Table(table), minor };
        plugin.call(&mut PluginInitialize::new())?;
        Ok(Arc::new(plugin))
    }

    /// The file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The version of the interface that it speaks.
    pub(crate) fn version(&self) -> String {
        format!("0.{}", self.minor)
    }

    /// What the plugin says of itself, such as the versions of StableHLO that it reads.
    pub(crate) fn attributes(&self) -> Vec<(String, String)> {
        let mut arguments = PluginAttributes::new();
        if self.call(&mut arguments).is_err() || arguments.attributes.is_null() {
            return Vec::new();
        }
        // SAFETY: the plugin gives the address of as many values, which live as long as it does.
        let values = unsafe { std::slice::from_raw_parts(arguments.attributes, arguments.count) };
        values
            .iter()
            .filter_map(|value| {
                let text = match value.kind {
                    KIND_STRING => self.text(value.value as *const c_char, value.value_size),
                    KIND_INTEGER => (value.value as i64).to_string(),
                    KIND_INTEGERS => {
                        let first = value.value as *const i64;
                        // SAFETY: `kind` says that the value is the address of that many integers.
                        let all = unsafe { std::slice::from_raw_parts(first, value.value_size) };
                        all.iter().map(ToString::to_string).collect::<Vec<_>>().join(".")
                    }
                    _ => return None,
                };
                Some((self.text(value.name, value.name_size), text))
            })
            .collect()
    }

    /// The text at an address that the plugin gave.
    #[expect(clippy::unused_self, reason = "texts live as long as the plugin that gave them")]
    pub(super) fn text(&self, address: *const c_char, length: usize) -> String {
        if address.is_null() || length == 0 {
            return String::new();
        }
        // SAFETY: the plugin gave the address of a text of that length.
        let bytes = unsafe { std::slice::from_raw_parts(address.cast::<u8>(), length) };
        String::from_utf8_lossy(bytes).into_owned()
    }

    /// Calls the function that takes `arguments`.
    pub(super) fn call<A: Arguments>(&self, arguments: &mut A) -> Result<(), PjrtError> {
        let function = self.function::<A>()?;
        // SAFETY: `Arguments` says that the slot's function takes this struct; pointers in it are valid for the call, as
        // those who fill it see to.
        let error = unsafe { function(arguments) };
        if error.is_null() { Ok(()) } else { Err(self.told(error, A::NAME)) }
    }

    /// The function in a slot, where the table reaches so far and has one there.
    fn function<A: Arguments>(&self) -> Result<Function<A>, PjrtError> {
        let missing = PjrtError::NoFunction { function: A::NAME };
        let at = raw::offset(A::SLOT);
        // SAFETY: the head was read when the plugin was loaded.
        let size = unsafe { (*self.table.0).struct_size };
        if at + 8 > size {
            return Err(missing);
        }
        // SAFETY: the slot lies within the table, which is aligned to 8.
        let address = unsafe { *self.table.0.cast::<*const c_void>().add(at / 8) };
        if address.is_null() {
            return Err(missing);
        }
        // SAFETY: the slot holds the address of a function that takes `A`; those of errors return nothing, and what
        // is returned by them is not looked at.
        Ok(unsafe { std::mem::transmute::<*const c_void, Function<A>>(address) })
    }

    /// An error of the plugin as one of ours; it is destroyed.
    fn told(&self, error: Handle, function: &'static str) -> PjrtError {
        let mut message = ErrorMessage::new();
        message.error = error;
        let mut code = ErrorGetCode::new();
        code.error = error;
        let mut text = String::new();
        // SAFETY: both functions take these structs, and `error` is alive.
        unsafe {
            if let Ok(f) = self.function::<ErrorMessage>() {
                f(&raw mut message);
                text = self.text(message.message, message.message_size);
            }
            if let Ok(f) = self.function::<ErrorGetCode>() {
                f(&raw mut code);
            }
            let mut destroy = ErrorDestroy::new();
            destroy.error = error;
            if let Ok(f) = self.function::<ErrorDestroy>() {
                f(&raw mut destroy);
            }
        }
        PjrtError::Plugin { function, code: code.code, message: text }
    }

    /// Waits until an event has come, which it then destroys. The error is that of what was waited for.
    pub(super) fn wait(&self, event: Handle) -> Result<(), PjrtError> {
        if event.is_null() {
            return Ok(());
        }
        let mut wait = EventAwait::new();
        wait.event = event;
        let result = self.call(&mut wait);
        let mut destroy = EventDestroy::new();
        destroy.event = event;
        self.call(&mut destroy)?;
        result
    }
}
