//! What a kernel is in the words of those that were measured.

use crate::kernel::{Class, Kernel};

/// Bytes of one value: these tables are of 32-bit floats only.
const VALUE: f64 = 4.0;

/// A kernel as kernels were measured one at a time: attention apart into its products, its scale, its mask and its softmax;
/// `None` where it is of a kind that was never measured: depthwise and other grouped convolutions.
pub fn apart(kernel: &Kernel) -> Option<Vec<Kernel>> {
    Some(match kernel.class {
        Class::Depthwise | Class::Grouped => return None,
        Class::Attention => {
            let Kernel { count, rows, columns, depth, groups, .. } = *kernel;
            let product = |columns: f64, depth: f64| Kernel {
                count,
                macs: groups * rows * columns * depth,
                bytes: VALUE * groups * (rows * depth + columns * depth + rows * columns),
                rows,
                columns,
                depth,
                groups,
                ..Kernel::moving(Class::Matmul, 0.0)
            };
            let scores = 2.0 * VALUE * groups * rows * columns;
            vec![
                product(columns, depth),
                Kernel { count: 2.0 * count, ..Kernel::moving(Class::Elementwise, scores) },
                Kernel { count, ..Kernel::moving(Class::Softmax, scores) },
                product(depth, columns),
            ]
        }
        // A convolution of one element is a product, and was measured as one.
        Class::Pointwise => vec![Kernel { class: Class::Linear, ..*kernel }],
        // One pass over memory each, as elementwise operators are.
        Class::BatchNorm | Class::Reduction | Class::Cast | Class::Copy | Class::Pool => {
            vec![Kernel { class: Class::Elementwise, ..*kernel }]
        }
        Class::Convolution
        | Class::Linear
        | Class::Matmul
        | Class::Norm
        | Class::Softmax
        | Class::Elementwise
        | Class::Transcendental => vec![*kernel],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attention_does_the_same_arithmetic_apart() {
        let attention = Kernel {
            count: 3.0,
            macs: 2.0 * 12.0 * 128.0 * 100.0 * 64.0,
            rows: 128.0,
            columns: 100.0,
            depth: 64.0,
            groups: 12.0,
            ..Kernel::moving(Class::Attention, 1e6)
        };
        let parts = apart(&attention).expect("measured");
        assert_eq!(parts.iter().map(|k| k.macs).sum::<f64>(), attention.macs);
        assert!(parts.iter().all(|k| k.count >= 3.0 && k.class != Class::Attention));
        assert_eq!(apart(&Kernel { class: Class::Depthwise, ..attention }), None);
        let copied = apart(&Kernel::moving(Class::Copy, 8.0)).expect("measured");
        assert_eq!(copied[0].class, Class::Elementwise);
    }
}
