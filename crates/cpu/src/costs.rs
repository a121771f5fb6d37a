//! What weights cost beside arithmetic on classes of machines: the table that formulas choose kernels by.
//!
//! Each row says where its figures are from. A machine of no class gets the first row's, which were fitted where memory is
//! slowest, so that what it is not known to be good at is not counted on. `--tune` measures instead.

use std::sync::OnceLock;

use crate::detect::{Simd, vendor};

/// The figures of one class.
#[derive(Debug)]
pub(crate) struct Costs {
    /// For `explain`.
    pub(crate) class: &'static str,
    vendor: &'static str,
    simd: Simd,
    /// Multiplications, a lane each, that a core does while it reads one weight that the second-level cache holds.
    pub(crate) near_weight: usize,
    /// The same for one that it does not hold.
    pub(crate) far_weight: usize,
}

static CLASSES: [Costs; 2] = [
    // A 2-core Xeon with 2 MiB of second-level cache a core, `kernel_bench`, 2026-11-23: predicts its 3 × 3 layers within a fifth.
    // 14 would do for far weights on a host with nothing else to do.
    Costs {
        class: "Xeon with AVX-512",
        vendor: "GenuineIntel",
        simd: Simd::Avx512,
        near_weight: 4,
        far_weight: 20,
    },
    // A 2-core EPYC of the third generation, 512 KiB of second-level cache a core, `bench zoo:resnet50 --tune`, 2026-12-01
    // (`measurements/tuning-zen3.tsv`): with 2 the formula gives Winograd 0.61, 0.54, 0.58 and 0.72 of the direct kernel's time on
    // ResNet-50's four 3 × 3 layers; measured were 0.58, 0.52, 0.56 and 0.73.
    Costs {
        class: "EPYC with AVX2",
        vendor: "AuthenticAMD",
        simd: Simd::Avx2,
        near_weight: 2,
        far_weight: 2,
    },
];

impl Costs {
    /// Those of this machine's class.
    pub(crate) fn here(simd: Simd) -> &'static Costs {
        static VENDOR: OnceLock<String> = OnceLock::new();
        let vendor = VENDOR.get_or_init(vendor);
        let row = CLASSES.iter().find(|row| row.simd == simd && row.vendor == vendor);
        row.unwrap_or(&CLASSES[0])
    }
}
