//! Reproducible random operands.

use anychip_tensor::{DType, Tensor};

/// A small generator (Knuth's MMIX linear congruence, high bits used): the same numbers everywhere for a seed.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Starts from a seed.
    pub fn new(seed: u64) -> Random {
        let mut random = Random(seed ^ 0x9e37_79b9_7f4a_7c15);
        random.bits();
        random
    }

    /// A seed from a case's name, so that a case has the same operands whatever runs before it.
    pub fn seed_of(name: &str) -> u64 {
        // FNV-1a, 64 bits.
        name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
        })
    }

    fn bits(&mut self) -> u32 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 32) as u32
    }

    /// An integer below `n`, which is not 0.
    pub fn below(&mut self, n: usize) -> usize {
        ((u64::from(self.bits()) * n as u64) >> 32) as usize
    }

    /// An integer from `low` to `high`, both included.
    pub fn range(&mut self, low: usize, high: usize) -> usize {
        low + self.below(high + 1 - low)
    }

    /// True in `percent` of a hundred.
    pub fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    /// One of `choices`, which are not none.
    pub fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    /// A number in `low..high`.
    pub fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * f64::from(self.bits()) / 4_294_967_296.0
    }

    /// A tensor whose elements lie in `low..high`, rounded to the type.
    pub fn tensor(&mut self, dtype: DType, shape: &[usize], low: f64, high: f64) -> Tensor {
        let values: Vec<f64> =
            (0..shape.iter().product::<usize>()).map(|_| self.between(low, high)).collect();
        Tensor::from_f64(dtype, shape, &values).expect("test shapes are small")
    }

    /// A tensor of what suits the type: floats in −2..2, signed integers in −9..9, unsigned in 0..9, `bool` either.
    pub fn suitable(&mut self, dtype: DType, shape: &[usize]) -> Tensor {
        match dtype {
            DType::Bool => {
                let values: Vec<bool> =
                    (0..shape.iter().product::<usize>()).map(|_| self.below(2) == 1).collect();
                Tensor::from_bools(shape, values).expect("test shapes are small")
            }
            float if float.is_float() => self.tensor(dtype, shape, -2.0, 2.0),
            signed if signed.is_signed_integer() => self.tensor(dtype, shape, -9.0, 10.0),
            _ => self.tensor(dtype, shape, 0.0, 10.0),
        }
    }

    /// Indices into a dim of `size`, some of them negative.
    pub fn indices(&mut self, shape: &[usize], size: usize) -> Tensor {
        let n = size as f64;
        let values: Vec<f64> =
            (0..shape.iter().product::<usize>()).map(|_| self.between(-n, n).floor()).collect();
        Tensor::from_f64(DType::I64, shape, &values).expect("test shapes are small")
    }
}
