//! What this CPU is: instruction set, cores, caches, name, and on request its measured peak arithmetic and read bandwidth.
//!
//! Facts come from `cpuid`, `/proc` and `/sys`; what a system does not tell is `None`, never a guess. The measurements take no
//! decision: kernels choose their blocking from [`Caches`], reports use the peaks.
#![allow(
    clippy::inline_always,
    reason = "vector loops must take on the instruction set of their entrance, see `simd`"
)]
#![allow(
    unsafe_code,
    reason = "the peak is measured with vector registers, dispatched by instruction set"
)]

use crate::kernel::blocked::multiply_codes;
use crate::pool::Pool;
use crate::simd::{Task, Vector, dispatch};
use std::hint::black_box;
use std::time::{Duration, Instant};

/// An instruction set the kernels are written for.
///
/// A value above `Scalar` is only handed out when this CPU has it ([`Simd::detect`], [`Simd::at_most`], [`Simd::available`]);
/// naming a variant for another CPU and running a kernel with it is caught by [`Simd::at_most`], which every kernel constructor
/// calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Simd {
    /// Plain Rust, any CPU.
    Scalar,
    /// 128-bit vectors of `AArch64`.
    Neon,
    /// 256-bit vectors with fused multiply-add (x86-64-v3).
    Avx2,
    /// 512-bit vectors (x86-64-v4: F, BW, CD, DQ, VL).
    Avx512,
}

impl Simd {
    /// The widest this CPU has.
    pub fn detect() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = is_x86_feature_detected!("avx2")
                && is_x86_feature_detected!("fma")
                && is_x86_feature_detected!("f16c")
                && is_x86_feature_detected!("bmi1")
                && is_x86_feature_detected!("bmi2")
                && is_x86_feature_detected!("lzcnt")
                && is_x86_feature_detected!("popcnt");
            let avx512 = avx2
                && is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512cd")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl");
            if avx512 {
                return Self::Avx512;
            }
            if avx2 {
                return Self::Avx2;
            }
            Self::Scalar
        }
        #[cfg(target_arch = "aarch64")]
        {
            Self::Neon
        }
        #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
        {
            Self::Scalar
        }
    }

    /// `self`, or the widest this CPU has if it lacks `self`.
    #[must_use]
    pub fn at_most(self) -> Self {
        // Without `available`, which allocates: kernels call this as they run.
        let best = Self::detect();
        let present = match self {
            Self::Scalar => true,
            Self::Neon => best == Self::Neon,
            Self::Avx2 => best == Self::Avx2 || best == Self::Avx512,
            Self::Avx512 => best == Self::Avx512,
        };
        if present { self } else { best }
    }

    /// Everything this CPU can run, narrowest first.
    pub fn available() -> Vec<Self> {
        match Self::detect() {
            Self::Avx512 => vec![Self::Scalar, Self::Avx2, Self::Avx512],
            Self::Avx2 => vec![Self::Scalar, Self::Avx2],
            Self::Neon => vec![Self::Scalar, Self::Neon],
            Self::Scalar => vec![Self::Scalar],
        }
    }

    /// `f32` lanes in one register.
    pub fn lanes(self) -> usize {
        match self {
            Self::Avx512 => 16,
            Self::Avx2 => 8,
            Self::Neon | Self::Scalar => 4,
        }
    }

    /// The name that options give it.
    pub fn option(self) -> &'static str {
        match self {
            Self::Avx512 => "avx512",
            Self::Avx2 => "avx2",
            Self::Neon => "neon",
            Self::Scalar => "scalar",
        }
    }

    /// The usual name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Avx512 => "AVX-512",
            Self::Avx2 => "AVX2",
            Self::Neon => "NEON",
            Self::Scalar => "scalar",
        }
    }
}

/// Whether the CPU multiplies 8-bit integers into 32-bit sums in one instruction (AVX-512 VNNI).
pub fn has_avx512_vnni() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        Simd::detect() == Simd::Avx512 && is_x86_feature_detected!("avx512vnni")
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        false
    }
}

/// Data cache sizes in bytes, of one core and of one socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caches {
    /// First level, data.
    pub l1: Option<u64>,
    /// Second level.
    pub l2: Option<u64>,
    /// Third level, shared.
    pub l3: Option<u64>,
}

impl Caches {
    /// From `/sys/devices/system/cpu/cpu0/cache`; all `None` where there is no such folder.
    pub fn detect() -> Self {
        let mut caches = Self { l1: None, l2: None, l3: None };
        for index in 0..8 {
            let read = |file: &str| {
                std::fs::read_to_string(format!(
                    "/sys/devices/system/cpu/cpu0/cache/index{index}/{file}"
                ))
                .ok()
            };
            let (Some(level), Some(kind), Some(size)) = (read("level"), read("type"), read("size"))
            else {
                continue;
            };
            if kind.trim() == "Instruction" {
                continue;
            }
            let bytes = parse_size(size.trim());
            match level.trim() {
                "1" => caches.l1 = bytes,
                "2" => caches.l2 = bytes,
                "3" => caches.l3 = bytes,
                _ => {}
            }
        }
        caches
    }

    /// [`Caches::detect`], read once in the life of the process.
    pub fn detect_once() -> Self {
        static CACHES: std::sync::OnceLock<Caches> = std::sync::OnceLock::new();
        *CACHES.get_or_init(Self::detect)
    }

    /// What blocking should count on per core: first and second level, with the common 32 KiB and 512 KiB when unknown.
    pub fn for_blocking(&self) -> (usize, usize) {
        let l1 = self.l1.unwrap_or(32 << 10).clamp(16 << 10, 256 << 10);
        let l2 = self.l2.unwrap_or(512 << 10).clamp(128 << 10, 16 << 20);
        (l1 as usize, l2 as usize)
    }
}

/// `48K`, `2048K`, `300M` or a bare number of bytes.
fn parse_size(text: &str) -> Option<u64> {
    let (digits, shift) = match text.as_bytes().last()? {
        b'K' => (&text[..text.len() - 1], 10),
        b'M' => (&text[..text.len() - 1], 20),
        b'G' => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    digits.parse::<u64>().ok()?.checked_shl(shift)
}

/// The CPU this process runs on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cpu {
    /// As the manufacturer calls it.
    pub name: Option<String>,
    /// Hardware threads this process may use.
    pub threads: usize,
    /// Physical cores of the machine.
    pub cores: Option<usize>,
    /// Widest instruction set with kernels here.
    pub simd: Simd,
    /// Cache sizes.
    pub caches: Caches,
    /// Main memory in bytes.
    pub memory: Option<u64>,
}

impl Cpu {
    /// Reads the facts; costs well under a millisecond.
    pub fn detect() -> Self {
        let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let memory = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
            let kib =
                field(&text, "MemTotal")?.trim_end_matches("kB").trim().parse::<u64>().ok()?;
            kib.checked_mul(1024)
        });
        Self {
            name: name_from_cpuid()
                .or_else(|| field(&info, "model name"))
                .or_else(|| field(&info, "Model")),
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            cores: physical_cores(&info),
            simd: Simd::detect(),
            caches: Caches::detect(),
            memory,
        }
    }
}

/// The value of the first `key : value` line.
fn field(text: &str, key: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        (name.trim() == key && !value.trim().is_empty()).then(|| value.trim().to_owned())
    })
}

/// Distinct (physical id, core id) pairs of `/proc/cpuinfo`.
fn physical_cores(info: &str) -> Option<usize> {
    let mut seen = Vec::new();
    let mut package = "";
    for line in info.lines() {
        let Some((key, value)) = line.split_once(':') else { continue };
        match key.trim() {
            "physical id" => package = value.trim(),
            "core id" => {
                let pair = (package, value.trim());
                if !seen.contains(&pair) {
                    seen.push(pair);
                }
            }
            _ => {}
        }
    }
    (!seen.is_empty()).then_some(seen.len())
}

/// The processor's manufacturer as `cpuid` leaf 0 says it; empty where there is no such instruction, or it is not interpreted.
#[cfg(all(target_arch = "x86_64", not(miri)))]
pub(crate) fn vendor() -> String {
    let leaf = std::arch::x86_64::__cpuid(0);
    let bytes: Vec<u8> =
        [leaf.ebx, leaf.edx, leaf.ecx].iter().flat_map(|word| word.to_le_bytes()).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(any(not(target_arch = "x86_64"), miri))]
pub(crate) fn vendor() -> String {
    String::new()
}

/// The brand string of `cpuid` leaves `8000_0002` to `8000_0004` (Intel SDM volume 2A, CPUID).
#[cfg(target_arch = "x86_64")]
fn name_from_cpuid() -> Option<String> {
    use std::arch::x86_64::__cpuid;
    if __cpuid(0x8000_0000).eax < 0x8000_0004 {
        return None;
    }
    let mut bytes = Vec::with_capacity(48);
    for leaf in 0x8000_0002..=0x8000_0004u32 {
        let r = __cpuid(leaf);
        for word in [r.eax, r.ebx, r.ecx, r.edx] {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
    }
    let text = String::from_utf8_lossy(&bytes);
    let name = text.trim_end_matches('\0').split_whitespace().collect::<Vec<_>>().join(" ");
    (!name.is_empty()).then_some(name)
}

#[cfg(not(target_arch = "x86_64"))]
fn name_from_cpuid() -> Option<String> {
    None
}

/// Peaks measured by [`Peaks::measure`]. Other load on the machine lowers them; the best of several rounds is kept.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Peaks {
    /// `f32` operations a second of one core, a fused multiply-add counted as two.
    pub flops_one_core: f64,
    /// The same with every thread of the pool.
    pub flops_all_cores: f64,
    /// Operations a second on 8-bit codes with every thread of the pool, by the tile of the convolutions.
    pub integer_operations_all_cores: f64,
    /// Bytes a second read from main memory with every thread of the pool.
    pub read_bandwidth: f64,
}

impl Peaks {
    /// Runs the micro-benchmarks, 240 ms at most, with the threads of `pool`.
    pub fn measure(simd: Simd, pool: &Pool) -> Self {
        let simd = simd.at_most();
        let flops_one_core = best(Duration::from_millis(40), || {
            let (operations, seconds) = timed(|| dispatch(simd, FmaLoop(30_000)));
            operations / seconds
        });
        let threads = pool.threads();
        let flops_all_cores = if threads == 1 {
            flops_one_core
        } else {
            best(Duration::from_millis(40), || {
                let totals: Vec<std::sync::atomic::AtomicU64> =
                    (0..threads).map(|_| 0.into()).collect();
                let ((), seconds) = timed(|| {
                    pool.parallel_for(threads, |task, _| {
                        let done = dispatch(simd, FmaLoop(100_000));
                        totals[task].store(done as u64, std::sync::atomic::Ordering::Relaxed);
                    });
                });
                totals
                    .iter()
                    .map(|t| t.load(std::sync::atomic::Ordering::Relaxed) as f64)
                    .sum::<f64>()
                    / seconds
            })
        };
        let integer_operations_all_cores = best(Duration::from_millis(40), || {
            let (operations, seconds) = timed(|| multiply_codes(simd, pool));
            operations / seconds
        });
        Self {
            flops_one_core,
            flops_all_cores,
            integer_operations_all_cores,
            read_bandwidth: read_bandwidth(simd, pool),
        }
    }
}

fn timed<R>(f: impl FnOnce() -> R) -> (R, f64) {
    let start = Instant::now();
    let result = f();
    (result, start.elapsed().as_secs_f64())
}

/// The largest rate within `budget`, three rounds at least.
fn best(budget: Duration, mut rate: impl FnMut() -> f64) -> f64 {
    let start = Instant::now();
    let mut best = 0.0f64;
    let mut rounds = 0;
    while rounds < 3 || start.elapsed() < budget {
        best = best.max(rate());
        rounds += 1;
    }
    best
}

/// Independent multiply-adds in registers, enough of them to hide their latency; gives the operations done.
struct FmaLoop(usize);
impl Task for FmaLoop {
    type Output = f64;
    #[inline(always)]
    fn run<V: Vector>(self) -> f64 {
        const CHAINS: usize = 12;
        let factor = V::splat(black_box(0.999_9));
        let step = V::splat(black_box(1e-4));
        let mut chains = [V::splat(1.0); CHAINS];
        for _ in 0..self.0 {
            for chain in &mut chains {
                *chain = chain.fma(factor, step);
            }
        }
        let mut sum = 0.0;
        for chain in chains {
            sum += chain.sum();
        }
        black_box(sum);
        (self.0 * CHAINS * V::LANES * 2) as f64
    }
}

/// Sums a buffer; four chains so the loads, not the additions, are the limit.
struct SumLoop<'a>(&'a [f32]);
impl Task for SumLoop<'_> {
    type Output = f32;
    #[inline(always)]
    fn run<V: Vector>(self) -> f32 {
        let mut sums = [V::zero(); 4];
        let step = 4 * V::LANES;
        let mut i = 0;
        while i + step <= self.0.len() {
            for (j, sum) in sums.iter_mut().enumerate() {
                // SAFETY: `i + step` is within the slice.
                *sum = sum.add(unsafe { V::load(self.0.as_ptr().add(i + j * V::LANES)) });
            }
            i += step;
        }
        sums[0].add(sums[1]).add(sums[2].add(sums[3])).sum()
    }
}

/// Reads 64 MiB a thread, past the second level; on machines with a larger last level this is the bandwidth behind the caches of
/// a core, so the buffer is cycled through twice at most to stay within the time.
fn read_bandwidth(simd: Simd, pool: &Pool) -> f64 {
    const CHUNK: usize = 1 << 18;
    let chunks = 64 * pool.threads().min(4);
    let buffer = vec![1.0f32; CHUNK * chunks];
    best(Duration::from_millis(40), || {
        let ((), seconds) = timed(|| {
            pool.parallel_for(chunks, |task, _| {
                black_box(dispatch(simd, SumLoop(&buffer[task * CHUNK..(task + 1) * CHUNK])));
            });
        });
        (buffer.len() * 4) as f64 / seconds
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_parsed() {
        assert_eq!(parse_size("48K"), Some(48 << 10));
        assert_eq!(parse_size("300M"), Some(300 << 20));
        assert_eq!(parse_size("64"), Some(64));
        assert_eq!(parse_size("x"), None);
    }

    #[test]
    fn cores_are_counted_once() {
        let info = "physical id\t: 0\ncore id\t: 0\n\nphysical id\t: 0\ncore id\t: 0\n\nphysical id : 1\ncore id : 0\n";
        assert_eq!(physical_cores(info), Some(2));
        assert_eq!(physical_cores(""), None);
    }

    #[test]
    fn an_absent_instruction_set_is_lowered() {
        let cpu = Cpu::detect();
        assert!(Simd::available().contains(&cpu.simd));
        for simd in [Simd::Scalar, Simd::Neon, Simd::Avx2, Simd::Avx512] {
            assert!(Simd::available().contains(&simd.at_most()));
        }
        assert_eq!(Simd::Scalar.at_most(), Simd::Scalar);
    }

    #[test]
    fn peaks_are_positive_and_ordered() {
        let peaks = Peaks::measure(Simd::detect(), &Pool::new(2));
        assert!(peaks.flops_one_core > 1e8 && peaks.read_bandwidth > 1e8);
        assert!(peaks.flops_all_cores > 0.3 * peaks.flops_one_core);
    }
}
