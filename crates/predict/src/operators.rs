//! The parametric half of the predictor: how long a kernel takes, from its sizes and a chip's peaks.
//!
//! ```text
//! arithmetic = 2·macs / peak · e^(-efficiency) · (1 + n0/columns)(1 + k0/depth)(1 + m0/rows) · area^a · e^(misaligned)
//! traffic    = bytes / bandwidth · e^(-share)
//! kernel     = (arithmetic^p + traffic^p)^(1/p) + launch
//! model      = Σ count · kernel + fixed
//! ```
//!
//! The coefficients are of a class of kernels on a stack of software; peaks and bandwidth are of the chip, so a set
//! of coefficients can be asked about a chip it was not fitted on. All coefficients are logarithms or
//! exponents, so a fit needs no bounds.

use crate::kernel::{Class, Kernel, PRODUCTS};

/// Coefficients of one product class.
const OF_PRODUCT: usize = 7;
/// Where the coefficients of the classes end.
const GLOBAL: usize = PRODUCTS * OF_PRODUCT + (Class::ALL.len() - PRODUCTS);
/// How many coefficients there are.
pub const COEFFICIENTS: usize = GLOBAL + 3;

/// Element counts that matrix engines take at once: sizes off it run slower or through padding.
const ALIGNMENT: f64 = 8.0;

/// What a chip offers to kernels of one number format.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rates {
    /// Dense operations a second.
    pub peak: f64,
    /// Bytes a second of main memory.
    pub bandwidth: f64,
}

/// Fitted coefficients; see the file's head for what each does.
#[derive(Debug, Clone, PartialEq)]
pub struct Operators {
    values: Vec<f64>,
}

impl Operators {
    /// What is believed before any measurement, and the center of the fit's prior.
    pub fn prior() -> Self {
        let mut values = Vec::with_capacity(COEFFICIENTS);
        for class in Class::ALL {
            if class.is_product() {
                // A depthwise convolution cannot feed a matrix engine.
                let efficiency: f64 = if class == Class::Depthwise { 0.02 } else { 0.7 };
                values.extend([
                    efficiency.ln(),
                    16f64.ln(),
                    32f64.ln(),
                    0.8f64.ln(),
                    500f64.ln(),
                    0.1,
                    0.0,
                ]);
            } else {
                values.push(0.8f64.ln());
            }
        }
        values.extend([4e-6f64.ln(), 3f64.ln(), 1e-4f64.ln()]);
        Self { values }
    }

    /// How far each coefficient may reasonably lie from [`Operators::prior`]: one standard deviation.
    pub fn spread() -> Vec<f64> {
        let mut values = Vec::with_capacity(COEFFICIENTS);
        for class in Class::ALL {
            if class.is_product() {
                values.extend([0.7, 1.0, 1.0, 0.6, 1.0, 0.3, 0.3]);
            } else {
                values.push(0.6);
            }
        }
        values.extend([0.7, 0.3, 1.0]);
        values
    }

    /// What each coefficient is called in tables.
    pub fn names() -> Vec<String> {
        let mut names = Vec::with_capacity(COEFFICIENTS);
        for class in Class::ALL {
            if class.is_product() {
                for name in
                    ["efficiency", "columns", "depth", "share", "rows", "misaligned", "area"]
                {
                    names.push(format!("{}.{name}", class.word()));
                }
            } else {
                names.push(format!("{}.share", class.word()));
            }
        }
        names.extend(["launch", "sharpness", "fixed"].map(String::from));
        names
    }

    /// From values in the order of [`Operators::names`]; `None` where their number is wrong.
    pub fn from_values(values: Vec<f64>) -> Option<Self> {
        (values.len() == COEFFICIENTS && values.iter().all(|v| v.is_finite()))
            .then_some(Self { values })
    }

    /// The values in the order of [`Operators::names`].
    pub fn values(&self) -> &[f64] {
        &self.values
    }

    /// Seconds to start one kernel.
    pub fn launch(&self) -> f64 {
        self.values[GLOBAL].exp()
    }

    /// Seconds of one run that no kernel accounts for.
    pub fn fixed(&self) -> f64 {
        self.values[GLOBAL + 2].exp()
    }

    /// Seconds of arithmetic and of traffic of one of `kernel`, each as if the other were free.
    pub fn parts(&self, kernel: &Kernel, rates: &Rates) -> (f64, f64) {
        self.factors(kernel.class).parts(kernel, &Sizes::of(kernel), rates)
    }

    /// Seconds of one of `kernel`, its launch apart.
    pub fn seconds(&self, kernel: &Kernel, rates: &Rates) -> f64 {
        let (arithmetic, traffic) = self.parts(kernel, rates);
        join(arithmetic, traffic, self.sharpness()).0
    }

    /// Seconds of a run of all `kernels`.
    pub fn total(&self, kernels: &[Kernel], rates: &Rates) -> f64 {
        let ready = self.ready();
        let (launch, sharpness) = (self.launch(), self.sharpness());
        let each = kernels.iter().map(|kernel| {
            let factors = &ready[kernel.class.index()];
            let (arithmetic, traffic) = factors.parts(kernel, &Sizes::of(kernel), rates);
            kernel.count * (join(arithmetic, traffic, sharpness).0 + launch)
        });
        self.fixed() + each.sum::<f64>()
    }

    /// [`Operators::total`], and its derivative by each coefficient added to `gradient`.
    pub fn total_and_gradient(
        &self,
        kernels: &[Kernel],
        rates: &Rates,
        gradient: &mut [f64],
    ) -> f64 {
        let ready = self.ready();
        let (launch, sharpness, fixed) = (self.launch(), self.sharpness(), self.fixed());
        let mut total = fixed;
        gradient[GLOBAL + 2] += fixed;
        for kernel in kernels {
            let sizes = Sizes::of(kernel);
            let factors = &ready[kernel.class.index()];
            let (arithmetic, traffic) = factors.parts(kernel, &sizes, rates);
            let (time, share, by_sharpness) = join(arithmetic, traffic, sharpness);
            let (time, count) = (time * kernel.count, kernel.count);
            total += time + launch * count;
            gradient[GLOBAL] += launch * count;
            gradient[GLOBAL + 1] += time * by_sharpness * (sharpness - 1.0);
            let first = first_of(kernel.class);
            if !kernel.class.is_product() {
                gradient[first] -= time;
                continue;
            }
            let grown = |zero: f64, size: f64| zero / (size + zero);
            gradient[first] -= time * share;
            gradient[first + 1] += time * share * grown(factors.columns, sizes.columns);
            gradient[first + 2] += time * share * grown(factors.depth, sizes.depth);
            gradient[first + 3] -= time * (1.0 - share);
            gradient[first + 4] += time * share * grown(factors.rows, sizes.rows);
            if sizes.misaligned {
                gradient[first + 5] += time * share;
            }
            gradient[first + 6] += time * share * sizes.area;
        }
        total
    }

    /// The exponentials of all coefficients, of which a fit would else take a handful for each kernel.
    fn ready(&self) -> [Factors; Class::ALL.len()] {
        Class::ALL.map(|class| self.factors(class))
    }

    fn factors(&self, class: Class) -> Factors {
        let v = &self.values[first_of(class)..];
        if !class.is_product() {
            return Factors { traffic: (-v[0]).exp(), ..Factors::default() };
        }
        Factors {
            slowness: (-v[0]).exp(),
            columns: v[1].exp(),
            depth: v[2].exp(),
            traffic: (-v[3]).exp(),
            rows: v[4].exp(),
            misaligned: v[5].exp(),
            area: v[6],
        }
    }

    fn sharpness(&self) -> f64 {
        1.0 + self.values[GLOBAL + 1].exp()
    }
}

/// What the coefficients of a class come to; of sizes those at which the time has doubled, of the area its exponent. What only
/// moves bytes has the factor of traffic alone.
#[derive(Default)]
struct Factors {
    slowness: f64,
    columns: f64,
    depth: f64,
    traffic: f64,
    rows: f64,
    misaligned: f64,
    area: f64,
}

impl Factors {
    fn parts(&self, kernel: &Kernel, sizes: &Sizes, rates: &Rates) -> (f64, f64) {
        let traffic = (kernel.bytes + kernel.weight_bytes) / rates.bandwidth * self.traffic;
        if !kernel.class.is_product() {
            return (0.0, traffic);
        }
        let mut slowness = self.slowness;
        if sizes.misaligned {
            slowness *= self.misaligned;
        }
        if sizes.area > 0.0 {
            slowness *= (self.area * sizes.area).exp();
        }
        let arithmetic = 2.0 * kernel.macs / rates.peak
            * slowness
            * (1.0 + self.columns / sizes.columns)
            * (1.0 + self.depth / sizes.depth)
            * (1.0 + self.rows / sizes.rows);
        (arithmetic, traffic)
    }
}

/// The sizes of a product as the formula takes them.
struct Sizes {
    rows: f64,
    columns: f64,
    depth: f64,
    /// The logarithm of the kernel's area.
    area: f64,
    misaligned: bool,
}

impl Sizes {
    fn of(kernel: &Kernel) -> Self {
        let off = kernel.columns % ALIGNMENT != 0.0 || kernel.depth % ALIGNMENT != 0.0;
        Self {
            rows: (kernel.rows * kernel.groups.max(1.0)).max(1.0),
            columns: kernel.columns.max(1.0),
            depth: kernel.depth.max(1.0),
            area: if kernel.area > 1.0 { kernel.area.ln() } else { 0.0 },
            misaligned: off && kernel.class != Class::Depthwise,
        }
    }
}

/// Where the coefficients of a class begin.
fn first_of(class: Class) -> usize {
    let i = class.index();
    if i < PRODUCTS { i * OF_PRODUCT } else { PRODUCTS * OF_PRODUCT + (i - PRODUCTS) }
}

/// `(a^p + b^p)^(1/p)`; the share of it that is `a`'s; and the derivative of its logarithm by `p`.
fn join(a: f64, b: f64, p: f64) -> (f64, f64, f64) {
    let most = a.max(b);
    if most <= 0.0 {
        return (0.0, 0.0, 0.0);
    }
    let ratio = (a.min(b) / most).ln();
    // The lesser one's power beside the greater one's, which is 1.
    let power = (p * ratio).exp();
    if power < f64::EPSILON {
        return (most, f64::from(u8::from(a >= b)), 0.0);
    }
    let sum = 1.0 + power;
    let log_sum = power.ln_1p();
    let share = if a >= b { 1.0 / sum } else { power / sum };
    let slope = power * ratio / (sum * p) - log_sum / (p * p);
    (most * (log_sum / p).exp(), share, slope)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATES: Rates = Rates { peak: 1e14, bandwidth: 1e12 };

    fn product() -> Kernel {
        Kernel {
            class: Class::Convolution,
            count: 3.0,
            macs: 4e9,
            bytes: 1e8,
            weight_bytes: 1e6,
            rows: 1e4,
            columns: 60.0,
            depth: 576.0,
            groups: 1.0,
            area: 9.0,
        }
    }

    #[test]
    fn gradients_equal_differences() {
        let kernels = [product(), Kernel::moving(Class::Norm, 3e8)];
        let operators = Operators::prior();
        let mut gradient = vec![0.0; COEFFICIENTS];
        let total = operators.total_and_gradient(&kernels, &RATES, &mut gradient);
        assert!((total - operators.total(&kernels, &RATES)).abs() < 1e-12 * total);
        for i in 0..COEFFICIENTS {
            let step = 1e-5;
            let at = |d: f64| {
                let mut values = operators.values().to_vec();
                values[i] += d;
                Operators::from_values(values).expect("finite").total(&kernels, &RATES)
            };
            let slope = (at(step) - at(-step)) / (2.0 * step);
            assert!((slope - gradient[i]).abs() < 1e-6 * total, "{}", Operators::names()[i]);
        }
    }

    #[test]
    fn a_faster_chip_and_a_smaller_kernel_take_less_time() {
        let operators = Operators::prior();
        let time = operators.total(&[product()], &RATES);
        let faster = Rates { peak: 2e14, bandwidth: 2e12 };
        assert!(operators.total(&[product()], &faster) < time);
        assert!(operators.total(&[Kernel { macs: 2e9, ..product() }], &RATES) < time);
        assert!(operators.total(&[Kernel { columns: 64.0, ..product() }], &RATES) < time);
    }

    #[test]
    fn every_coefficient_has_a_name_and_a_spread() {
        assert_eq!(Operators::names().len(), COEFFICIENTS);
        assert_eq!(Operators::spread().len(), COEFFICIENTS);
        assert_eq!(Operators::prior().values().len(), COEFFICIENTS);
        assert_eq!(Operators::from_values(vec![0.0]), None);
        assert_eq!(Operators::from_values(vec![f64::NAN; COEFFICIENTS]), None);
    }
}
