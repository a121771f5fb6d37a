//! One kernel in 32-bit floats beside a chip: its roofline, and the features of what that leaves over.

use anychip_chips::{Chip, Family};

use crate::kernel::Kernel;
use crate::serving::engine::roofline;
use crate::serving::{Engine, Regime, Sized};

/// How many features a kernel has.
pub const SINGLE_FEATURES: usize = 18;

/// Bytes of a kernel without a product that one unit takes at once.
const CHUNK: f64 = 65_536.0;

/// The software platform of a GPU: kernels of different vendors' libraries have nothing in common. `None` where none was measured.
pub fn platform(chip: &Chip) -> Option<&'static str> {
    match (chip.family, chip.vendor.as_str()) {
        (Family::Gpu, "NVIDIA") => Some("cuda"),
        (Family::Gpu, "AMD") => Some("rocm"),
        _ => None,
    }
}

/// The roofline of one kernel, what bounds it, and its features.
pub fn single_kernel(kernel: &Kernel, engine: &Engine) -> Sized {
    let product = kernel.class.is_product();
    let size = |v: f64| if product { v.max(1.0) } else { 1.0 };
    let (rows, columns, depth) = (size(kernel.rows), size(kernel.columns), size(kernel.depth));
    let groups = size(kernel.groups);
    let bytes = (kernel.bytes + kernel.weight_bytes).max(1.0);
    let arithmetic = 2.0 * kernel.macs / engine.peak;
    let start = engine.start(0.0);
    let tiles = |r: f64, c: f64| {
        if product {
            groups * (rows / r).ceil() * (columns / c).ceil()
        } else {
            (bytes / CHUNK).ceil()
        }
    };
    let traffic = bytes / engine.bandwidth;
    let drawn = bytes / engine.drawn(tiles(64.0, 64.0));
    let seconds = roofline(arithmetic, drawn, start);
    let waves = |r: f64, c: f64| tiles(r, c) / engine.units;
    // How much longer the last, partly filled wave makes it.
    let uneven = |r: f64, c: f64| waves(r, c).ceil() / waves(r, c);
    let aligned = |v: f64| f64::from(u8::from(v % 4.0 == 0.0));
    let row = vec![
        rows.ln(),
        columns.ln(),
        depth.ln(),
        groups.ln(),
        kernel.area.max(1.0).ln(),
        (arithmetic / start + 1e-6).ln(),
        (drawn / start).ln(),
        (arithmetic / traffic + 1e-6).ln(),
        waves(128.0, 128.0).ln(),
        uneven(128.0, 128.0),
        waves(64.0, 64.0).ln(),
        uneven(64.0, 64.0),
        (rows / 64.0).ceil() * 64.0 / rows,
        (columns / 64.0).ceil() * 64.0 / columns,
        (bytes / engine.cache).ln(),
        aligned(rows),
        aligned(columns),
        aligned(depth),
    ];
    debug_assert_eq!(row.len(), SINGLE_FEATURES);
    (seconds.ln(), Regime::of(arithmetic, traffic, start), row)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::Class;

    fn chip(id: &str) -> Chip {
        let catalog = anychip_chips::Catalog::builtin().expect("built in");
        catalog.find(id).expect("in the catalog").clone()
    }

    #[test]
    fn vendors_have_platforms() {
        assert_eq!(platform(&chip("amd-mi210")), Some("rocm"));
        assert_eq!(platform(&chip("intel-core-i9-10940x")), None);
    }

    #[test]
    fn features_are_as_many_as_said_and_finite() {
        let engine =
            Engine::of(&chip("nvidia-t4"), anychip_chips::Precision::F32).expect("all figures");
        let product = Kernel {
            macs: 1e9,
            rows: 1e3,
            columns: 1e3,
            depth: 1e3,
            groups: 1.0,
            ..Kernel::moving(Class::Linear, 1.2e7)
        };
        for kernel in [product, Kernel::moving(Class::Norm, 1e7), Kernel::moving(Class::Copy, 0.0)]
        {
            let (seconds, _, row) = single_kernel(&kernel, &engine);
            assert_eq!(row.len(), SINGLE_FEATURES);
            assert!(seconds.is_finite() && row.iter().all(|v| v.is_finite()), "{row:?}");
        }
    }
}
