//! Deformable convolution.

use anychip_ir::{Builder, DotDims, Expand, IrError, Prim, ValueId, composite};
use anychip_tensor::{DType, Dim, Tensor};

use crate::sample::{Outside, Pixels};
use crate::spatial::check_spatial;

composite! {
    /// `(x [n, c, spatial…], w [m, c/groups, kernel…], offset [n, og · kernel · spatial, out…][, mask [n,
    /// og · kernel, out…]]) → [n, m, out…]`: a convolution whose kernel elements read at places moved by `offset`
    /// (arXiv:1703.06211), weighted by `mask` (arXiv:1811.11168). Places between elements are linear.
    pub struct DeformableConv = "deformable-conv" {
        /// Steps between windows.
        pub strides: Vec<usize>,
        /// Zeros before.
        pub padding_low: Vec<i64>,
        /// Distance between kernel elements.
        pub dilation: Vec<usize>,
        /// Independent groups of channels.
        pub groups: usize,
        /// Groups of channels with an offset of their own, `og`.
        pub offset_groups: usize,
    }
    example: DeformableConv {
        strides: vec![1, 1],
        padding_low: vec![1, 1],
        dilation: vec![1, 1],
        groups: 1,
        offset_groups: 1,
    }
}

impl Expand for DeformableConv {
    fn expand(&self, b: &mut Builder, x: &[ValueId]) -> Result<Vec<ValueId>, IrError> {
        if !matches!(x.len(), 3 | 4) {
            return Err(IrError::OperandCount { op: "deformable-conv", expected: 3, found: x.len() });
        }
        let (image, w, offset, mask) = (x[0], x[1], x[2], x.get(3).copied());
        let spatial = self.strides.len();
        let counts: [&[usize]; 2] = [&self.strides, &self.dilation];
        check_spatial("deformable-conv", spatial, &counts, &[&self.padding_low])?;
        let (dims, kernel) = (b.dims(image), b.dims(w));
        let out: Vec<Dim> = b.dims(offset).into_iter().skip(2).collect();
        if dims.len() != spatial + 2
            || kernel.len() != spatial + 2
            || out.len() != spatial
        {
            return Err(IrError::Setting {
                op: "deformable-conv",
                reason: "needs a dim for each entry",
                found: format!("{self:?}"),
            });
        }
        let kernel = &kernel[2..];
        let product = |dims: &[Dim]| dims.iter().fold(Dim::Fixed(1), |a, d| a * d.clone());
        let (elements, points) = (product(kernel), product(&out));
        let offset_groups = Dim::Fixed(self.offset_groups);
        let images = dims[0].clone() * offset_groups.clone();
        let channels = dims[1].floor_div(&offset_groups);

        // Each offset group is an image of its own: [n · og, c/og, spatial…].
        let split = [&[images.clone(), channels.clone()], &dims[2..]].concat();
        let image = b.reshape(image, &split)?;
        let offset =
            b.reshape(offset, &[images.clone(), elements.clone(), Dim::Fixed(spatial), points.clone()])?;
        let wide = if b.dtype(offset) == DType::F64 { DType::F64 } else { DType::F32 };
        let offset = b.cast(offset, wide)?;
        let mut coordinates = Vec::new();
        for i in 0..spatial {
            // Where the kernel's elements lie, [kernel elements, output points].
            let along = |b: &mut Builder, dims: &[Dim], step: usize, start: i64| {
                let counter = b.iota(&dims[i])?;
                let factor = b.constant(Tensor::scalar(step as i64));
                let place = b.mul(counter, factor)?;
                let start = b.constant(Tensor::scalar(start));
                let place = b.add(place, start)?;
                let mut shape = vec![Dim::Fixed(1); spatial];
                shape[i] = dims[i].clone();
                let place = b.reshape(place, &shape)?;
                let place = b.broadcast(place, dims)?;
                b.reshape(place, &[product(dims)])
            };
            let element = along(b, kernel, self.dilation[i], -self.padding_low[i])?;
            let point = along(b, &out, self.strides[i], 0)?;
            let element = b.unsqueeze(element, &[1])?;
            let base = b.add(element, point)?;
            let base = b.cast(base, wide)?;
            let own = b.index(offset, 2, i as i64)?;
            let place = b.add(base, own)?;
            coordinates
                .push(b.reshape(place, &[images.clone(), elements.clone() * points.clone()])?);
        }
        let pixels = Pixels::new(b, image, Outside::Zero)?;
        let mut read = pixels.linear(b, &coordinates)?;
        if let Some(mask) = mask {
            let shape = [images.clone(), elements.clone() * points.clone(), Dim::Fixed(1)];
            let mask = b.reshape(mask, &shape)?;
            read = b.mul(read, mask)?;
        }
        // [n · og, kernel · out, c/og] → [n, g, c/g, kernel, out], contracted with [g, m/g, c/g, kernel].
        let read = b.transpose(read, &[0, 2, 1])?;
        let groups = Dim::Fixed(self.groups);
        let (n, c) = (dims[0].clone(), dims[1].floor_div(&groups));
        let read = b.reshape(read, &[n, groups.clone(), c.clone(), elements.clone(), points])?;
        let outputs = b.dims(w)[0].clone();
        let per_group = outputs.floor_div(&groups);
        let w = b.reshape(w, &[groups, per_group, c, elements])?;
        let contraction = DotDims {
            lhs_batch: vec![1],
            rhs_batch: vec![0],
            lhs_contract: vec![2, 3],
            rhs_contract: vec![2, 3],
        };
        let dtype = b.dtype(image);
        // [g, n, out, m/g]
        let result = b.prim(Prim::DotGeneral(contraction, dtype), &[read, w])?;
        let result = b.transpose(result, &[1, 0, 3, 2])?;
        let shape = [&[dims[0].clone(), outputs], out.as_slice()].concat();
        Ok(vec![b.reshape(result, &shape)?])
    }
}
