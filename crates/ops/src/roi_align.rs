//! Pooling of image regions by interpolation.

use anychip_ir::{Builder, Expand, IrError, Prim, ReduceKind, ValueId, composite, operands};
use anychip_tensor::{DType, Dim};

use crate::interpolate::clamp;

composite! {
    /// `(x [n, c, h, w], regions [r, 4], images i64[r]) → [r, c, height, width]`: each region (x₁, y₁, x₂, y₂) of its
    /// image is cut into bins, in each of which a grid of points is interpolated and averaged (arXiv:1703.06870).
    pub struct RoiAlign = "roi-align" {
        /// Rows of bins.
        pub height: usize,
        /// Columns of bins.
        pub width: usize,
        /// Points along each side of a bin; 0 takes `⌈size of the bin⌉`.
        pub sampling: usize,
        /// Factor from the regions' coordinates to the image's.
        pub scale: f32,
        /// Coordinates are those of edges: half an element is subtracted, and small regions stay small.
        pub half_pixel: bool,
        /// The largest weighted corner of all points instead of the mean.
        pub maximum: bool,
    }
    example: RoiAlign {
        height: 2,
        width: 2,
        sampling: 2,
        scale: 0.5,
        half_pixel: true,
        maximum: false,
    }
}

/// The points along one side of every region.
struct Side {
    /// Lower and upper element, `i64 [r, bins, points]`.
    elements: [ValueId; 2],
    /// Their weights; 0 where a point lies outside the image.
    weights: [ValueId; 2],
    /// Points that exist, where regions differ in how many they have.
    exists: Option<ValueId>,
    /// How many points a bin has, a float scalar or `[r]`.
    count: ValueId,
}

impl Expand for RoiAlign {
    fn expand(&self, b: &mut Builder, x: &[ValueId]) -> Result<Vec<ValueId>, IrError> {
        let [x, regions, images] = operands("roi-align", x)?;
        let dims = b.dims(x);
        if dims.len() != 4 || b.rank(regions) != 2 || b.rank(images) != 1 {
            return Err(IrError::Shapes {
                op: "roi-align",
                reason: "needs [n, c, h, w], [r, 4] and [r]",
                types: [x, regions, images].map(|v| b.ty(v).clone()).to_vec(),
            });
        }
        let dtype = b.dtype(x);
        let wide = if b.dtype(regions) == DType::F64 { DType::F64 } else { DType::F32 };
        let regions = b.cast(regions, wide)?;
        let scaled = b.scale(regions, f64::from(self.scale))?;
        let regions = b.offset(scaled, if self.half_pixel { -0.5 } else { 0.0 })?;
        let rows = self.side(b, regions, 1, self.height, &dims[2])?;
        let columns = self.side(b, regions, 0, self.width, &dims[3])?;

        // [n, h, w, c], addressed by image, row and column.
        let last = b.transpose(x, &[0, 2, 3, 1])?;
        let images = b.cast(images, DType::I64)?;
        let images = b.unsqueeze(images, &[1, 2, 3, 4])?;
        let mut combined: Option<ValueId> = None;
        for i in 0..2 {
            for j in 0..2 {
                // [r, height, points, width, points]
                let row = b.unsqueeze(rows.elements[i], &[3, 4])?;
                let column = b.unsqueeze(columns.elements[j], &[1, 2])?;
                let place = b.add(row, column)?;
                let shape = b.dims(place);
                let mut index = Vec::new();
                for part in [images, row, column] {
                    let wide = b.broadcast(part, &shape)?;
                    index.push(b.unsqueeze(wide, &[5])?);
                }
                let index = b.concat(&index, 5)?;
                let read = b.prim(Prim::GatherNd { batch: 0 }, &[last, index])?;
                let row = b.unsqueeze(rows.weights[i], &[3, 4])?;
                let column = b.unsqueeze(columns.weights[j], &[1, 2])?;
                let weight = b.mul(row, column)?;
                let weight = b.cast(weight, dtype)?;
                let weight = b.unsqueeze(weight, &[5])?;
                let term = b.mul(read, weight)?;
                combined = Some(match combined {
                    None => term,
                    Some(so_far) if self.maximum => b.max(so_far, term)?,
                    Some(so_far) => b.add(so_far, term)?,
                });
            }
        }
        let Some(mut points) = combined else { return Ok(Vec::new()) };
        for (side, axes) in [(&rows, [3, 4, 5]), (&columns, [1, 2, 5])] {
            if let Some(exists) = side.exists {
                let exists = b.unsqueeze(exists, &axes)?;
                let neutral = if self.maximum { f64::NEG_INFINITY } else { 0.0 };
                let neutral = b.scalar(dtype, neutral)?;
                points = b.select(exists, points, neutral)?;
            }
        }
        let kind = if self.maximum { ReduceKind::Max } else { ReduceKind::Sum };
        let mut bins = b.reduce(kind, points, &[2, 4], false)?;
        if !self.maximum {
            let count = b.mul(rows.count, columns.count)?;
            let one = b.scalar_like(count, 1.0)?;
            let count = b.max(count, one)?;
            let count = b.cast(count, dtype)?;
            let count = if b.rank(count) == 0 { count } else { b.unsqueeze(count, &[1, 2, 3])? };
            bins = b.div(bins, count)?;
        }
        Ok(vec![b.transpose(bins, &[0, 3, 1, 2])?])
    }
}

impl RoiAlign {
    fn side(
        &self,
        b: &mut Builder,
        regions: ValueId,
        first: i64,
        bins: usize,
        size: &Dim,
    ) -> Result<Side, IrError> {
        let wide = b.dtype(regions);
        let start = b.index(regions, 1, first)?;
        let end = b.index(regions, 1, first + 2)?;
        let mut extent = b.sub(end, start)?;
        if !self.half_pixel {
            let one = b.scalar(wide, 1.0)?;
            extent = b.max(extent, one)?;
        }
        let bin = b.scale(extent, 1.0 / bins as f64)?;
        let (points, count, exists) = if self.sampling > 0 {
            let points = b.iota(&Dim::Fixed(self.sampling))?;
            (b.cast(points, wide)?, b.scalar(wide, self.sampling as f64)?, None)
        } else {
            let count = b.ceil(bin)?;
            let most = b.reduce(ReduceKind::Max, count, &[0], false)?;
            let zero = b.scalar(wide, 0.0)?;
            let most = b.max(most, zero)?;
            let most = b.cast(most, DType::I64)?;
            let points = b.prim(Prim::Iota, &[most])?;
            let points = b.cast(points, wide)?;
            let each = b.unsqueeze(count, &[1, 2])?;
            let exists = b.lt(points, each)?;
            (points, count, Some(exists))
        };
        // start + (bin + (point + ½) / count) · size of a bin
        let centers = b.offset(points, 0.5)?;
        let each = if b.rank(count) == 0 { count } else { b.unsqueeze(count, &[1, 2])? };
        let fractions = b.div(centers, each)?;
        let order = b.iota(&Dim::Fixed(bins))?;
        let order = b.cast(order, wide)?;
        let order = b.unsqueeze(order, &[1])?;
        let within = b.add(order, fractions)?;
        let bin = b.unsqueeze(bin, &[1, 2])?;
        let start = b.unsqueeze(start, &[1, 2])?;
        let along = b.mul(within, bin)?;
        let place = b.add(start, along)?;

        let size = b.dim_value(size)?;
        let size = b.cast(size, wide)?;
        let (zero, minus_one) = (b.scalar(wide, 0.0)?, b.scalar(wide, -1.0)?);
        let last = b.offset(size, -1.0)?;
        let (low, high) = (b.ge(place, minus_one)?, b.le(place, size)?);
        let inside = b.and(low, high)?;
        let place = clamp(b, place, zero, last)?;
        let lower = b.floor(place)?;
        let upper = b.offset(lower, 1.0)?;
        let upper = b.min(upper, last)?;
        let ratio = b.sub(place, lower)?;
        let one = b.scalar(wide, 1.0)?;
        let rest = b.sub(one, ratio)?;
        let weights = [b.select(inside, rest, zero)?, b.select(inside, ratio, zero)?];
        let elements = [b.cast(lower, DType::I64)?, b.cast(upper, DType::I64)?];
        Ok(Side { elements, weights, exists, count })
    }
}
