//! The primitives: the closed alphabet in which every operator is spelled.
//!
//! Shapes, slice bounds and other sizes are *operands* (small `i64` tensors), so one primitive serves both
//! what is known at compile time (the operand is a constant) and what only a run can tell. Elementwise
//! primitives broadcast as NumPy does. What each primitive means exactly is [`crate::evaluate`].

use anychip_tensor::{DType, Tensor};

/// One primitive operation. Operands are listed in order; `i64[n]` is a vector.
#[derive(Debug, Clone, PartialEq)]
pub enum Prim {
    // ---- sources ------------------------------------------------------------------------------
    /// `() → tensor`
    Constant(Tensor),
    /// `(length i64[]) → i64[length]`: 0, 1, 2 …
    Iota,
    /// `(shape i64[r]) → dtype[shape]`. Deterministic for a seed; a seed of `None` draws a new one a run.
    Random {
        /// What the numbers are drawn from.
        distribution: Distribution,
        /// Element type of the result.
        dtype: DType,
        /// Where the sequence starts.
        seed: Option<u64>,
    },

    // ---- elementwise, broadcasting ------------------------------------------------------------
    /// `(x) → x`
    Unary(Unary),
    /// `(a, b) → a`
    Binary(Binary),
    /// `(a, b) → bool`
    Compare(Compare),
    /// `(condition bool, on_true, on_false) → on_true`
    Select,
    /// `(x) → to[x]`
    Cast {
        /// Element type of the result.
        to: DType,
        /// Small floats: out of range becomes the largest finite value instead of infinity or NaN.
        saturate: bool,
        /// How `f8e8m0` rounds.
        rounding: Rounding,
    },
    /// `(x) → to[x]`: the same bits read as another type of the same width.
    BitCast {
        /// Element type of the result.
        to: DType,
    },

    // ---- contractions -------------------------------------------------------------------------
    /// `(lhs, rhs) → output[batch…, lhs free…, rhs free…]`, the sum over contracted dims of products.
    ///
    /// Both operands are converted to `output` before they are multiplied; integers wrap.
    DotGeneral(DotDims, DType),
    /// `(x [n, c, spatial…], w [m, c/groups, kernel…]) → output[n, m, spatial…]`: cross-correlation.
    Convolution(ConvolutionDims, DType),

    // ---- reductions ---------------------------------------------------------------------------
    /// `(x) → x` with `axes` removed.
    Reduce {
        /// How elements combine. An empty sum is 0, an empty product 1, an empty maximum −∞ or the least integer.
        kind: ReduceKind,
        /// Which dims, ascending.
        axes: Vec<usize>,
    },
    /// `(x) → i64` with `axis` removed: where the largest (smallest) element is.
    ArgReduce {
        /// `Max` or `Min`.
        kind: ReduceKind,
        /// Which dim.
        axis: usize,
        /// Of equal elements the last instead of the first.
        last: bool,
    },
    /// `(x) → x`: reduces windows that slide over the last `window.len()` dims; padding takes no part.
    ReduceWindow {
        /// How elements combine.
        kind: ReduceKind,
        /// The windows.
        window: Window,
    },
    /// `(x) → x`: running reduction along `axis`.
    Cumulative {
        /// How elements combine.
        kind: ReduceKind,
        /// Which dim.
        axis: usize,
        /// Leaves the element itself out.
        exclusive: bool,
        /// From the end to the start.
        reverse: bool,
    },
    /// `(x, k i64[]) → (values, indices i64)`: the `k` largest (smallest) along `axis`, in order, the lower
    /// index first among equals; with `k` the whole dim it sorts. NaN counts as larger than all.
    TopK {
        /// Which dim.
        axis: usize,
        /// Largest instead of smallest.
        largest: bool,
    },

    // ---- movement -----------------------------------------------------------------------------
    /// `(x) → i64[rank]`
    ShapeOf,
    /// `(x, shape i64[r]) → x[shape]`: the same elements in order. Every entry is a size; −1 is not allowed.
    Reshape,
    /// `(x, shape i64[r]) → x[shape]`: NumPy broadcast to exactly `shape`.
    Broadcast,
    /// `(x) → x`: result dim `i` is operand dim `permutation[i]`.
    Transpose {
        /// A permutation of the dims.
        permutation: Vec<usize>,
    },
    /// `(x, starts i64[n], ends i64[n], steps i64[n]) → x`: Python's slice on each of `axes`: negative bounds
    /// count from the end, bounds are clamped, steps may be negative and are not 0.
    Slice {
        /// Which dims, one for each element of the operands.
        axes: Vec<usize>,
    },
    /// `(x, low i64[rank], high i64[rank], value []) → x`: constant padding; a negative amount crops.
    Pad,
    /// `(x…) → x`: one after the other along `axis`.
    Concat {
        /// Which dim.
        axis: usize,
    },
    /// `(x, indices int) → x[.., indices…, ..]`: `indices` replace `axis`; negative ones count from the end.
    Take {
        /// Which dim.
        axis: usize,
    },
    /// `(x, indices int) → x[indices]`: `out[i][j] = x[indices[i][j]][j]` for axis 0.
    TakeAlong {
        /// Which dim.
        axis: usize,
    },
    /// `(x, indices int[…, n]) → x`: each row of `indices` addresses `n` dims after `batch` shared ones.
    GatherNd {
        /// Leading dims that both operands share.
        batch: usize,
    },
    /// `(x, indices int, updates) → x`: `out[indices[i][j]][j] ⊕= updates[i][j]` for axis 0.
    ScatterAlong {
        /// Which dim.
        axis: usize,
        /// How an update combines with what is there.
        combine: Combine,
    },
    /// `(x, indices int[…, n], updates) → x`: each row of `indices` addresses the leading `n` dims.
    ScatterNd {
        /// How an update combines with what is there.
        combine: Combine,
    },
    /// `(x) → i64[rank, count]`: where elements are not zero, in row-major order.
    NonZero,

    // ---- quantization -------------------------------------------------------------------------
    /// `(x float, scale, zero_point to) → to[x]`: `saturate(round_even(x / scale) + zero_point)`. Operands
    /// broadcast; the division happens in the type of `scale`.
    Quantize {
        /// Element type of the result.
        to: DType,
        /// Small floats: saturate.
        saturate: bool,
    },
    /// `(x, scale, zero_point of x's type) → to[x]`: `(x − zero_point) · scale`. Operands broadcast.
    Dequantize {
        /// Element type of the result.
        to: DType,
    },
    /// `(accumulator i32, multiplier i32, shift i32, zero_point i32) → to`: the one integer requantisation,
    /// `saturate(((accumulator · multiplier + 2^(shift−1)) >> shift) + zero_point)` in 64-bit arithmetic, the
    /// shift arithmetic, `shift` in 1..=62. Operands broadcast.
    Requantize {
        /// `i8` or `u8`.
        to: DType,
    },

    // ---- control flow -------------------------------------------------------------------------
    /// `(condition bool[], captures…) → outputs…`, regions `[then, else]`: both take the captures.
    If,
    /// `(trip_count i64[], condition bool[], carried…, captures…) → (carried…, scanned…)`, region `[body]`:
    /// `body(iteration i64[], carried…, captures…) → (condition bool[], carried…, scanned…)`. Runs while the
    /// condition holds, at most `trip_count` times; scanned outputs are stacked along a new dim 0.
    Loop {
        /// Values handed from one iteration to the next.
        carried: usize,
    },
}

/// Elementwise functions of one operand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is the function of its name")]
pub enum Unary {
    Neg,
    Abs,
    /// −1, 0 or 1; NaN stays.
    Sign,
    Floor,
    Ceil,
    /// To the nearest integer, ties to even.
    Round,
    Sqrt,
    Exp,
    /// Natural logarithm.
    Log,
    Sin,
    Cos,
    Tan,
    Asin,
    Acos,
    Atan,
    Sinh,
    Cosh,
    Asinh,
    Acosh,
    Atanh,
    Tanh,
    Erf,
    /// `1 / (1 + e^−x)`
    Sigmoid,
    /// Logical for `bool`, bitwise for integers.
    Not,
    /// `→ bool`
    IsNan,
    /// `→ bool`
    IsInf,
}

/// Elementwise functions of two operands of one type. Integers wrap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is the function of its name")]
pub enum Binary {
    Add,
    Sub,
    Mul,
    /// Integers truncate; an integer divided by zero is 0.
    Div,
    /// Remainder with the sign of the dividend (C's `fmod`); integers by zero give 0.
    Rem,
    /// The operands may differ in type; the result has the base's.
    Pow,
    /// NaN wins.
    Max,
    /// NaN wins.
    Min,
    /// Logical for `bool`, bitwise for integers.
    And,
    Or,
    Xor,
    /// Shifts by the width or more give 0.
    ShiftLeft,
    ShiftRight,
}

/// Elementwise comparisons; any comparison with NaN but `Ne` is false.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is the comparison of its name")]
pub enum Compare {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
}

/// How reductions combine elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is the function of its name")]
pub enum ReduceKind {
    Sum,
    Prod,
    Max,
    Min,
}

/// How a scatter combines an update with what is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is the function of its name")]
pub enum Combine {
    /// The update replaces it; of several the last in row-major order wins.
    Set,
    Add,
    Mul,
    Max,
    Min,
}

/// What random numbers are drawn from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Distribution {
    /// Evenly from `low` (included) to `high` (excluded).
    Uniform {
        /// Least value.
        low: f64,
        /// Bound above.
        high: f64,
    },
    /// Gaussian.
    Normal {
        /// Center.
        mean: f64,
        /// Standard deviation.
        deviation: f64,
    },
}

/// How a cast to `f8e8m0` rounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[expect(missing_docs, reason = "each is the direction of its name")]
pub enum Rounding {
    #[default]
    NearestEven,
    Up,
    Down,
    /// Half-way cases away from zero (ONNX's `nearest` for `f8e8m0`).
    NearestUp,
}

/// Which dims of a dot product are shared and which are summed over, in matching order.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct DotDims {
    /// Dims of the left operand that come first in the result.
    pub lhs_batch: Vec<usize>,
    /// The matching dims of the right operand.
    pub rhs_batch: Vec<usize>,
    /// Dims of the left operand that are summed over.
    pub lhs_contract: Vec<usize>,
    /// The matching dims of the right operand.
    pub rhs_contract: Vec<usize>,
}

/// Everything about a convolution but its operands; each vector has one entry a spatial dim.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ConvolutionDims {
    /// Steps between windows.
    pub strides: Vec<usize>,
    /// Zeros before and after; a negative amount crops.
    pub padding: Vec<(i64, i64)>,
    /// Distance between kernel elements.
    pub dilation: Vec<usize>,
    /// Distance between input elements (above 1: a transposed convolution).
    pub input_dilation: Vec<usize>,
    /// Independent groups of channels.
    pub groups: usize,
}

/// Windows over the last dims of an operand; each vector has one entry a windowed dim.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Window {
    /// Elements a window covers.
    pub size: Vec<usize>,
    /// Steps between windows.
    pub strides: Vec<usize>,
    /// Distance between the elements of a window.
    pub dilation: Vec<usize>,
    /// Positions before and after that hold no element.
    pub padding: Vec<(i64, i64)>,
}

impl Prim {
    /// A cast with the ordinary settings.
    pub fn cast(to: DType) -> Prim {
        Prim::Cast { to, saturate: true, rounding: Rounding::NearestEven }
    }
}

impl Unary {
    /// Every member, for tables and tests.
    pub const ALL: [(Unary, &'static str); 26] = [
        (Unary::Neg, "neg"),
        (Unary::Abs, "abs"),
        (Unary::Sign, "sign"),
        (Unary::Floor, "floor"),
        (Unary::Ceil, "ceil"),
        (Unary::Round, "round"),
        (Unary::Sqrt, "sqrt"),
        (Unary::Exp, "exp"),
        (Unary::Log, "log"),
        (Unary::Sin, "sin"),
        (Unary::Cos, "cos"),
        (Unary::Tan, "tan"),
        (Unary::Asin, "asin"),
        (Unary::Acos, "acos"),
        (Unary::Atan, "atan"),
        (Unary::Sinh, "sinh"),
        (Unary::Cosh, "cosh"),
        (Unary::Asinh, "asinh"),
        (Unary::Acosh, "acosh"),
        (Unary::Atanh, "atanh"),
        (Unary::Tanh, "tanh"),
        (Unary::Erf, "erf"),
        (Unary::Sigmoid, "sigmoid"),
        (Unary::Not, "not"),
        (Unary::IsNan, "is-nan"),
        (Unary::IsInf, "is-inf"),
    ];

    /// The name in the text form.
    pub fn name(self) -> &'static str {
        Unary::ALL.iter().find(|(u, _)| *u == self).map_or("unary", |(_, name)| name)
    }
}

impl Binary {
    /// Every member, for tables and tests.
    pub const ALL: [(Binary, &'static str); 13] = [
        (Binary::Add, "add"),
        (Binary::Sub, "sub"),
        (Binary::Mul, "mul"),
        (Binary::Div, "div"),
        (Binary::Rem, "rem"),
        (Binary::Pow, "pow"),
        (Binary::Max, "max"),
        (Binary::Min, "min"),
        (Binary::And, "and"),
        (Binary::Or, "or"),
        (Binary::Xor, "xor"),
        (Binary::ShiftLeft, "shift-left"),
        (Binary::ShiftRight, "shift-right"),
    ];

    /// The name in the text form.
    pub fn name(self) -> &'static str {
        Binary::ALL.iter().find(|(b, _)| *b == self).map_or("binary", |(_, name)| name)
    }
}

impl Compare {
    /// Every member, for tables and tests.
    pub const ALL: [(Compare, &'static str); 6] = [
        (Compare::Eq, "eq"),
        (Compare::Ne, "ne"),
        (Compare::Lt, "lt"),
        (Compare::Le, "le"),
        (Compare::Gt, "gt"),
        (Compare::Ge, "ge"),
    ];

    /// The name in the text form.
    pub fn name(self) -> &'static str {
        Compare::ALL.iter().find(|(c, _)| *c == self).map_or("compare", |(_, name)| name)
    }
}

impl ReduceKind {
    /// Every member, for tables and tests.
    pub const ALL: [(ReduceKind, &'static str); 4] = [
        (ReduceKind::Sum, "sum"),
        (ReduceKind::Prod, "prod"),
        (ReduceKind::Max, "max"),
        (ReduceKind::Min, "min"),
    ];

    /// The name in the text form.
    pub fn name(self) -> &'static str {
        ReduceKind::ALL.iter().find(|(k, _)| *k == self).map_or("reduce", |(_, name)| name)
    }
}

impl Combine {
    /// Every member, for tables and tests.
    pub const ALL: [(Combine, &'static str); 5] = [
        (Combine::Set, "set"),
        (Combine::Add, "add"),
        (Combine::Mul, "mul"),
        (Combine::Max, "max"),
        (Combine::Min, "min"),
    ];

    /// The name in the text form.
    pub fn name(self) -> &'static str {
        Combine::ALL.iter().find(|(c, _)| *c == self).map_or("combine", |(_, name)| name)
    }
}

impl Prim {
    /// The name in the text form and in every table.
    pub fn name(&self) -> &'static str {
        match self {
            Prim::Constant(_) => "constant",
            Prim::Iota => "iota",
            Prim::Random { .. } => "random",
            Prim::Unary(unary) => unary.name(),
            Prim::Binary(binary) => binary.name(),
            Prim::Compare(compare) => compare.name(),
            Prim::Select => "select",
            Prim::Cast { .. } => "cast",
            Prim::BitCast { .. } => "bit-cast",
            Prim::DotGeneral(..) => "dot-general",
            Prim::Convolution(..) => "convolution",
            Prim::Reduce { .. } => "reduce",
            Prim::ArgReduce { .. } => "arg-reduce",
            Prim::ReduceWindow { .. } => "reduce-window",
            Prim::Cumulative { .. } => "cumulative",
            Prim::TopK { .. } => "top-k",
            Prim::ShapeOf => "shape-of",
            Prim::Reshape => "reshape",
            Prim::Broadcast => "broadcast",
            Prim::Transpose { .. } => "transpose",
            Prim::Slice { .. } => "slice",
            Prim::Pad => "pad",
            Prim::Concat { .. } => "concat",
            Prim::Take { .. } => "take",
            Prim::TakeAlong { .. } => "take-along",
            Prim::GatherNd { .. } => "gather-nd",
            Prim::ScatterAlong { .. } => "scatter-along",
            Prim::ScatterNd { .. } => "scatter-nd",
            Prim::NonZero => "non-zero",
            Prim::Quantize { .. } => "quantize",
            Prim::Dequantize { .. } => "dequantize",
            Prim::Requantize { .. } => "requantize",
            Prim::If => "if",
            Prim::Loop { .. } => "loop",
        }
    }
}
