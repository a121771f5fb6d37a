//! A model described by numbers that do not depend on how large it is: where its time goes by the formula, and
//! how large its products are. The learned residual and the width of intervals are functions of these.

use crate::kernel::{Class, Kernel, PRODUCTS};
use crate::operators::{Operators, Rates};

/// The logarithm of a model's seconds by the formula, and its features.
pub fn features(operators: &Operators, kernels: &[Kernel], rates: &Rates) -> (f64, Vec<f64>) {
    let classes = Class::ALL.len();
    let launch = operators.launch();
    let mut by_class = vec![0.0; classes];
    let (mut launches, mut launched) = (operators.fixed(), 0.0);
    let (mut arithmetic, mut traffic) = (0.0, 0.0);
    let (mut bytes, mut product_bytes) = (0.0, 0.0);
    // Means of logarithms over the products, weighed by their time.
    let mut sizes = [0.0; 5];
    let mut weighed = 0.0;
    // Bytes of a kernel, weighed by its time: large ones stream, small ones stay in caches.
    let mut footprint = 0.0;
    for kernel in kernels {
        let time = kernel.count * operators.seconds(kernel, rates);
        by_class[kernel.class.index()] += time;
        launches += kernel.count * launch;
        launched += kernel.count;
        arithmetic += kernel.count * 2.0 * kernel.macs / rates.peak;
        let moved = kernel.count * (kernel.bytes + kernel.weight_bytes);
        traffic += moved / rates.bandwidth;
        bytes += moved;
        footprint += time * (kernel.bytes + kernel.weight_bytes + 1.0).ln();
        if kernel.class.is_product() {
            product_bytes += moved;
            weighed += time;
            let values = [kernel.rows, kernel.columns, kernel.depth, kernel.groups, kernel.area];
            for (sum, value) in sizes.iter_mut().zip(values) {
                *sum += time * value.max(1.0).ln();
            }
        }
    }
    let work: f64 = by_class.iter().sum();
    let total = work + launches;
    let mut row = vec![total.ln()];
    row.extend(by_class.iter().map(|time| time / total));
    row.push(launches / total);
    row.extend(sizes.iter().map(|sum| sum / weighed.max(1e-12)));
    row.push((arithmetic / total + 1e-4).ln());
    row.push((traffic / total + 1e-4).ln());
    row.push(launched.max(1.0).ln());
    row.push(product_bytes / bytes.max(1.0));
    row.push(footprint / work.max(1e-12));
    row.push((work / launched.max(1.0)).max(1e-9).ln());
    debug_assert_eq!(row.len(), FEATURES);
    (total.ln(), row)
}

/// How many features there are.
pub const FEATURES: usize = 1 + 16 + 1 + 5 + 6;

const _: () = assert!(Class::ALL.len() == 16 && PRODUCTS == 7);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_add_up_and_the_time_is_the_formulas() {
        let rates = Rates { peak: 1e14, bandwidth: 1e12 };
        let operators = Operators::prior();
        let kernels = [Kernel::moving(Class::Norm, 1e8), Kernel::moving(Class::Copy, 3e8)];
        let (log_seconds, row) = features(&operators, &kernels, &rates);
        assert!((log_seconds - operators.total(&kernels, &rates).ln()).abs() < 1e-12);
        assert!((row[1..18].iter().sum::<f64>() - 1.0).abs() < 1e-12);
        assert_eq!(row.len(), FEATURES);
        assert!(features(&operators, &[], &rates).1.iter().all(|v| v.is_finite()));
    }
}
