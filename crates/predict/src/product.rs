//! Single matrix products in the software of language models: formula and learned residual.
//!
//! Unlike a whole model, one product shows how its tiles divide among a chip's units, so the features know both.
//! Times are taken relative to a roofline with the time a kernel needs to start and finish at the chip's clock.

use serde::{Deserialize, Serialize};

use crate::trees::Trees;

/// One product `m × k` by `k × n`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Product {
    /// Rows of the activations.
    pub m: f64,
    /// Columns of the weights.
    pub n: f64,
    /// The dimension summed over.
    pub k: f64,
    /// Bytes of one activation and of one weight; results are two bytes.
    pub activation_bytes: f64,
    /// Bytes of one weight.
    pub weight_bytes: f64,
    /// The place of its number format in the table's list.
    pub format: usize,
    /// The place of its software in the table's list, versions side by side.
    pub software: usize,
}

/// What a chip offers to a product.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Engine {
    /// Dense operations a second in the product's format.
    pub peak: f64,
    /// Bytes a second of main memory.
    pub bandwidth: f64,
    /// Bytes of the last cache.
    pub cache: f64,
    /// Units that tiles are dealt to.
    pub units: f64,
    /// Their clock, Hz.
    pub clock: f64,
}

/// The side of a tile, for how tiles divide among units.
const TILE: f64 = 128.0;
/// The share of peaks that the roofline counts with.
const SHARE: f64 = 0.8;
/// Clocks that a kernel takes to start, to fill its pipeline and to finish; the roofline's floor.
const START_CLOCKS: f64 = 5500.0;
/// Clocks that one step along the dimension summed over takes in a kernel too small to fill the chip.
const STEP_CLOCKS: f64 = 1.0;

impl Product {
    /// The logarithm of the roofline's seconds, and the features of what it leaves over.
    pub fn features(&self, engine: &Engine) -> (f64, Vec<f64>) {
        let Self { m, n, k, activation_bytes, weight_bytes, format, software } = *self;
        let bytes = weight_bytes * n * k + activation_bytes * m * k + 2.0 * m * n;
        let arithmetic = 2.0 * m * n * k / engine.peak;
        let traffic = bytes / engine.bandwidth;
        let start = (START_CLOCKS + STEP_CLOCKS * k.min(8192.0)) / engine.clock;
        let roofline = arithmetic.max(traffic) / SHARE + start;
        let tiles = (m / TILE).ceil() * (n / TILE).ceil();
        let waves = tiles / engine.units;
        let small = (m / 64.0).ceil() * (n / 64.0).ceil() / engine.units;
        let aligned = |v: f64, to: f64| f64::from(u8::from(v % to == 0.0));
        let row = vec![
            m.ln(),
            n.ln(),
            k.ln(),
            (arithmetic / start).ln(),
            (traffic / start).ln(),
            (arithmetic / traffic).ln(),
            waves.ln(),
            waves.ceil() / waves,
            small.ln(),
            small.ceil() / small,
            (m / 64.0).ceil() * 64.0 / m,
            (n / TILE).ceil() * TILE / n,
            (bytes / engine.cache).ln(),
            aligned(m, 8.0),
            aligned(n, 64.0),
            aligned(k, 64.0),
            format as f64,
            software as f64,
        ];
        (roofline.ln(), row)
    }
}

/// How many features a product has.
pub const PRODUCT_FEATURES: usize = 18;

/// A fitted predictor of products.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Products {
    /// What [`Product::format`] counts.
    pub formats: Vec<String>,
    /// What [`Product::software`] counts.
    pub software: Vec<String>,
    /// The residual.
    pub residual: Trees,
    /// The quantiles 0.1 and 0.9 of logarithmic errors on devices left out.
    pub quantiles: [f64; 2],
}

impl Products {
    /// The logarithm of the seconds of one product.
    pub fn log_seconds(&self, product: &Product, engine: &Engine) -> f64 {
        let (roofline, row) = product.features(engine);
        roofline + self.residual.predict(&row)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_are_as_many_as_said_and_finite() {
        let engine = Engine { peak: 3e14, bandwidth: 2e12, cache: 4e7, units: 108.0, clock: 1.4e9 };
        for size in [1.0, 17.0, 65536.0] {
            let product = Product {
                m: size,
                n: size,
                k: size,
                activation_bytes: 2.0,
                weight_bytes: 0.5,
                format: 3,
                software: 1,
            };
            let (roofline, row) = product.features(&engine);
            assert_eq!(row.len(), PRODUCT_FEATURES);
            assert!(roofline.is_finite() && row.iter().all(|v| v.is_finite()));
        }
    }
}
