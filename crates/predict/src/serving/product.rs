//! Single matrix products in the software of language models.
//!
//! Unlike a whole model, one product shows how its tiles divide among a chip's units, so the features know both.

use super::engine::{Engine, roofline};

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
}

/// How many features a product has.
pub const PRODUCT_FEATURES: usize = 25;

impl Product {
    /// The logarithm of the roofline's seconds, what bounds it, and the features of what it leaves over.
    pub fn features(&self, engine: &Engine) -> (f64, Regime, Vec<f64>) {
        let Self { m, n, k, activation_bytes, weight_bytes } = *self;
        let bytes = weight_bytes * n * k + activation_bytes * m * k + 2.0 * m * n;
        let arithmetic = 2.0 * m * n * k / engine.peak;
        // One step along the dimension summed over takes a clock in a kernel too small to fill the chip.
        let start = engine.start(k.min(8192.0));
        let tiles = |rows: f64, columns: f64| (m / rows).ceil() * (n / columns).ceil();
        let traffic = bytes / engine.bandwidth;
        let drawn = bytes / engine.drawn(tiles(64.0, 64.0));
        let seconds = roofline(arithmetic, drawn, start);
        let waves = |rows: f64, columns: f64| tiles(rows, columns) / engine.units;
        // How much longer the last, partly filled wave makes it.
        let uneven = |rows: f64, columns: f64| {
            let waves = waves(rows, columns);
            waves.ceil() / waves
        };
        let tile = 2.0 * 128.0 * 128.0 * k / (engine.peak / engine.units);
        let aligned = |v: f64, to: f64| f64::from(u8::from(v % to == 0.0));
        let row = vec![
            m.ln(),
            n.ln(),
            k.ln(),
            (arithmetic / start).ln(),
            (traffic / start).ln(),
            (arithmetic / traffic).ln(),
            waves(128.0, 128.0).ln(),
            uneven(128.0, 128.0),
            waves(64.0, 64.0).ln(),
            uneven(64.0, 64.0),
            (m / 64.0).ceil() * 64.0 / m,
            (n / 128.0).ceil() * 128.0 / n,
            (bytes / engine.cache).ln(),
            aligned(m, 8.0),
            aligned(n, 64.0),
            aligned(k, 64.0),
            waves(128.0, 256.0).ln(),
            uneven(128.0, 256.0),
            uneven(64.0, 128.0),
            uneven(256.0, 128.0),
            (tile / start).ln(),
            (drawn / start).ln(),
            (m / n).ln(),
            (k / (m * n).sqrt()).ln(),
            engine.operations_per_clock().ln(),
        ];
        debug_assert_eq!(row.len(), PRODUCT_FEATURES);
        (seconds.ln(), Regime::of(arithmetic, traffic, start), row)
    }
}

/// What bounds a kernel by the roofline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Regime {
    /// It is over before it has well begun.
    Start,
    /// Memory.
    Traffic,
    /// Arithmetic.
    Arithmetic,
}

impl Regime {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Start, Self::Traffic, Self::Arithmetic];

    /// The longest of three times.
    pub(crate) fn of(arithmetic: f64, traffic: f64, start: f64) -> Self {
        if arithmetic.max(traffic) < start {
            Self::Start
        } else if arithmetic > traffic {
            Self::Arithmetic
        } else {
            Self::Traffic
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENGINE: Engine =
        Engine { peak: 3e14, bandwidth: 2e12, cache: 4e7, units: 108.0, clock: 1.4e9 };

    fn square(size: f64) -> Product {
        Product { m: size, n: size, k: size, activation_bytes: 2.0, weight_bytes: 0.5 }
    }

    #[test]
    fn features_are_as_many_as_said_and_finite() {
        for size in [1.0, 17.0, 65536.0] {
            let (roofline, _, row) = square(size).features(&ENGINE);
            assert_eq!(row.len(), PRODUCT_FEATURES);
            assert!(roofline.is_finite() && row.iter().all(|v| v.is_finite()));
        }
    }

    #[test]
    fn regimes_follow_sizes() {
        assert_eq!(square(16.0).features(&ENGINE).1, Regime::Start);
        assert_eq!(square(16384.0).features(&ENGINE).1, Regime::Arithmetic);
        let thin = Product { m: 1.0, ..square(16384.0) };
        assert_eq!(thin.features(&ENGINE).1, Regime::Traffic);
    }
}
