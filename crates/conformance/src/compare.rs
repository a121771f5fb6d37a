//! When two results are the same: exactly for integers, within the rounding of their type for floats.

use std::fmt;

use anychip_tensor::{DType, Tensor};

/// The first element that differs too much, and how many do.
#[derive(Debug, Clone, PartialEq)]
pub enum Mismatch {
    /// Element types or shapes differ.
    Type {
        /// What came out.
        found: String,
        /// What the reference gives.
        expected: String,
    },
    /// Elements differ.
    Elements {
        /// How many.
        count: usize,
        /// Of how many.
        of: usize,
        /// Position of the worst, row-major.
        at: usize,
        /// What came out there.
        found: f64,
        /// What the reference gives there.
        expected: f64,
    },
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Mismatch::Type { found, expected } => write!(f, "is {found}, expected {expected}"),
            Mismatch::Elements { count, of, at, found, expected } => {
                write!(
                    f,
                    "{count} of {of} elements differ, most at {at}: {found:e}, expected {expected:e}"
                )
            }
        }
    }
}

/// How far from the reference an element may be, relative to its size and to the typical size of the result. A few
/// roundings of the type; 0 for integers, which are exact.
pub fn tolerance(dtype: DType) -> f64 {
    match dtype {
        DType::F64 => 1e-12,
        DType::F32 => 2e-5,
        DType::F16 => 4e-3,
        DType::BF16 => 3e-2,
        // One step of a type with so few.
        small if small.is_small_float() => 0.26,
        _ => 0.0,
    }
}

/// Whether `found` is `expected` within [`tolerance`] times `factor`. NaN is only equal to NaN, infinities to themselves.
pub fn compare(found: &Tensor, expected: &Tensor, factor: f64) -> Result<(), Mismatch> {
    if found.dtype() != expected.dtype() || found.shape() != expected.shape() {
        let ty = |t: &Tensor| format!("{}{:?}", t.dtype(), t.shape());
        return Err(Mismatch::Type { found: ty(found), expected: ty(expected) });
    }
    if !found.dtype().is_float() {
        let (a, b) = (found.to_integers(), expected.to_integers());
        let wrong: Vec<usize> = (0..a.len()).filter(|&i| a[i] != b[i]).collect();
        return match wrong.iter().copied().max_by_key(|&i| a[i].abs_diff(b[i])) {
            None => Ok(()),
            Some(at) => Err(Mismatch::Elements {
                count: wrong.len(),
                of: a.len(),
                at,
                found: a[at] as f64,
                expected: b[at] as f64,
            }),
        };
    }
    let (a, b) = (found.to_f64(), expected.to_f64());
    let finite: Vec<f64> = b.iter().copied().filter(|x| x.is_finite()).collect();
    let typical = (finite.iter().map(|x| x * x).sum::<f64>() / finite.len().max(1) as f64).sqrt();
    let typical = if typical.is_finite() { typical } else { 0.0 };
    let relative = tolerance(found.dtype()) * factor;
    let excess = |i: usize| -> f64 {
        let (x, y) = (a[i], b[i]);
        if x == y || (x.is_nan() && y.is_nan()) {
            return 0.0;
        }
        if !x.is_finite() || !y.is_finite() {
            return f64::INFINITY;
        }
        (x - y).abs() / (relative * (y.abs() + typical)).max(f64::MIN_POSITIVE)
    };
    let wrong: Vec<usize> = (0..a.len()).filter(|&i| excess(i) > 1.0).collect();
    match wrong.iter().copied().max_by(|&i, &j| excess(i).total_cmp(&excess(j))) {
        None => Ok(()),
        Some(at) => Err(Mismatch::Elements {
            count: wrong.len(),
            of: a.len(),
            at,
            found: a[at],
            expected: b[at],
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_told() {
        let floats = |v: [f32; 3]| Tensor::from_vec([3], v.to_vec()).unwrap();
        assert!(
            compare(&floats([1.0, 2.0, f32::NAN]), &floats([1.0, 2.000_01, f32::NAN]), 1.0).is_ok()
        );
        let wrong =
            compare(&floats([1.0, 2.0, 3.0]), &floats([1.0, 2.1, f32::INFINITY]), 1.0).unwrap_err();
        assert!(matches!(wrong, Mismatch::Elements { count: 2, at: 2, .. }), "{wrong}");
        let (a, b) = (Tensor::from_i64s(&[1, 2]), Tensor::from_i64s(&[1, 3]));
        assert!(compare(&a, &b, 1e9).is_err());
        assert!(matches!(compare(&a, &floats([0.0; 3]), 1.0), Err(Mismatch::Type { .. })));
    }
}
