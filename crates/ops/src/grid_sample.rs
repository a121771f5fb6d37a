//! Sampling an image at the points of a grid.

use anychip_ir::{Builder, Expand, IrError, ValueId, composite, operands};
use anychip_tensor::{DType, Dim};

use crate::interpolate::{clamp, cubic_weights};
use crate::sample::{Outside, Pixels, mirror};

composite! {
    /// `(x [n, c, spatial…], grid [n, points…, spatial]) → [n, c, points…]`: `x` at the grid's points, whose
    /// coordinates run from −1 to 1 over the image, the last spatial dim first (arXiv:1506.02025).
    pub struct GridSample = "grid-sample" {
        /// `linear`, `nearest` or `cubic`.
        pub mode: String,
        /// What lies outside: `zeros`, `border` or `reflection`.
        pub padding: String,
        /// −1 and 1 are the centers of the outermost elements instead of their edges.
        pub align_corners: bool,
    }
    example: GridSample {
        mode: "linear".to_string(),
        padding: "zeros".to_string(),
        align_corners: false,
    }
}

impl Expand for GridSample {
    fn expand(&self, b: &mut Builder, x: &[ValueId]) -> Result<Vec<ValueId>, IrError> {
        let [x, grid] = operands("grid-sample", x)?;
        let (dims, points) = (b.dims(x), b.dims(grid));
        if dims.len() < 3 || points.len() < 2 {
            return Err(IrError::Shapes {
                op: "grid-sample",
                reason: "needs an image batch and a grid of points",
                types: vec![b.ty(x).clone(), b.ty(grid).clone()],
            });
        }
        let spatial = dims.len() - 2;
        let wide = if b.dtype(grid) == DType::F64 { DType::F64 } else { DType::F32 };
        let grid = b.cast(grid, wide)?;
        let places = &points[1..points.len() - 1];
        let flat = places.iter().fold(Dim::Fixed(1), |a, d| a * d.clone());
        let outside = match self.padding.as_str() {
            "zeros" => Outside::Zero,
            "border" => Outside::Edge,
            "reflection" => Outside::Mirror(self.align_corners),
            other => return Err(setting("the padding is zeros, border or reflection", other)),
        };
        let mut coordinates = Vec::new();
        for i in 0..spatial {
            let normal = b.index(grid, points.len() - 1, (spatial - 1 - i) as i64)?;
            let normal = b.reshape(normal, &[points[0].clone(), flat.clone()])?;
            let size = b.dim_value(&dims[2 + i])?;
            let size = b.cast(size, wide)?;
            let from_zero = b.offset(normal, 1.0)?;
            let place = if self.align_corners {
                let last = b.offset(size, -1.0)?;
                let half = b.scale(from_zero, 0.5)?;
                b.mul(half, last)?
            } else {
                let scaled = b.mul(from_zero, size)?;
                let shifted = b.offset(scaled, -1.0)?;
                b.scale(shifted, 0.5)?
            };
            let place = if self.mode == "nearest" { b.round(place)? } else { place };
            coordinates.push(match outside {
                Outside::Zero => place,
                // A cubic kernel at the edge weighs the true place; its neighbors are limited one by one.
                Outside::Edge if self.mode == "cubic" => place,
                Outside::Edge => {
                    let (first, last) = (b.scalar(wide, 0.0)?, b.offset(size, -1.0)?);
                    clamp(b, place, first, last)?
                }
                Outside::Mirror(centers) => mirror(b, place, size, centers)?,
            });
        }
        let pixels = Pixels::new(b, x, outside)?;
        let read = match self.mode.as_str() {
            "linear" => pixels.linear(b, &coordinates)?,
            "nearest" => pixels.at(b, &coordinates)?,
            "cubic" => pixels.interpolate(b, &coordinates, -1, &|b, ratio| {
                Ok(cubic_weights(b, ratio, -0.75)?.to_vec())
            })?,
            other => return Err(setting("the mode is linear, nearest or cubic", other)),
        };
        let channels_first = b.transpose(read, &[0, 2, 1])?;
        let shape = [&[dims[0].clone(), dims[1].clone()], places].concat();
        Ok(vec![b.reshape(channels_first, &shape)?])
    }
}

fn setting(reason: &'static str, found: &str) -> IrError {
    IrError::Setting { op: "grid-sample", reason, found: found.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anychip_ir::TensorType;

    #[test]
    fn an_image_of_too_many_dims_is_an_error() {
        let sampled = |spatial: usize| {
            let mut b = Builder::new("grid-sample");
            let image = b.input("x", TensorType::new(DType::F32, vec![Dim::Fixed(2); spatial + 2]));
            let mut points = vec![Dim::Fixed(2); spatial + 1];
            points.push(Dim::Fixed(spatial));
            let grid = b.input("grid", TensorType::new(DType::F32, points));
            let sample = GridSample {
                mode: "linear".to_string(),
                padding: "zeros".to_string(),
                align_corners: false,
            };
            b.composite(sample, &[image, grid]).map(|y| b.rank(y))
        };
        assert_eq!(sampled(3), Ok(5));
        // 2^30 corners of each point.
        assert!(matches!(sampled(30), Err(IrError::Shapes { op: "interpolate", .. })));
    }
}
