//! The conformance suite on the processor that the tests run on, at each instruction set it has.

use anychip_cpu::CpuTarget;
use anychip_cpu::detect::Simd;

mod widest {
    use super::*;
    anychip_conformance::suite! { target: CpuTarget::new(), threads: [1, 2] }
}

mod avx2 {
    use super::*;
    anychip_conformance::suite! { target: CpuTarget::with_simd(Simd::Avx2), threads: [1] }
}

mod scalar {
    use super::*;
    anychip_conformance::suite! { target: CpuTarget::with_simd(Simd::Scalar), threads: [2] }
}
