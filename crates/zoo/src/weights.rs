//! Weights that nobody trained: random numbers that follow from a seed, made when they are first read.
//!
//! Element `i` of a tensor depends on the tensor's key and on `i` alone, so equal seeds give equal bits on every machine
//! and in any order. The generator is SplitMix64 used as a hash of a counter (Steele, Lea, Flood: "Fast splittable
//! pseudorandom number generators", OOPSLA 2014): a few operations for two numbers, because a model of a hundred
//! million weights should not take longer to fill than to run.

use anychip_tensor::{DType, Tensor, TensorError};
use half::{bf16, f16};

/// The step of SplitMix64's counter: 2^64 over the golden ratio, odd.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// SplitMix64's output function.
pub(crate) fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A tensor of numbers spread evenly from `low` to `high`, which `key` alone decides. `dtype` is `f16`, `bf16` or `f32`.
pub(crate) fn uniform(
    dtype: DType,
    shape: &[usize],
    key: u64,
    low: f32,
    high: f32,
) -> Result<Tensor, TensorError> {
    let count = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
    let count = count.ok_or_else(|| TensorError::TooLarge(shape.to_vec()))?;
    Tensor::deferred(dtype, shape, move || {
        let draw = |i: usize| {
            let word = mix(key.wrapping_add((i as u64 / 2 + 1).wrapping_mul(STEP)));
            let half = if i.is_multiple_of(2) { word as u32 } else { (word >> 32) as u32 };
            // 24 bits are what a single holds.
            low + (high - low) * ((half >> 8) as f32 / (1u32 << 24) as f32)
        };
        let made = match dtype {
            DType::F16 => {
                Tensor::from_vec([count], (0..count).map(|i| f16::from_f32(draw(i))).collect())
            }
            DType::BF16 => {
                Tensor::from_vec([count], (0..count).map(|i| bf16::from_f32(draw(i))).collect())
            }
            _ => Tensor::from_vec([count], (0..count).map(draw).collect::<Vec<f32>>()),
        };
        made.expect("as many elements as were counted").bytes().clone()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_keys_give_equal_bits_and_others_do_not() {
        let draw = |key| uniform(DType::F32, &[7, 9], key, -1.0, 1.0).unwrap();
        assert_eq!(draw(3), draw(3));
        assert_ne!(draw(3), draw(4));
        // The first elements of key 1: what another machine must draw too.
        let first = draw(1).elements::<f32>().unwrap()[..3].to_vec();
        assert_eq!(first, draw(1).elements::<f32>().unwrap()[..3]);
        assert!(first.iter().all(|x| (-1.0..1.0).contains(x)));
    }

    #[test]
    fn numbers_are_spread_evenly() {
        for dtype in [DType::F32, DType::F16, DType::BF16] {
            let x = uniform(dtype, &[100_000], 11, -2.0, 4.0).unwrap().to_f64();
            let mean = x.iter().sum::<f64>() / x.len() as f64;
            let variance = x.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / x.len() as f64;
            // The standard errors are 0.005 and 0.009.
            assert!((mean - 1.0).abs() < 0.03, "{dtype}: mean {mean}");
            assert!((variance - 3.0).abs() < 0.05, "{dtype}: variance {variance}");
        }
    }

    #[test]
    fn absurd_shapes_are_refused() {
        assert!(uniform(DType::F32, &[1 << 40, 1 << 40], 0, 0.0, 1.0).is_err());
    }
}
