//! A plugin that is another one with a fault, to see what becomes of it: a shared library, not a program.
//!
//! `ANYCHIP_FAULTY_OF` names the plugin behind it, `ANYCHIP_FAULTY_HOW` the fault: `version` (a version nobody knows), or a number of
//! executions after which every further one fails, with an error of the plugin's own.
#![allow(unsafe_code, reason = "the interface is one of C")]

use std::ffi::c_void;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes before the version and before the functions, and which function executes (`pjrt_c_api.h`).
const VERSION: usize = 32;
const FUNCTIONS: usize = 40;
const EXECUTE: usize = 55;

type Execute = unsafe extern "C" fn(*mut c_void) -> *mut c_void;

/// The copied table, the function that executes, and how many more calls of it succeed.
struct Faulty {
    table: Vec<usize>,
    execute: Execute,
    left: AtomicUsize,
}

static FAULTY: OnceLock<Option<Faulty>> = OnceLock::new();

fn faulty() -> Option<Faulty> {
    const WORD: usize = size_of::<usize>();
    let of = std::env::var_os("ANYCHIP_FAULTY_OF")?;
    let how = std::env::var("ANYCHIP_FAULTY_HOW").ok()?;
    // SAFETY: a plugin is meant to be loaded; it stays for the life of the process.
    let library = unsafe { libloading::Library::new(of) }.ok()?;
    // SAFETY: the interface gives the function this type.
    let entry = unsafe { library.get::<unsafe extern "C" fn() -> *const usize>(b"GetPjrtApi\0") };
    // SAFETY: the function takes nothing and gives the address of a constant table.
    let table = unsafe { entry.ok()?() };
    std::mem::forget(library);
    // SAFETY: the table begins with its size in bytes.
    let words = unsafe { *table } / WORD;
    let slot = FUNCTIONS / WORD + EXECUTE;
    if words <= slot {
        return None;
    }
    // SAFETY: the table has that many words.
    let mut table = unsafe { std::slice::from_raw_parts(table, words) }.to_vec();
    // SAFETY: the slot holds the address of a function of this type.
    let execute = unsafe { std::mem::transmute::<usize, Execute>(table[slot]) };
    let left = if how == "version" {
        // The halves of the word are the major and the minor version.
        table[VERSION / WORD] = table[VERSION / WORD] & !0xffff_ffff | 9;
        usize::MAX
    } else {
        table[slot] = failing_execute as *const () as usize;
        how.parse().ok()?
    };
    Some(Faulty { table, execute, left: AtomicUsize::new(left) })
}

/// Executes while there are executions left; then asks with arguments of no size, which plugins answer with an error.
unsafe extern "C" fn failing_execute(arguments: *mut c_void) -> *mut c_void {
    let Some(Some(faulty)) = FAULTY.get() else { return std::ptr::null_mut() };
    let succeeds = |left: usize| left.checked_sub(1);
    if faulty.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, succeeds).is_err() {
        let mut sizeless = [0u64; 16];
        // SAFETY: the function looks at the size that the arguments begin with before all else.
        return unsafe { (faulty.execute)(sizeless.as_mut_ptr().cast()) };
    }
    // SAFETY: the caller's arguments, as they are.
    unsafe { (faulty.execute)(arguments) }
}

/// The entry that every plugin has; null where the variables name no plugin.
// SAFETY: nothing else in this library has the name.
#[unsafe(no_mangle)]
pub extern "C" fn GetPjrtApi() -> *const c_void {
    let faulty = FAULTY.get_or_init(faulty);
    faulty.as_ref().map_or(std::ptr::null(), |faulty| faulty.table.as_ptr().cast())
}
