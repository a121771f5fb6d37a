//! What of this machine a run may use: threads and memory.

use crate::detect::Cpu;

/// Threads that this process may run at once.
pub(crate) fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Bytes that a run may hold: what the machine (or the control group that this process is in) has.
pub(crate) fn memory_limit() -> u64 {
    let group = std::fs::read_to_string("/sys/fs/cgroup/memory.max")
        .ok()
        .and_then(|text| text.trim().parse::<u64>().ok());
    let machine = Cpu::detect().memory;
    // Without any figure, what an address can reach; allocation itself may still fail, and says so.
    group.into_iter().chain(machine).min().unwrap_or(1 << 47)
}
