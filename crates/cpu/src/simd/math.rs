//! Elementary functions on vectors: exp, log, tanh, sigmoid, erf and the activations built from them.
//!
//! The coefficients are our own near-minimax fits (iteratively re-weighted least squares in double precision); the largest
//! error against `f64` is measured by the tests at the foot: exp, tanh, log within 2 ulp, erf within 3 ulp, sigmoid within 4.
//! Range reduction follows the textbook forms (Muller, *Elementary Functions*, 3rd ed., chapters 5 and 11).
#![allow(
    clippy::inline_always,
    reason = "must take on the instruction set of the loop it is used in"
)]
#![allow(clippy::excessive_precision, reason = "coefficients are written as the fit printed them")]

use super::Vector;

/// `Σ c[i] x^i`, by Horner.
#[inline(always)]
fn polynomial<V: Vector, const N: usize>(x: V, c: &[f32; N]) -> V {
    let mut sum = V::splat(c[N - 1]);
    let mut i = N - 1;
    while i > 0 {
        i -= 1;
        sum = sum.fma(x, V::splat(c[i]));
    }
    sum
}

/// `e^x`; 0 and infinity beyond the range of `f32`, NaN for NaN.
#[inline(always)]
pub(crate) fn exp<V: Vector>(x: V) -> V {
    const C: [f32; 7] =
        [1.0, 1.0, 0.5, 1.666_651_815e-1, 4.166_620_597e-2, 8.368_887_939e-3, 1.395_048_574e-3];
    let x = x.clamp(V::splat(-104.0), V::splat(89.0));
    let n = x.mul(V::splat(std::f32::consts::LOG2_E)).round();
    // ln 2 in two parts, the first with trailing zeros, so `n * part` is exact.
    let r = n.fma(V::splat(-0.693_359_375), x);
    let r = n.fma(V::splat(2.121_944_4e-4), r);
    let p = polynomial(r, &C);
    p.scale_exponent(n)
}

/// `y / (1 + e^-x)` for `|x|` up to 87, within 4e-7 of itself: what a layer that does little else has time for.
#[inline(always)]
pub(crate) fn divided_by_one_plus_exp<V: Vector>(y: V, x: V) -> V {
    // e^-r, |r| ≤ ln 2 / 2.
    const C: [f32; 6] =
        [1.0, -1.0, 4.999_923_150e-1, -1.666_711_465e-1, 4.189_015_683e-2, -8.312_520_007e-3];
    // Adding 1.5 · 2^23 leaves no digit after the point.
    const WHOLE: f32 = 12_582_912.0;
    let n = x.fma(V::splat(-std::f32::consts::LOG2_E), V::splat(WHOLE)).sub(V::splat(WHOLE));
    let r = n.fma(V::splat(std::f32::consts::LN_2), x);
    let d = polynomial(r, &C).scale_exponent(n).add(V::splat(1.0));
    y.divided(d)
}

/// Natural logarithm; −∞ at 0, NaN below, +∞ at +∞. Subnormals are scaled up first.
#[inline(always)]
pub(crate) fn log<V: Vector>(x: V) -> V {
    const C: [f32; 9] = [
        3.333_331_048e-1,
        -2.499_998_659e-1,
        2.000_222_653e-1,
        -1.666_925_102e-1,
        1.421_865_821e-1,
        -1.238_434_836e-1,
        1.187_297_627e-1,
        -1.178_980_768e-1,
        6.915_368_140e-2,
    ];
    let tiny = x.lt(V::splat(f32::MIN_POSITIVE));
    let scaled = V::select(tiny, x.mul(V::splat(8_388_608.0)), x);
    let (m, e) = scaled.split_exponent();
    let e = V::select(tiny, e.sub(V::splat(23.0)), e);
    // m in [1/√2, √2) keeps f small around 1.
    let big = V::splat(std::f32::consts::SQRT_2).lt(m);
    let m = V::select(big, m.mul(V::splat(0.5)), m);
    let e = V::select(big, e.add(V::splat(1.0)), e);
    let f = m.sub(V::splat(1.0));
    let f2 = f.mul(f);
    let tail = polynomial(f, &C).mul(f2.mul(f));
    let tail = e.fma(V::splat(-2.121_944_4e-4), tail);
    let tail = f2.fma(V::splat(-0.5), tail);
    let y = e.fma(V::splat(0.693_359_375), f.add(tail));
    let zero = V::zero();
    let y = V::select(x.eq(V::splat(f32::INFINITY)), x, y);
    let y = V::select(x.eq(zero), V::splat(f32::NEG_INFINITY), y);
    let y = V::select(x.lt(zero), V::splat(f32::NAN), y);
    V::select(x.eq(x), y, x)
}

/// `1 / (1 + e^-x)`.
#[inline(always)]
pub(crate) fn sigmoid<V: Vector>(x: V) -> V {
    let one = V::splat(1.0);
    one.add(exp(V::zero().sub(x))).reciprocal()
}

/// Hyperbolic tangent.
#[inline(always)]
pub(crate) fn tanh<V: Vector>(x: V) -> V {
    const C: [f32; 5] = [
        -3.333_328_366e-1,
        1.333_149_076e-1,
        -5.374_349_654e-2,
        2.065_057_866e-2,
        -5.717_036_780e-3,
    ];
    let one = V::splat(1.0);
    let a = x.abs();
    let z = x.mul(x);
    let small = polynomial(z, &C).mul(z).fma(x, x).copysign(x);
    let e = exp(a.add(a));
    let big = one.sub(V::splat(2.0).div(e.add(one))).copysign(x);
    V::select(a.lt(V::splat(0.625)), small, big)
}

/// The error function.
#[inline(always)]
pub(crate) fn erf<V: Vector>(x: V) -> V {
    // erf(x)/x in x², |x| ≤ 0.92.
    const SMALL: [f32; 6] = [
        1.128_379_107,
        -3.761_250_675e-1,
        1.128_195_524e-1,
        -2.677_128_278e-2,
        4.999_601_282e-3,
        -6.021_805_457e-4,
    ];
    // ln(erfc(x)), 0.9 ≤ x ≤ 4; beyond, erf rounds to 1.
    const BIG: [f32; 8] = [
        1.705_520_262e-4,
        -1.129_495_144,
        -6.333_866_715e-1,
        -1.082_366_183e-1,
        2.509_149_723e-2,
        -4.160_527_140e-3,
        4.323_030_007e-4,
        -2.090_955_604e-5,
    ];
    let one = V::splat(1.0);
    let a = x.abs();
    let small = polynomial(x.mul(x), &SMALL).mul(x);
    let capped = V::splat(4.0).min(a);
    let big = one.sub(exp(polynomial(capped, &BIG))).copysign(x);
    V::select(a.lt(V::splat(0.92)), small, big)
}

/// `x · ½(1 + erf(x/√2))`.
#[inline(always)]
pub(crate) fn gelu_erf<V: Vector>(x: V) -> V {
    let half = V::splat(0.5).mul(x);
    erf(x.mul(V::splat(std::f32::consts::FRAC_1_SQRT_2))).fma(half, half)
}

/// `½x(1 + tanh(√(2/π)(x + 0.044715x³)))`, the usual approximation of gelu (Hendrycks and Gimpel, 2016).
#[inline(always)]
pub(crate) fn gelu_tanh<V: Vector>(x: V) -> V {
    let half = V::splat(0.5).mul(x);
    let cubic = x.mul(x).mul(x).fma(V::splat(0.044_715), x);
    tanh(cubic.mul(V::splat(0.797_884_56))).fma(half, half)
}

#[cfg(test)]
mod tests {
    use super::super::{Task, Vector, dispatch};
    use crate::detect::Simd;

    #[derive(Clone, Copy)]
    enum Function {
        Exp,
        Log,
        Tanh,
        Sigmoid,
        Erf,
    }

    struct Map<'a>(Function, &'a mut [f32]);
    impl Task for Map<'_> {
        type Output = ();
        #[inline(always)]
        fn run<V: Vector>(self) {
            for chunk in self.1.chunks_mut(V::LANES) {
                // SAFETY: the chunk holds its own length.
                let x = unsafe { V::load_first(chunk.as_ptr(), chunk.len()) };
                let y = match self.0 {
                    Function::Exp => super::exp(x),
                    Function::Log => super::log(x),
                    Function::Tanh => super::tanh(x),
                    Function::Sigmoid => super::sigmoid(x),
                    Function::Erf => super::erf(x),
                };
                // SAFETY: as above.
                unsafe { y.store_first(chunk.as_mut_ptr(), chunk.len()) };
            }
        }
    }

    /// erf in double precision by its Taylor series (|x| < 3) or the continued fraction of erfc (Abramowitz and Stegun 7.1.5, 7.1.14).
    fn erf64(x: f64) -> f64 {
        let a = x.abs();
        let y = if a < 3.0 {
            let (mut term, mut sum) = (a, a);
            for n in 1..120 {
                term *= -a * a / f64::from(n);
                sum += term / f64::from(2 * n + 1);
            }
            sum * 2.0 / std::f64::consts::PI.sqrt()
        } else {
            let mut fraction = 0.0;
            for k in (1..200).rev() {
                fraction = f64::from(k) / 2.0 / (a + fraction);
            }
            1.0 - (-a * a).exp() / ((a + fraction) * std::f64::consts::PI.sqrt())
        };
        y.copysign(x)
    }

    fn ulps(got: f32, want: f64) -> f64 {
        let w = want as f32;
        let spacing = f64::from(f32::from_bits(w.abs().to_bits() + 1)) - f64::from(w.abs());
        (f64::from(got) - want).abs() / spacing
    }

    fn worst(simd: Simd, function: Function, range: (f32, f32), exact: impl Fn(f64) -> f64) -> f64 {
        let n = 40_001;
        let xs: Vec<f32> =
            (0..n).map(|i| range.0 + (range.1 - range.0) * i as f32 / (n - 1) as f32).collect();
        let mut ys = xs.clone();
        dispatch(simd, Map(function, &mut ys));
        xs.iter().zip(&ys).map(|(&x, &y)| ulps(y, exact(f64::from(x)))).fold(0.0, f64::max)
    }

    #[test]
    #[cfg_attr(miri, ignore = "takes an interpreter too long")]
    fn error_stays_within_the_documented_ulps() {
        for simd in Simd::available() {
            let exp = worst(simd, Function::Exp, (-87.0, 88.7), f64::exp);
            let log = worst(simd, Function::Log, (1e-3, 50.0), f64::ln).max(worst(
                simd,
                Function::Log,
                (0.9, 1.1),
                f64::ln,
            ));
            let tanh = worst(simd, Function::Tanh, (-10.0, 10.0), f64::tanh);
            let sigmoid =
                worst(simd, Function::Sigmoid, (-80.0, 30.0), |x| 1.0 / (1.0 + (-x).exp()));
            let erf = worst(simd, Function::Erf, (-5.0, 5.0), erf64);
            println!(
                "{simd:?}: exp {exp:.2} log {log:.2} tanh {tanh:.2} sigmoid {sigmoid:.2} erf {erf:.2} ulp"
            );
            assert!(exp < 2.0 && log < 2.0 && tanh < 2.0 && sigmoid < 4.0 && erf < 3.0, "{simd:?}");
        }
    }

    #[test]
    fn special_values() {
        for simd in Simd::available() {
            let mut v =
                [f32::NEG_INFINITY, f32::INFINITY, f32::NAN, -200.0, 200.0, 0.0, 1e-45, -100.0];
            dispatch(simd, Map(Function::Exp, &mut v));
            assert_eq!(v[0], 0.0);
            assert_eq!(v[1], f32::INFINITY);
            assert!(v[2].is_nan());
            assert_eq!((v[3], v[4], v[5], v[6]), (0.0, f32::INFINITY, 1.0, 1.0));
            assert!(v[7] > 0.0 && v[7] < 1e-43);
            let mut v = [0.0, -1.0, f32::INFINITY, f32::NAN, 1.0, 1e-40];
            dispatch(simd, Map(Function::Log, &mut v));
            assert_eq!((v[0], v[2], v[4]), (f32::NEG_INFINITY, f32::INFINITY, 0.0));
            assert!(v[1].is_nan() && v[3].is_nan());
            assert!((v[5] - 1e-40f32.ln()).abs() < 1e-4);
            let mut v = [f32::NEG_INFINITY, f32::INFINITY, f32::NAN, -0.0];
            dispatch(simd, Map(Function::Tanh, &mut v));
            assert_eq!((v[0], v[1]), (-1.0, 1.0));
            assert!(v[2].is_nan() && v[3].is_sign_negative());
        }
    }
}
