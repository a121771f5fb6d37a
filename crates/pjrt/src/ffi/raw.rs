//! The C interface as it lies in memory: which slot holds which function, and what each takes.
//!
//! PJRT's header (`pjrt_c_api.h` of OpenXLA, minor versions 81 to 117) keeps its layout by two rules: slots of the table are only
//! ever appended, and every argument struct begins with its own size. The sizes here are those of minor version 81,
//! which newer plugins take too.

use std::ffi::{c_char, c_int, c_void};

/// An object that only the plugin can look into.
pub(super) type Handle = *mut c_void;

/// Bytes of the table before its first slot: its size, its extensions, and its version.
pub(super) const HEAD: usize = 40;

/// Where a function's address lies in the table.
pub(super) const fn offset(slot: usize) -> usize {
    HEAD + 8 * slot
}

/// The beginning of the table.
#[repr(C)]
pub(super) struct Head {
    pub(super) struct_size: usize,
    pub(super) extensions: Handle,
    pub(super) version: Version,
}

/// The version as it lies in the table.
#[repr(C)]
pub(super) struct Version {
    pub(super) struct_size: usize,
    pub(super) extensions: Handle,
    pub(super) major: c_int,
    pub(super) minor: c_int,
}

/// What every function takes: a struct that begins with its size.
///
/// # Safety
///
/// The type is laid out as the header lays out the arguments of the function in `SLOT`, and all zeros are a value of it.
pub(super) unsafe trait Arguments: Sized {
    /// Which function takes it.
    const SLOT: usize;
    /// Its name, for people.
    const NAME: &'static str;
}

/// Argument structs, one a function: `Name(slot, "function") { fields }`, each with a constructor of zeros.
macro_rules! arguments {
    ($($name:ident($slot:expr, $function:expr) { $($field:ident: $ty:ty),* $(,)? })*) => {
        $(
            #[repr(C)]
            pub(super) struct $name {
                struct_size: usize,
                extensions: Handle,
                $(pub(super) $field: $ty,)*
            }

            // SAFETY: the fields are those of the header, in order, all of them integers, booleans or pointers.
            unsafe impl Arguments for $name {
                const SLOT: usize = $slot;
                const NAME: &'static str = $function;
            }

            impl $name {
                pub(super) fn new() -> $name {
                    // SAFETY: `Arguments` says that zeros are a value.
                    let mut zeros: $name = unsafe { std::mem::zeroed() };
                    zeros.struct_size = size_of::<$name>();
                    zeros
                }
            }
        )*
    };
}

arguments! {
    ErrorDestroy(0, "PJRT_Error_Destroy") { error: Handle }
    ErrorMessage(1, "PJRT_Error_Message") { error: Handle, message: *const c_char, message_size: usize }
    ErrorGetCode(2, "PJRT_Error_GetCode") { error: Handle, code: c_int }
    PluginInitialize(3, "PJRT_Plugin_Initialize") {}
    PluginAttributes(4, "PJRT_Plugin_Attributes") { attributes: *const NamedValue, count: usize }
    EventDestroy(5, "PJRT_Event_Destroy") { event: Handle }
    EventAwait(8, "PJRT_Event_Await") { event: Handle }
    ClientCreate(10, "PJRT_Client_Create") {
        options: *const NamedValue,
        option_count: usize,
        get_callback: Handle,
        get_argument: Handle,
        put_callback: Handle,
        put_argument: Handle,
        client: Handle,
        try_get_callback: Handle,
        try_get_argument: Handle,
    }
    ClientDestroy(11, "PJRT_Client_Destroy") { client: Handle }
    ClientPlatformName(12, "PJRT_Client_PlatformName") { client: Handle, name: *const c_char, name_size: usize }
    ClientPlatformVersion(14, "PJRT_Client_PlatformVersion") { client: Handle, name: *const c_char, name_size: usize }
    ClientAddressableDevices(16, "PJRT_Client_AddressableDevices") {
        client: Handle,
        devices: *const Handle,
        count: usize,
    }
    ClientCompile(20, "PJRT_Client_Compile") {
        client: Handle,
        program: *const Program,
        options: *const c_char,
        options_size: usize,
        executable: Handle,
    }
    BufferFromHost(22, "PJRT_Client_BufferFromHostBuffer") {
        client: Handle,
        data: *const c_void,
        element: c_int,
        dims: *const i64,
        dim_count: usize,
        strides: *const i64,
        stride_count: usize,
        semantics: c_int,
        device: Handle,
        memory: Handle,
        layout: Handle,
        done: Handle,
        buffer: Handle,
    }
    DescriptionId(23, "PJRT_DeviceDescription_Id") { description: Handle, id: c_int }
    DescriptionKind(26, "PJRT_DeviceDescription_Kind") {
        description: Handle,
        name: *const c_char,
        name_size: usize,
    }
    DeviceDescription(29, "PJRT_Device_GetDescription") { device: Handle, description: Handle }
    ExecutableDestroy(40, "PJRT_Executable_Destroy") { executable: Handle }
    ExecutableNumOutputs(44, "PJRT_Executable_NumOutputs") { executable: Handle, count: usize }
    ExecutableOptimized(48, "PJRT_Executable_OptimizedProgram") { executable: Handle, program: *mut Program }
    ExecutableSerialize(49, "PJRT_Executable_Serialize") {
        executable: Handle,
        bytes: *const c_char,
        size: usize,
        owner: Handle,
        delete: Option<unsafe extern "C" fn(Handle)>,
    }
    LoadedDestroy(50, "PJRT_LoadedExecutable_Destroy") { executable: Handle }
    LoadedGetExecutable(51, "PJRT_LoadedExecutable_GetExecutable") { loaded: Handle, executable: Handle }
    LoadedExecute(55, "PJRT_LoadedExecutable_Execute") {
        executable: Handle,
        options: *const ExecuteOptions,
        arguments: *const *const Handle,
        device_count: usize,
        argument_count: usize,
        outputs: *const *mut Handle,
        events: *mut Handle,
        device: Handle,
    }
    ExecutableLoad(56, "PJRT_Executable_DeserializeAndLoad") {
        client: Handle,
        bytes: *const c_char,
        size: usize,
        executable: Handle,
        options: *const c_char,
        options_size: usize,
    }
    BufferDestroy(58, "PJRT_Buffer_Destroy") { buffer: Handle }
    BufferElement(59, "PJRT_Buffer_ElementType") { buffer: Handle, element: c_int }
    BufferDimensions(60, "PJRT_Buffer_Dimensions") { buffer: Handle, dims: *const i64, count: usize }
    BufferToHost(70, "PJRT_Buffer_ToHostBuffer") {
        buffer: Handle,
        layout: Handle,
        destination: *mut c_void,
        size: usize,
        event: Handle,
    }
    TopologyCreate(82, "PJRT_TopologyDescription_Create") {
        name: *const c_char,
        name_size: usize,
        options: *const NamedValue,
        option_count: usize,
        topology: Handle,
    }
    TopologyDestroy(83, "PJRT_TopologyDescription_Destroy") { topology: Handle }
    Compile(89, "PJRT_Compile") {
        topology: Handle,
        program: *const Program,
        options: *const c_char,
        options_size: usize,
        client: Handle,
        executable: Handle,
    }
    ExecutableMemory(96, "PJRT_Executable_GetCompiledMemoryStats") {
        executable: Handle,
        code: i64,
        arguments: i64,
        outputs: i64,
        aliased: i64,
        temporaries: i64,
        host_code: i64,
        host_arguments: i64,
        host_outputs: i64,
        host_aliased: i64,
        host_temporaries: i64,
        peak: i64,
    }
}

/// A program and the language it is written in.
#[repr(C)]
pub(super) struct Program {
    struct_size: usize,
    extensions: Handle,
    pub(super) code: *mut c_char,
    pub(super) code_size: usize,
    pub(super) format: *const c_char,
    pub(super) format_size: usize,
}

impl Program {
    pub(super) fn new(code: *mut c_char, code_size: usize, format: &'static str) -> Program {
        Program {
            struct_size: size_of::<Program>(),
            extensions: std::ptr::null_mut(),
            code,
            code_size,
            format: format.as_ptr().cast(),
            format_size: format.len(),
        }
    }
}

/// How to execute: nothing special.
#[repr(C)]
pub(super) struct ExecuteOptions {
    struct_size: usize,
    extensions: Handle,
    send: Handle,
    receive: Handle,
    send_count: usize,
    receive_count: usize,
    launch: c_int,
    kept: *const i64,
    kept_count: usize,
    context: Handle,
    location: *const c_char,
    task_count: usize,
    tasks: *const c_int,
    incarnations: *const i64,
}

impl ExecuteOptions {
    /// `kept` are arguments that the device must not take over for results.
    pub(super) fn new(kept: &[i64]) -> ExecuteOptions {
        ExecuteOptions {
            struct_size: size_of::<ExecuteOptions>(),
            extensions: std::ptr::null_mut(),
            send: std::ptr::null_mut(),
            receive: std::ptr::null_mut(),
            send_count: 0,
            receive_count: 0,
            launch: 0,
            kept: kept.as_ptr(),
            kept_count: kept.len(),
            context: std::ptr::null_mut(),
            location: std::ptr::null(),
            task_count: 0,
            tasks: std::ptr::null(),
            incarnations: std::ptr::null(),
        }
    }
}

/// A named value; which member of the union `value` is, `kind` tells.
#[repr(C)]
pub(super) struct NamedValue {
    struct_size: usize,
    extensions: Handle,
    pub(super) name: *const c_char,
    pub(super) name_size: usize,
    pub(super) kind: c_int,
    /// A number, or the address of a string or of numbers.
    pub(super) value: u64,
    pub(super) value_size: usize,
}

/// Kinds of a [`NamedValue`].
pub(super) const KIND_STRING: c_int = 0;
pub(super) const KIND_INTEGER: c_int = 1;
pub(super) const KIND_INTEGERS: c_int = 2;

#[cfg(test)]
mod tests {
    use super::*;
    use std::mem::offset_of;

    /// Offsets that the header's own structs have, read off its text by hand.
    #[test]
    fn structs_lie_as_the_header_has_them() {
        assert_eq!((size_of::<Head>(), offset_of!(Head, version)), (HEAD, 16));
        assert_eq!(offset_of!(Version, major), 16);
        assert_eq!(size_of::<Program>(), 48);
        assert_eq!(size_of::<NamedValue>(), 56);
        assert_eq!(
            (
                offset_of!(NamedValue, kind),
                offset_of!(NamedValue, value),
                offset_of!(NamedValue, value_size)
            ),
            (32, 40, 48)
        );
        assert_eq!((size_of::<ExecuteOptions>(), offset_of!(ExecuteOptions, kept)), (112, 56));
        assert_eq!((size_of::<ClientCreate>(), offset_of!(ClientCreate, client)), (88, 64));
        assert_eq!((size_of::<ClientCompile>(), offset_of!(ClientCompile, executable)), (56, 48));
        assert_eq!(
            (
                size_of::<BufferFromHost>(),
                offset_of!(BufferFromHost, element),
                offset_of!(BufferFromHost, semantics),
                offset_of!(BufferFromHost, device),
                offset_of!(BufferFromHost, done),
                offset_of!(BufferFromHost, buffer),
            ),
            (120, 32, 72, 80, 104, 112)
        );
        assert_eq!(
            (
                size_of::<LoadedExecute>(),
                offset_of!(LoadedExecute, outputs),
                offset_of!(LoadedExecute, device)
            ),
            (80, 56, 72)
        );
        assert_eq!(
            (size_of::<ExecutableSerialize>(), offset_of!(ExecutableSerialize, delete)),
            (56, 48)
        );
        assert_eq!((size_of::<ExecutableLoad>(), offset_of!(ExecutableLoad, options)), (64, 48));
        assert_eq!((size_of::<BufferToHost>(), offset_of!(BufferToHost, event)), (56, 48));
        assert_eq!((size_of::<TopologyCreate>(), offset_of!(TopologyCreate, topology)), (56, 48));
        assert_eq!((size_of::<Compile>(), offset_of!(Compile, executable)), (64, 56));
        assert_eq!((size_of::<ExecutableMemory>(), offset_of!(ExecutableMemory, peak)), (112, 104));
        assert_eq!((size_of::<EventAwait>(), size_of::<PluginInitialize>()), (24, 16));
    }

    /// Addresses of slots that the recipe was tried with.
    #[test]
    fn slots_lie_where_they_were_found() {
        assert_eq!(offset(ClientCreate::SLOT), 120);
        assert_eq!(offset(ClientAddressableDevices::SLOT), 168);
        assert_eq!(offset(ClientCompile::SLOT), 200);
        assert_eq!(offset(BufferFromHost::SLOT), 216);
        assert_eq!(offset(LoadedExecute::SLOT), 480);
        assert_eq!(offset(BufferToHost::SLOT), 600);
        assert_eq!(offset(TopologyCreate::SLOT), 696);
        assert_eq!(offset(Compile::SLOT), 752);
        assert_eq!(offset(ExecutableMemory::SLOT), 808);
    }

    #[test]
    fn arguments_say_their_size() {
        assert_eq!(EventDestroy::new().struct_size, 24);
        assert_eq!(ExecuteOptions::new(&[]).struct_size, 112);
    }
}
