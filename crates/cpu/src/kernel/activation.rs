//! Activations that other kernels apply as they write their result, and in place on a slice.
//!
//! Clamps (none, relu, clip) stay in the writing kernel's registers; the others run over the freshly written, still cached rows.

use crate::detect::Simd;
use crate::pool::Pool;
use crate::simd::{Task, Vector, dispatch, math};

use super::SharedMut;

/// A scalar function applied to each element of a result. NaN stays NaN.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub enum Activation {
    /// `x`
    #[default]
    None,
    /// `max(x, 0)`
    Relu,
    /// `min(max(x, low), high)`
    Clip {
        /// Smallest result.
        low: f32,
        /// Largest result.
        high: f32,
    },
    /// `x ½(1 + erf(x/√2))`
    GeluErf,
    /// `½x(1 + tanh(√(2/π)(x + 0.044715x³)))`
    GeluTanh,
    /// `x / (1 + e^-x)`
    Silu,
    /// `x · min(max(x/6 + ½, 0), 1)`
    HardSwish,
    /// `min(max(alpha·x + beta, 0), 1)`
    HardSigmoid {
        /// Slope.
        alpha: f32,
        /// Offset.
        beta: f32,
    },
    /// `1 / (1 + e^-x)`
    Sigmoid,
    /// `tanh x`
    Tanh,
    /// `x` where positive, `slope·x` elsewhere
    LeakyRelu {
        /// Factor of the negative side.
        slope: f32,
    },
}

impl Activation {
    /// The clamp that is this activation, if it is one: `(-∞, ∞)` for `None`.
    pub(crate) fn as_clamp(self) -> Option<(f32, f32)> {
        match self {
            Self::None => Some((f32::NEG_INFINITY, f32::INFINITY)),
            Self::Relu => Some((0.0, f32::INFINITY)),
            Self::Clip { low, high } => Some((low, high)),
            Self::GeluErf
            | Self::GeluTanh
            | Self::Silu
            | Self::HardSwish
            | Self::HardSigmoid { .. }
            | Self::Sigmoid
            | Self::Tanh
            | Self::LeakyRelu { .. } => None,
        }
    }

    /// The definition, in the accuracy of `f64`; the reference the vector form is tested against.
    pub fn reference(self, x: f64) -> f64 {
        let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
        match self {
            Self::None => x,
            Self::Relu => x.clamp(0.0, f64::INFINITY),
            Self::Clip { low, high } => f64::from(high).min(f64::from(low).max(x)),
            Self::GeluErf => {
                // erf by its Maclaurin series; |x|/√2 < 5 in the tests, where 150 terms reach double precision but for cancellation.
                let z = (x.abs() / std::f64::consts::SQRT_2).min(5.0);
                let (mut term, mut sum) = (z, z);
                for n in 1..150 {
                    term *= -z * z / f64::from(n);
                    sum += term / f64::from(2 * n + 1);
                }
                let erf = (sum * 2.0 / std::f64::consts::PI.sqrt()).min(1.0).copysign(x);
                0.5 * x * (1.0 + erf)
            }
            Self::GeluTanh => {
                0.5 * x
                    * (1.0
                        + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x * x * x))
                            .tanh())
            }
            Self::Silu => x * sigmoid(x),
            Self::HardSwish => x * (x / 6.0 + 0.5).clamp(0.0, 1.0),
            Self::HardSigmoid { alpha, beta } => {
                (f64::from(alpha) * x + f64::from(beta)).clamp(0.0, 1.0)
            }
            Self::Sigmoid => sigmoid(x),
            Self::Tanh => x.tanh(),
            Self::LeakyRelu { slope } => {
                if x < 0.0 {
                    f64::from(slope) * x
                } else {
                    x
                }
            }
        }
    }

    /// Applies the activation to `data`, in place.
    pub fn run_in_place(self, simd: Simd, data: &mut [f32], pool: &Pool) {
        const CHUNK: usize = 16 << 10;
        let len = data.len();
        let simd = simd.at_most();
        let shared = SharedMut::new(data);
        pool.parallel_for(len.div_ceil(CHUNK), |task, _| {
            let start = task * CHUNK;
            // SAFETY: chunks are disjoint and within the slice.
            unsafe {
                activate_rows(simd, self, shared.get().add(start), 1, CHUNK.min(len - start), 0);
            };
        });
    }
}

/// Applies `activation` to `rows` rows of `columns` elements, `stride` apart, in place.
///
/// # Safety
/// All those elements are readable and writable, and no other thread touches them.
pub(crate) unsafe fn activate_rows(
    simd: Simd,
    activation: Activation,
    data: *mut f32,
    rows: usize,
    columns: usize,
    stride: usize,
) {
    dispatch(simd, Rows { activation, data, rows, columns, stride });
}

struct Rows {
    activation: Activation,
    data: *mut f32,
    rows: usize,
    columns: usize,
    stride: usize,
}

/// One loop over the rows for each activation, so the choice is outside of it.
macro_rules! over_rows {
    ($rows:expr, $x:ident => $y:expr) => {{
        let rows = $rows;
        for r in 0..rows.rows {
            // SAFETY: the contract of `activate_rows`.
            let p = unsafe { rows.data.add(r * rows.stride) };
            let mut i = 0;
            while i + V::LANES <= rows.columns {
                // SAFETY: within the row.
                let $x = unsafe { V::load(p.add(i)) };
                // SAFETY: as above.
                unsafe { ($y).store(p.add(i)) };
                i += V::LANES;
            }
            if i < rows.columns {
                let n = rows.columns - i;
                // SAFETY: `n` elements are left in the row.
                let $x = unsafe { V::load_first(p.add(i), n) };
                // SAFETY: as above.
                unsafe { ($y).store_first(p.add(i), n) };
            }
        }
    }};
}

impl Task for Rows {
    type Output = ();
    #[inline(always)]
    fn run<V: Vector>(self) {
        match self.activation {
            Activation::None => {}
            Activation::Relu => over_rows!(self, x => apply_clamp::<V>(x, 0.0, f32::INFINITY)),
            Activation::Clip { low, high } => over_rows!(self, x => apply_clamp::<V>(x, low, high)),
            Activation::GeluErf => over_rows!(self, x => math::gelu_erf(x)),
            Activation::GeluTanh => over_rows!(self, x => math::gelu_tanh(x)),
            Activation::Silu => over_rows!(self, x => silu::<V>(x)),
            Activation::HardSwish => {
                over_rows!(self, x => x.mul(hard_sigmoid::<V>(x, 1.0 / 6.0, 0.5)));
            }
            Activation::HardSigmoid { alpha, beta } => {
                over_rows!(self, x => hard_sigmoid::<V>(x, alpha, beta));
            }
            Activation::Sigmoid => over_rows!(self, x => math::sigmoid(x)),
            Activation::Tanh => over_rows!(self, x => math::tanh(x)),
            Activation::LeakyRelu { slope } => {
                over_rows!(self, x => V::select(x.lt(V::zero()), x.mul(V::splat(slope)), x));
            }
        }
    }
}

#[inline(always)]
fn apply_clamp<V: Vector>(x: V, low: f32, high: f32) -> V {
    x.clamp(V::splat(low), V::splat(high))
}

#[inline(always)]
fn silu<V: Vector>(x: V) -> V {
    math::divided_by_one_plus_exp(x, x.clamp(V::splat(-87.0), V::splat(87.0)))
}

#[inline(always)]
fn hard_sigmoid<V: Vector>(x: V, alpha: f32, beta: f32) -> V {
    x.fma(V::splat(alpha), V::splat(beta)).clamp(V::zero(), V::splat(1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_activation_matches_its_definition() {
        let all = [
            Activation::None,
            Activation::Relu,
            Activation::Clip { low: -0.5, high: 6.0 },
            Activation::GeluErf,
            Activation::GeluTanh,
            Activation::Silu,
            Activation::HardSwish,
            Activation::HardSigmoid { alpha: 0.2, beta: 0.5 },
            Activation::Sigmoid,
            Activation::Tanh,
            Activation::LeakyRelu { slope: 0.1 },
        ];
        let pool = Pool::new(2);
        for simd in Simd::available() {
            for activation in all {
                for len in [1, 3, 16, 37, if cfg!(miri) { 100 } else { 40_000 }] {
                    let x: Vec<f32> =
                        (0..len).map(|i| -6.0 + 12.0 * i as f32 / len as f32).collect();
                    let mut y = x.clone();
                    activation.run_in_place(simd, &mut y, &pool);
                    for (x, y) in x.iter().zip(&y) {
                        let want = activation.reference(f64::from(*x));
                        assert!(
                            (f64::from(*y) - want).abs() < 2e-6 * (1.0 + x.abs() as f64),
                            "{simd:?} {activation:?} {x}"
                        );
                    }
                }
                let mut nan = [f32::NAN; 5];
                activation.run_in_place(simd, &mut nan, &pool);
                assert!(nan.iter().all(|x| x.is_nan()), "{simd:?} {activation:?}");
            }
        }
    }
}
