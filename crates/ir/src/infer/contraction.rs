//! Type rules of products, windows, reductions and selections.

use anychip_tensor::{DType, Dim};

use super::{Rule, Types, computable, one};
use crate::{ConvolutionDims, DotDims, IrError, ReduceKind, TensorType, Window};

impl Rule<'_, '_> {
    pub(super) fn dot(&mut self, dims: &DotDims, output: DType) -> Types {
        self.count(2)?;
        let (lhs, rhs) = (self.ty(0), self.ty(1));
        let in_range = dims.lhs_batch.iter().chain(&dims.lhs_contract).all(|&d| d < lhs.rank())
            && dims.rhs_batch.iter().chain(&dims.rhs_contract).all(|&d| d < rhs.rank());
        if !in_range
            || dims.lhs_batch.len() != dims.rhs_batch.len()
            || dims.lhs_contract.len() != dims.rhs_contract.len()
            || repeats(&dims.lhs_batch, &dims.lhs_contract)
            || repeats(&dims.rhs_batch, &dims.rhs_contract)
        {
            return Err(self.setting("dims must exist, differ and match in number", dims));
        }
        self.expect(0, computable(lhs.dtype), "a number")?;
        self.expect(1, computable(rhs.dtype), "a number")?;
        let pairs = dims
            .lhs_batch
            .iter()
            .zip(&dims.rhs_batch)
            .chain(dims.lhs_contract.iter().zip(&dims.rhs_contract));
        for (&l, &r) in pairs {
            self.equal_dims(
                &lhs.shape[l],
                &rhs.shape[r],
                "contracted and batch dims must be equal",
            )?;
        }
        let free = |ty: &TensorType, batch: &[usize], contract: &[usize]| -> Vec<Dim> {
            (0..ty.rank())
                .filter(|d| !batch.contains(d) && !contract.contains(d))
                .map(|d| ty.shape[d].clone())
                .collect()
        };
        let mut shape: Vec<Dim> = dims.lhs_batch.iter().map(|&d| lhs.shape[d].clone()).collect();
        shape.extend(free(lhs, &dims.lhs_batch, &dims.lhs_contract));
        shape.extend(free(rhs, &dims.rhs_batch, &dims.rhs_contract));
        one(output, shape)
    }

    pub(super) fn convolution(&mut self, dims: &ConvolutionDims, output: DType) -> Types {
        self.count(2)?;
        let (x, w) = (self.ty(0).clone(), self.ty(1).clone());
        self.expect(0, computable(x.dtype), "a number")?;
        self.expect(1, computable(w.dtype), "a number")?;
        let spatial = dims.strides.len();
        if x.rank() != spatial + 2 || w.rank() != spatial + 2 {
            return Err(self.shapes("operands need batch, channel and each spatial dim"));
        }
        if [dims.padding.len(), dims.dilation.len(), dims.input_dilation.len()] != [spatial; 3]
            || dims.groups == 0
            || dims.input_dilation.contains(&0)
        {
            return Err(self.setting("one entry a spatial dim, none of them 0", dims));
        }
        self.equal_dims(
            &x.shape[1],
            &(w.shape[1].clone() * Dim::Fixed(dims.groups)),
            "input channels must be the kernel's times the groups",
        )?;
        if w.shape[0].fixed().is_some_and(|m| m % dims.groups != 0) {
            return Err(self.setting("groups must divide the output channels", dims.groups));
        }
        let mut shape = vec![x.shape[0].clone(), w.shape[0].clone()];
        for i in 0..spatial {
            let dilation = dims.input_dilation[i];
            let size = if dilation == 1 {
                x.shape[2 + i].clone()
            } else {
                (x.shape[2 + i].clone() - Dim::Fixed(1)) * Dim::Fixed(dilation) + Dim::Fixed(1)
            };
            let out = self.windows(
                &size,
                &w.shape[2 + i],
                dims.strides[i],
                dims.dilation[i],
                dims.padding[i],
            )?;
            shape.push(out);
        }
        one(output, shape)
    }

    pub(super) fn reduce(&mut self, kind: ReduceKind, axes: &[usize]) -> Types {
        self.count(1)?;
        let x = self.ty(0).clone();
        let bools = matches!(kind, ReduceKind::Max | ReduceKind::Min) && x.dtype == DType::Bool;
        self.expect(0, computable(x.dtype) || bools, "a number")?;
        if axes.iter().any(|&a| a >= x.rank()) || !axes.is_sorted_by(|a, b| a < b) {
            return Err(self.setting("axes must exist and ascend", axes));
        }
        one(x.dtype, without(&x.shape, axes))
    }

    pub(super) fn arg_reduce(&mut self, kind: ReduceKind, axis: usize) -> Types {
        self.count(1)?;
        self.axis(axis, self.ty(0).rank())?;
        if !matches!(kind, ReduceKind::Max | ReduceKind::Min) {
            return Err(self.setting("only a maximum or a minimum has a place", kind));
        }
        one(DType::I64, without(&self.ty(0).shape, &[axis]))
    }

    pub(super) fn reduce_window(&mut self, window: &Window) -> Types {
        self.count(1)?;
        let x = self.ty(0).clone();
        self.expect(0, computable(x.dtype), "a number")?;
        let shape = self.window(&x, window)?;
        one(x.dtype, shape)
    }

    pub(super) fn cumulative(&mut self, axis: usize) -> Types {
        self.count(1)?;
        self.expect(0, computable(self.ty(0).dtype), "a number")?;
        self.axis(axis, self.ty(0).rank())?;
        Ok(vec![self.ty(0).clone()])
    }

    pub(super) fn top_k(&mut self, axis: usize) -> Types {
        self.count(2)?;
        let x = self.ty(0).clone();
        self.axis(axis, x.rank())?;
        self.expect(1, self.ty(1).dtype == DType::I64 && self.ty(1).rank() == 0, "an i64 scalar")?;
        let k = match self.operands[1].known {
            Some([dim]) => dim.clone(),
            _ => (self.fresh)(),
        };
        if let (Some(k), Some(n)) = (k.constant(), x.shape[axis].fixed())
            && (k < 0 || k as usize > n)
        {
            return Err(self.setting("k must lie between 0 and the dim", k));
        }
        let mut shape = x.shape;
        shape[axis] = k;
        Ok(vec![
            TensorType { dtype: x.dtype, shape: shape.clone() },
            TensorType { dtype: DType::I64, shape },
        ])
    }

    /// How many windows fit.
    fn windows(
        &mut self,
        size: &Dim,
        window: &Dim,
        stride: usize,
        dilation: usize,
        (low, high): (i64, i64),
    ) -> Result<Dim, IrError> {
        if stride == 0 || dilation == 0 {
            return Err(self.setting("strides and dilations must not be 0", (stride, dilation)));
        }
        let span = (window.clone() - Dim::Fixed(1)) * Dim::Fixed(dilation) + Dim::Fixed(1);
        let room = size.clone() + Dim::from_i64(low) + Dim::from_i64(high) - span;
        Ok(match room.constant() {
            Some(room) if room < 0 => Dim::Fixed(0),
            Some(room) => Dim::Fixed(room as usize / stride + 1),
            None if stride == 1 => room + Dim::Fixed(1),
            None => room.floor_div(&Dim::Fixed(stride)) + Dim::Fixed(1),
        })
    }

    fn window(&mut self, x: &TensorType, window: &Window) -> Result<Vec<Dim>, IrError> {
        let n = window.size.len();
        if n > x.rank()
            || [window.strides.len(), window.dilation.len(), window.padding.len()] != [n; 3]
        {
            return Err(self.setting("one entry a windowed dim", window));
        }
        if window.size.contains(&0) {
            return Err(self.setting("a window must cover an element", window));
        }
        let mut shape = x.shape.clone();
        let start = x.rank() - n;
        for i in 0..n {
            let size = Dim::Fixed(window.size[i]);
            shape[start + i] = self.windows(
                &x.shape[start + i],
                &size,
                window.strides[i],
                window.dilation[i],
                window.padding[i],
            )?;
        }
        Ok(shape)
    }
}

/// Whether a dim stands in both lists or twice in one.
fn repeats(batch: &[usize], contract: &[usize]) -> bool {
    let mut all: Vec<usize> = batch.iter().chain(contract).copied().collect();
    all.sort_unstable();
    all.windows(2).any(|pair| pair[0] == pair[1])
}

fn without(shape: &[Dim], axes: &[usize]) -> Vec<Dim> {
    shape
        .iter()
        .enumerate()
        .filter(|(i, _)| !axes.contains(i))
        .map(|(_, dim)| dim.clone())
        .collect()
}
