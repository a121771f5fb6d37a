//! Random numbers from a counter: element `i` depends on the seed and on `i` alone.
//!
//! The generator is Philox 4×32 with ten rounds (Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as
//! easy as 1, 2, 3", SC 2011), so a target may fill any part of a result in any order.

use std::hash::{BuildHasher, Hasher};

use anychip_tensor::{DType, Tensor};

use super::values::round_to;
use crate::{Distribution, IrError};

pub(super) fn random(
    distribution: Distribution,
    dtype: DType,
    seed: Option<u64>,
    shape: Vec<usize>,
) -> Result<Tensor, IrError> {
    // Without a seed the standard library's per-process random state gives one.
    let seed = seed
        .unwrap_or_else(|| std::collections::hash_map::RandomState::new().build_hasher().finish());
    let count: usize = shape.iter().product();
    let data: Vec<f64> = (0..count as u64)
        .map(|i| {
            let (first, second) = uniform_pair(seed, i);
            match distribution {
                Distribution::Uniform { low, high } => {
                    let value = round_to(dtype, low + (high - low) * first);
                    // Rounding may reach the bound, which is excluded.
                    if value >= high && low < high { round_to(dtype, low) } else { value }
                }
                // Box and Muller, 1958; 1 − u is never 0.
                Distribution::Normal { mean, deviation } => {
                    let radius = (-2.0 * libm::log(1.0 - first)).sqrt();
                    mean + deviation * radius * libm::cos(std::f64::consts::TAU * second)
                }
            }
        })
        .collect();
    Ok(Tensor::from_f64(dtype, shape, &data)?)
}

/// Two numbers in `[0, 1)` with 53 bits each.
fn uniform_pair(seed: u64, counter: u64) -> (f64, f64) {
    let [a, b, c, d] = philox([counter as u32, (counter >> 32) as u32, 0, 0], seed);
    let unit = |low: u32, high: u32| {
        let bits = (u64::from(high) << 32 | u64::from(low)) >> 11;
        bits as f64 / (1u64 << 53) as f64
    };
    (unit(a, b), unit(c, d))
}

fn philox(mut counter: [u32; 4], seed: u64) -> [u32; 4] {
    let mut key = [seed as u32, (seed >> 32) as u32];
    for _ in 0..10 {
        let first = u64::from(counter[0]) * 0xD251_1F53;
        let second = u64::from(counter[2]) * 0xCD9E_8D57;
        counter = [
            (second >> 32) as u32 ^ counter[1] ^ key[0],
            second as u32,
            (first >> 32) as u32 ^ counter[3] ^ key[1],
            first as u32,
        ];
        key = [key[0].wrapping_add(0x9E37_79B9), key[1].wrapping_add(0xBB67_AE85)];
    }
    counter
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn philox_matches_the_published_vectors() {
        // The known-answer tests that accompany the paper (Random123, kat_vectors, philox4x32 10).
        assert_eq!(philox([0; 4], 0), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        assert_eq!(
            philox([u32::MAX; 4], u64::MAX),
            [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]
        );
    }

    #[test]
    fn numbers_follow_their_distribution() {
        let uniform = Distribution::Uniform { low: -1.0, high: 3.0 };
        let x = random(uniform, DType::F32, Some(7), vec![20_000]).unwrap().to_f64();
        assert!(x.iter().all(|&v| (-1.0..3.0).contains(&v)));
        let mean = x.iter().sum::<f64>() / x.len() as f64;
        assert!((mean - 1.0).abs() < 0.03, "{mean}");
        let normal = Distribution::Normal { mean: 5.0, deviation: 2.0 };
        let x = random(normal, DType::F64, Some(7), vec![20_000]).unwrap().to_f64();
        let mean = x.iter().sum::<f64>() / x.len() as f64;
        let variance = x.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / x.len() as f64;
        assert!((mean - 5.0).abs() < 0.06 && (variance - 4.0).abs() < 0.15, "{mean} {variance}");
    }

    #[test]
    fn a_seed_repeats_and_none_does_not() {
        let uniform = Distribution::Uniform { low: 0.0, high: 1.0 };
        let draw = |seed| random(uniform, DType::F32, seed, vec![8]).unwrap();
        assert_eq!(draw(Some(1)), draw(Some(1)));
        assert_ne!(draw(Some(1)), draw(Some(2)));
        assert_ne!(draw(None), draw(None));
    }
}
