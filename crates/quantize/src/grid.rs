//! The numbers that integers of a type stand for: a scale and a zero point.

use anychip_tensor::DType;

/// `(q − zero_point) · scale` for every `q` of an 8-bit type.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Grid {
    /// `i8` or `u8`.
    pub dtype: DType,
    /// The step; above zero.
    pub scale: f32,
    /// The integer that stands for 0.
    pub zero_point: i32,
}

/// Which grids are allowed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GridOptions {
    /// `i8` or `u8`.
    pub dtype: DType,
    /// The zero point is 0, as some accelerators need it.
    pub symmetric: bool,
    /// Scales are powers of two, for hardware that shifts.
    pub power_of_two: bool,
}

impl Grid {
    /// The least and the largest integer used: symmetric grids leave −128 out.
    pub fn limits(dtype: DType, symmetric: bool) -> (i32, i32) {
        match (dtype, symmetric) {
            (DType::U8, _) => (0, 255),
            (_, true) => (-127, 127),
            (_, false) => (-128, 127),
        }
    }

    /// The grid that reaches from `low` to `high`, with 0 on it. Of an empty range any scale will do; it is 1.
    pub fn reaching(low: f64, high: f64, options: GridOptions) -> Grid {
        let (low, high) = (low.min(0.0), high.max(0.0));
        let (least, most) = Grid::limits(options.dtype, options.symmetric);
        let step = if options.symmetric {
            // An unsigned symmetric grid has no negative side.
            high.max(if least == 0 { 0.0 } else { -low }) / f64::from(most)
        } else {
            (high - low) / f64::from(most - least)
        };
        let scale = usable(step, options.power_of_two);
        let zero_point = if options.symmetric {
            0
        } else {
            let exact = f64::from(least) - low / f64::from(scale);
            (exact.round_ties_even() as i32).clamp(least, most)
        };
        Grid { dtype: options.dtype, scale, zero_point }
    }

    /// The numbers at the ends of the grid.
    pub fn ends(&self, symmetric: bool) -> (f64, f64) {
        let (least, most) = Grid::limits(self.dtype, symmetric);
        let at = |q: i32| f64::from(q - self.zero_point) * f64::from(self.scale);
        (at(least), at(most))
    }
}

/// A step as a scale: a normal number above zero, a power of two where asked.
pub(crate) fn usable(step: f64, power_of_two: bool) -> f32 {
    if step.is_nan() || step < f64::from(f32::MIN_POSITIVE) {
        return 1.0;
    }
    let step = if power_of_two { step.log2().ceil().exp2() } else { step };
    step.min(f64::from(f32::MAX)) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: GridOptions =
        GridOptions { dtype: DType::I8, symmetric: false, power_of_two: false };

    #[test]
    fn zero_is_on_every_grid() {
        for (low, high) in [(-1.0, 3.0), (0.5, 2.0), (-7.0, -1.0), (0.0, 0.0)] {
            let grid = Grid::reaching(low, high, PLAIN);
            assert!((-128..=127).contains(&grid.zero_point));
            let (least, most) = grid.ends(false);
            assert!(least <= low.min(0.0) + f64::from(grid.scale));
            assert!(most >= high.max(0.0) - f64::from(grid.scale));
        }
    }

    #[test]
    fn a_symmetric_grid_of_shifts() {
        let grid = Grid::reaching(
            -1.0,
            0.5,
            GridOptions { dtype: DType::I8, symmetric: true, power_of_two: true },
        );
        assert_eq!((grid.zero_point, grid.scale), (0, 1.0 / 64.0));
    }
}
