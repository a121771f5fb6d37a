//! What a predictor sees of a model: kernels, each with its class, its arithmetic and its traffic.
//!
//! A model is measured as software runs it, kernel by kernel. [`Kernel`] is the alphabet that the calibration data
//! and a user's graph have in common; everything fitted is fitted on it.

/// What sort of work a kernel does. Kernels of one class share fitted coefficients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// A convolution with a kernel larger than 1 × 1.
    Convolution,
    /// A 1 × 1 convolution.
    Pointwise,
    /// A convolution with one input channel a group.
    Depthwise,
    /// Any other grouped convolution.
    Grouped,
    /// A matrix product with a weight.
    Linear,
    /// A matrix product of two computed values.
    Matmul,
    /// Scaled dot-product attention as one kernel.
    Attention,
    /// Layer, group or RMS normalization.
    Norm,
    /// Batch normalization that was not folded into a convolution.
    BatchNorm,
    /// Softmax.
    Softmax,
    /// Sums, means, extremes over axes.
    Reduction,
    /// Additions, comparisons, `ReLU`: elementwise arithmetic bound by memory.
    Elementwise,
    /// Elementwise functions that take many instructions: GELU, sigmoid, exponentials.
    Transcendental,
    /// Changes of number format.
    Cast,
    /// Copies, concatenations, gathers, paddings, changes of layout.
    Copy,
    /// Pooling and resizing.
    Pool,
}

impl Class {
    /// All of them, in the order of fitted tables.
    pub const ALL: [Self; 16] = [
        Self::Convolution,
        Self::Pointwise,
        Self::Depthwise,
        Self::Grouped,
        Self::Linear,
        Self::Matmul,
        Self::Attention,
        Self::Norm,
        Self::BatchNorm,
        Self::Softmax,
        Self::Reduction,
        Self::Elementwise,
        Self::Transcendental,
        Self::Cast,
        Self::Copy,
        Self::Pool,
    ];

    /// The word of tables.
    pub fn word(self) -> &'static str {
        match self {
            Self::Convolution => "convolution",
            Self::Pointwise => "pointwise",
            Self::Depthwise => "depthwise",
            Self::Grouped => "grouped",
            Self::Linear => "linear",
            Self::Matmul => "matmul",
            Self::Attention => "attention",
            Self::Norm => "norm",
            Self::BatchNorm => "batch-norm",
            Self::Softmax => "softmax",
            Self::Reduction => "reduction",
            Self::Elementwise => "elementwise",
            Self::Transcendental => "transcendental",
            Self::Cast => "cast",
            Self::Copy => "copy",
            Self::Pool => "pool",
        }
    }

    /// From the word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.word() == word)
    }

    /// Its place in [`Class::ALL`].
    pub fn index(self) -> usize {
        self as usize
    }

    /// Whether it is a matrix product or convolution, so that arithmetic can bound it.
    pub fn is_product(self) -> bool {
        self.index() < PRODUCTS
    }
}

/// How many of [`Class::ALL`], from the first, are products.
pub const PRODUCTS: usize = 7;

/// One kernel, or several of the same sizes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Kernel {
    /// What it does.
    pub class: Class,
    /// How many of it there are.
    pub count: f64,
    /// Multiply-accumulates of one.
    pub macs: f64,
    /// Bytes of computed values that one reads and writes.
    pub bytes: f64,
    /// Bytes of weights that one reads.
    pub weight_bytes: f64,
    /// Of a product: rows, columns and depth of one, and how many lie side by side.
    pub rows: f64,
    /// Columns: output channels of a group.
    pub columns: f64,
    /// Depth: input channels of a group times the kernel's area.
    pub depth: f64,
    /// Groups of a convolution; products of a batch.
    pub groups: f64,
    /// Elements of a convolution's kernel; 1 for all others.
    pub area: f64,
}

impl Kernel {
    /// A kernel that is no product.
    pub fn moving(class: Class, bytes: f64) -> Self {
        Self {
            class,
            count: 1.0,
            macs: 0.0,
            bytes,
            weight_bytes: 0.0,
            rows: 0.0,
            columns: 0.0,
            depth: 0.0,
            groups: 0.0,
            area: 1.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_name_classes_both_ways_and_products_come_first() {
        for (i, class) in Class::ALL.into_iter().enumerate() {
            assert_eq!(class.index(), i);
            assert_eq!(Class::from_word(class.word()), Some(class));
        }
        assert!(Class::Attention.is_product() && !Class::Norm.is_product());
    }
}
