//! Maximum pooling that also says where each maximum was.

use anychip_ir::{Builder, Expand, IrError, Prim, ReduceKind, ValueId, Window, composite, operands};
use anychip_tensor::{Dim, Tensor};

use crate::sample::lowest;
use crate::spatial::check_spatial;

composite! {
    /// `(x [n, c, spatial…]) → (maximum of each window, i64 index of it in the flattened x)`; of equal elements
    /// the first counts. Each vector has one entry a spatial dim.
    pub struct MaxPoolIndices = "max-pool-indices" {
        /// Elements a window covers.
        pub size: Vec<usize>,
        /// Steps between windows.
        pub strides: Vec<usize>,
        /// Distance between the elements of a window.
        pub dilation: Vec<usize>,
        /// Positions before that hold no element.
        pub padding_low: Vec<i64>,
        /// Positions after that hold no element.
        pub padding_high: Vec<i64>,
        /// Indices count the spatial dims with the first one fastest.
        pub column_major: bool,
    }
    example: MaxPoolIndices {
        size: vec![2, 2],
        strides: vec![2, 2],
        dilation: vec![1, 1],
        padding_low: vec![0, 0],
        padding_high: vec![0, 0],
        column_major: false,
    }
}

impl Expand for MaxPoolIndices {
    fn expand(&self, b: &mut Builder, x: &[ValueId]) -> Result<Vec<ValueId>, IrError> {
        let [x] = operands("max-pool-indices", x)?;
        let spatial = self.size.len();
        let counts: [&[usize]; 3] = [&self.size, &self.strides, &self.dilation];
        let paddings: [&[i64]; 2] = [&self.padding_low, &self.padding_high];
        check_spatial("max-pool-indices", spatial, &counts, &paddings)?;
        let dims = b.dims(x);
        if dims.len() != spatial + 2 {
            return Err(IrError::Setting {
                op: "max-pool-indices",
                reason: "needs a dim for each entry",
                found: format!("{:?}", self.size),
            });
        }
        let window = Window {
            size: self.size.clone(),
            strides: self.strides.clone(),
            dilation: self.dilation.clone(),
            padding: self.padding_low.iter().copied().zip(self.padding_high.iter().copied()).collect(),
        };
        let values =
            b.prim(Prim::ReduceWindow { kind: ReduceKind::Max, window }, &[x])?;
        let pooled = b.dims(values);
        let padded = self.pad(b, x)?;
        // Along each spatial dim: which source position each window's each element has, `[out, size]`.
        let mut windows = padded;
        let mut positions = Vec::new();
        for i in 0..spatial {
            let starts = b.iota(&pooled[2 + i])?;
            let stride = b.constant(Tensor::scalar(self.strides[i] as i64));
            let starts = b.mul(starts, stride)?;
            let starts = b.unsqueeze(starts, &[1])?;
            let steps = b.iota(&Dim::Fixed(self.size[i]))?;
            let dilation = b.constant(Tensor::scalar(self.dilation[i] as i64));
            let steps = b.mul(steps, dilation)?;
            let position = b.add(starts, steps)?;
            windows = b.prim(Prim::Take { axis: 2 + 2 * i }, &[windows, position])?;
            let low = b.constant(Tensor::scalar(self.padding_low[i]));
            positions.push(b.sub(position, low)?);
        }
        // [n, c, o1, k1, o2, k2…] → [n, c, o1, o2…, k1 · k2…]
        let mut permutation = vec![0, 1];
        permutation.extend((0..spatial).map(|i| 2 + 2 * i));
        permutation.extend((0..spatial).map(|i| 3 + 2 * i));
        let windows = b.transpose(windows, &permutation)?;
        let elements = self.size.iter().fold(Dim::Fixed(1), |n, &size| n * Dim::Fixed(size));
        let flat = [pooled.as_slice(), &[elements]].concat();
        let windows = b.reshape(windows, &flat)?;
        let place = Prim::ArgReduce { kind: ReduceKind::Max, axis: 2 + spatial, last: false };
        let mut local = b.prim(place, &[windows])?;
        // The place within the window gives a coordinate a dim, and these the index.
        let mut index = None;
        let mut coordinates = Vec::new();
        for i in (0..spatial).rev() {
            let size = b.constant(Tensor::scalar(self.size[i] as i64));
            let k = b.rem(local, size)?;
            local = b.div(local, size)?;
            coordinates.push((i, k));
        }
        coordinates.reverse();
        let order: Vec<usize> =
            if self.column_major { (0..spatial).rev().collect() } else { (0..spatial).collect() };
        let mut sources = Vec::new();
        for &(i, k) in &coordinates {
            let mut shape = vec![Dim::Fixed(1); spatial];
            shape[i] = pooled[2 + i].clone();
            let starts = b.index(positions[i], 1, 0)?;
            let starts = b.reshape(starts, &shape)?;
            let step = b.constant(Tensor::scalar(self.dilation[i] as i64));
            let offset = b.mul(k, step)?;
            sources.push(b.add(starts, offset)?);
        }
        for &i in &order {
            let size = b.dim_value(&dims[2 + i])?;
            index = Some(match index {
                None => sources[i],
                Some(so_far) => {
                    let scaled = b.mul(so_far, size)?;
                    b.add(scaled, sources[i])?
                }
            });
        }
        let planes = b.iota(&(dims[0].clone() * dims[1].clone()))?;
        let area = dims[2..].iter().fold(Dim::Fixed(1), |a, d| a * d.clone());
        let area = b.dim_value(&area)?;
        let base = b.mul(planes, area)?;
        let mut shape = vec![dims[0].clone(), dims[1].clone()];
        shape.extend(std::iter::repeat_n(Dim::Fixed(1), spatial));
        let base = b.reshape(base, &shape)?;
        let index = match index {
            Some(index) => b.add(base, index)?,
            None => base,
        };
        Ok(vec![values, index])
    }
}

impl MaxPoolIndices {
    /// `x` with its padding, which is never the largest.
    fn pad(&self, b: &mut Builder, x: ValueId) -> Result<ValueId, IrError> {
        if self.padding_low.iter().chain(&self.padding_high).all(|&p| p == 0) {
            return Ok(x);
        }
        let low = b.integers(&[&[0, 0], self.padding_low.as_slice()].concat());
        let high = b.integers(&[&[0, 0], self.padding_high.as_slice()].concat());
        let value = lowest(b, b.dtype(x))?;
        b.prim(Prim::Pad, &[x, low, high, value])
    }
}
