//! The builder's vocabulary: operators are written as their maths with these.

use anychip_tensor::{DType, Dim, Tensor};

use crate::{
    Binary, Builder, Compare, DotDims, IrError, Prim, ReduceKind, Unary, ValueId, broadcast_shapes,
};

macro_rules! unary {
    ($($name:ident $member:ident),* $(,)?) => {
        $(
            #[doc = concat!("`", stringify!($name), "(x)`")]
            pub fn $name(&mut self, x: ValueId) -> Result<ValueId, IrError> {
                self.prim(Prim::Unary(Unary::$member), &[x])
            }
        )*
    };
}

macro_rules! binary {
    ($($name:ident $wrap:ident $member:ident),* $(,)?) => {
        $(
            #[doc = concat!("`", stringify!($name), "(a, b)`, broadcasting")]
            pub fn $name(&mut self, a: ValueId, b: ValueId) -> Result<ValueId, IrError> {
                self.prim(Prim::$wrap($wrap::$member), &[a, b])
            }
        )*
    };
}

impl Builder {
    unary! {
        neg Neg, abs Abs, sign Sign, floor Floor, ceil Ceil, round Round, sqrt Sqrt, exp Exp, log Log,
        sin Sin, cos Cos, tanh Tanh, erf Erf, sigmoid Sigmoid, not Not, is_nan IsNan, is_inf IsInf,
    }

    binary! {
        add Binary Add, sub Binary Sub, mul Binary Mul, div Binary Div, rem Binary Rem, pow Binary Pow,
        max Binary Max, min Binary Min, and Binary And, or Binary Or,
        eq Compare Eq, ne Compare Ne, lt Compare Lt, le Compare Le, gt Compare Gt, ge Compare Ge,
    }

    /// `condition ? a : b`, broadcasting
    pub fn select(
        &mut self,
        condition: ValueId,
        a: ValueId,
        b: ValueId,
    ) -> Result<ValueId, IrError> {
        self.prim(Prim::Select, &[condition, a, b])
    }

    /// `x` as another element type; nothing is added when it already is.
    pub fn cast(&mut self, x: ValueId, to: DType) -> Result<ValueId, IrError> {
        if self.dtype(x) == to { Ok(x) } else { self.prim(Prim::cast(to), &[x]) }
    }

    /// A scalar constant of the given type.
    pub fn scalar(&mut self, dtype: DType, value: f64) -> Result<ValueId, IrError> {
        let tensor = Tensor::from_f64(dtype, [], &[value])?;
        Ok(self.constant(tensor))
    }

    /// A scalar constant of the type of `x`.
    pub fn scalar_like(&mut self, x: ValueId, value: f64) -> Result<ValueId, IrError> {
        self.scalar(self.dtype(x), value)
    }

    /// An `i64` vector constant.
    pub fn integers(&mut self, values: &[i64]) -> ValueId {
        self.constant(Tensor::from_i64s(values))
    }

    /// `x · value`
    pub fn scale(&mut self, x: ValueId, value: f64) -> Result<ValueId, IrError> {
        let factor = self.scalar_like(x, value)?;
        self.mul(x, factor)
    }

    /// `x + value`
    pub fn offset(&mut self, x: ValueId, value: f64) -> Result<ValueId, IrError> {
        let term = self.scalar_like(x, value)?;
        self.add(x, term)
    }

    /// `1 / x`
    pub fn reciprocal(&mut self, x: ValueId) -> Result<ValueId, IrError> {
        let one = self.scalar_like(x, 1.0)?;
        self.div(one, x)
    }

    /// `⌊a ÷ b⌋` of integers (the primitive truncates towards zero).
    pub fn floor_div(&mut self, a: ValueId, b: ValueId) -> Result<ValueId, IrError> {
        let quotient = self.div(a, b)?;
        let remainder = self.rem(a, b)?;
        let zero = self.scalar_like(a, 0.0)?;
        let inexact = self.ne(remainder, zero)?;
        let negative_remainder = self.lt(remainder, zero)?;
        let negative_divisor = self.lt(b, zero)?;
        let differ =
            self.prim(Prim::Binary(Binary::Xor), &[negative_remainder, negative_divisor])?;
        let below = self.and(inexact, differ)?;
        let correction = self.cast(below, self.dtype(a))?;
        self.sub(quotient, correction)
    }

    /// `x` under another shape.
    pub fn reshape(&mut self, x: ValueId, dims: &[Dim]) -> Result<ValueId, IrError> {
        if self.ty(x).shape == dims {
            return Ok(x);
        }
        let shape = self.dims_value(dims)?;
        self.prim(Prim::Reshape, &[x, shape])
    }

    /// `x` broadcast to exactly `dims`.
    pub fn broadcast(&mut self, x: ValueId, dims: &[Dim]) -> Result<ValueId, IrError> {
        if self.ty(x).shape == dims {
            return Ok(x);
        }
        let shape = self.dims_value(dims)?;
        self.prim(Prim::Broadcast, &[x, shape])
    }

    /// Inserts dims of size 1 so that they end up at `axes` (ascending).
    pub fn unsqueeze(&mut self, x: ValueId, axes: &[usize]) -> Result<ValueId, IrError> {
        let mut dims = self.dims(x);
        for &axis in axes {
            if axis > dims.len() {
                return Err(IrError::Setting {
                    op: "unsqueeze",
                    reason: "axes must lie within the result",
                    found: format!("{axes:?}"),
                });
            }
            dims.insert(axis, Dim::Fixed(1));
        }
        self.reshape(x, &dims)
    }

    /// Removes the dims at `axes`, which are of size 1.
    pub fn squeeze(&mut self, x: ValueId, axes: &[usize]) -> Result<ValueId, IrError> {
        let dims: Vec<Dim> = self
            .dims(x)
            .into_iter()
            .enumerate()
            .filter(|(i, _)| !axes.contains(i))
            .map(|(_, dim)| dim)
            .collect();
        self.reshape(x, &dims)
    }

    /// Permutes dims; nothing is added when the order stays.
    pub fn transpose(&mut self, x: ValueId, permutation: &[usize]) -> Result<ValueId, IrError> {
        if permutation.iter().enumerate().all(|(i, &p)| i == p) && permutation.len() == self.rank(x)
        {
            return Ok(x);
        }
        self.prim(Prim::Transpose { permutation: permutation.to_vec() }, &[x])
    }

    /// `x[…, start..end, …]` along one axis with step 1; bounds as [`Prim::Slice`] takes them.
    pub fn slice(
        &mut self,
        x: ValueId,
        axis: usize,
        start: &Dim,
        end: &Dim,
    ) -> Result<ValueId, IrError> {
        let starts = self.dims_value(std::slice::from_ref(start))?;
        let ends = self.dims_value(std::slice::from_ref(end))?;
        let steps = self.integers(&[1]);
        self.prim(Prim::Slice { axes: vec![axis] }, &[x, starts, ends, steps])
    }

    /// `x` from end to start along one axis.
    pub fn reverse(&mut self, x: ValueId, axis: usize) -> Result<ValueId, IrError> {
        let starts = self.integers(&[-1]);
        let ends = self.integers(&[i64::MIN]);
        let steps = self.integers(&[-1]);
        self.prim(Prim::Slice { axes: vec![axis] }, &[x, starts, ends, steps])
    }

    /// Values one after the other along `axis`; a single one is itself.
    pub fn concat(&mut self, values: &[ValueId], axis: usize) -> Result<ValueId, IrError> {
        if let [only] = values { Ok(*only) } else { self.prim(Prim::Concat { axis }, values) }
    }

    /// `x[…, index, …]` with `axis` removed.
    pub fn index(&mut self, x: ValueId, axis: usize, index: i64) -> Result<ValueId, IrError> {
        let index = self.constant(Tensor::scalar(index));
        self.prim(Prim::Take { axis }, &[x, index])
    }

    /// `0, 1, … dim − 1` as `i64`.
    pub fn iota(&mut self, dim: &Dim) -> Result<ValueId, IrError> {
        let length = self.dim_value(dim)?;
        self.prim(Prim::Iota, &[length])
    }

    /// Reduces `axes`, keeping them as size 1 when `keep`.
    pub fn reduce(
        &mut self,
        kind: ReduceKind,
        x: ValueId,
        axes: &[usize],
        keep: bool,
    ) -> Result<ValueId, IrError> {
        let mut axes = axes.to_vec();
        axes.sort_unstable();
        axes.dedup();
        let reduced = self.prim(Prim::Reduce { kind, axes: axes.clone() }, &[x])?;
        if keep { self.unsqueeze(reduced, &axes) } else { Ok(reduced) }
    }

    /// The number of elements along `axes` as a scalar of type `dtype`.
    pub fn count(&mut self, x: ValueId, axes: &[usize], dtype: DType) -> Result<ValueId, IrError> {
        let dims = self.dims(x);
        let count = axes.iter().fold(Dim::Fixed(1), |n, &axis| n * dims[axis].clone());
        if let Some(number) = count.constant() {
            return self.scalar(dtype, number as f64);
        }
        let value = self.dim_value(&count)?;
        self.cast(value, dtype)
    }

    /// The mean over `axes`.
    pub fn mean(&mut self, x: ValueId, axes: &[usize], keep: bool) -> Result<ValueId, IrError> {
        let sum = self.reduce(ReduceKind::Sum, x, axes, keep)?;
        let count = self.count(x, axes, self.dtype(x))?;
        self.div(sum, count)
    }

    /// NumPy's `matmul`: the last two dims multiply, the others broadcast; a vector is a row on the left
    /// and a column on the right, and its dim of 1 is dropped. `output` is the type of the result.
    pub fn matmul(&mut self, a: ValueId, b: ValueId, output: DType) -> Result<ValueId, IrError> {
        let (rank_a, rank_b) = (self.rank(a), self.rank(b));
        if rank_a == 0 || rank_b == 0 {
            return Err(IrError::Shapes {
                op: "matmul",
                reason: "both operands need a dim",
                types: vec![self.ty(a).clone(), self.ty(b).clone()],
            });
        }
        let (contract_a, contract_b) = (rank_a - 1, rank_b.saturating_sub(2));
        if rank_b <= 2 {
            // Without batch dims on the right every dim of the left but the last is a row.
            let dims = DotDims {
                lhs_contract: vec![contract_a],
                rhs_contract: vec![contract_b],
                ..DotDims::default()
            };
            return self.prim(Prim::DotGeneral(dims, output), &[a, b]);
        }
        let a = if rank_a == 1 { self.unsqueeze(a, &[0])? } else { a };
        let (dims_a, dims_b) = (self.dims(a), self.dims(b));
        let (batch_a, matrix_a) = dims_a.split_at(dims_a.len() - 2);
        let (batch_b, matrix_b) = dims_b.split_at(dims_b.len() - 2);
        let batch = broadcast_shapes("matmul", &[batch_a, batch_b])?;
        let a = self.broadcast(a, &[&batch, matrix_a].concat())?;
        let b = self.broadcast(b, &[&batch, matrix_b].concat())?;
        let n = batch.len();
        let dims = DotDims {
            lhs_batch: (0..n).collect(),
            rhs_batch: (0..n).collect(),
            lhs_contract: vec![n + 1],
            rhs_contract: vec![n],
        };
        let product = self.prim(Prim::DotGeneral(dims, output), &[a, b])?;
        if rank_a == 1 { self.squeeze(product, &[n]) } else { Ok(product) }
    }
}
