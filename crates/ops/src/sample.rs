//! Reading pixels at computed places: what grid sampling, region pooling and deformable convolution share.

use anychip_ir::{Builder, IrError, Prim, ValueId};
use anychip_tensor::{DType, Dim, Tensor};

use crate::interpolate::clamp;

/// A scalar that is not larger than any value of the type.
pub(crate) fn lowest(b: &mut Builder, dtype: DType) -> Result<ValueId, IrError> {
    match dtype.integer_range() {
        Some((least, _)) => Ok(b.constant(Tensor::from_integers(dtype, [], &[least])?)),
        None => b.scalar(dtype, f64::NEG_INFINITY),
    }
}

/// What a position outside the image reads.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outside {
    /// 0
    Zero,
    /// The nearest element.
    Edge,
    /// What mirrors at the border of the outermost elements' centers (`true`) or edges show.
    Mirror(bool),
}

/// Weights of neighbors from the distance to the one below.
pub(crate) type Taps<'a> = &'a dyn Fn(&mut Builder, ValueId) -> Result<Vec<ValueId>, IrError>;

/// Neighbors of one place that may be read; each becomes a few nodes.
const MOST_CORNERS: usize = 4096;

/// An image batch `[n, c, spatial…]` ready to be read at places.
pub(crate) struct Pixels {
    /// `[n, spatial…, c]` with the spatial dims made one.
    rows: ValueId,
    /// The spatial sizes as `i64[]`.
    sizes: Vec<ValueId>,
    outside: Outside,
}

impl Pixels {
    pub(crate) fn new(b: &mut Builder, x: ValueId, outside: Outside) -> Result<Pixels, IrError> {
        let dims = b.dims(x);
        let spatial = dims.len() - 2;
        let mut permutation = vec![0];
        permutation.extend(2..dims.len());
        permutation.push(1);
        let last = b.transpose(x, &permutation)?;
        let area = dims[2..].iter().fold(Dim::Fixed(1), |a, d| a * d.clone());
        let rows = b.reshape(last, &[dims[0].clone(), area, dims[1].clone()])?;
        let sizes = (0..spatial).map(|i| b.dim_value(&dims[2 + i])).collect::<Result<_, _>>()?;
        Ok(Pixels { rows, sizes, outside })
    }

    /// The elements at integer coordinates: one `[n, points]` float value a spatial dim → `[n, points, c]`.
    pub(crate) fn at(&self, b: &mut Builder, coordinates: &[ValueId]) -> Result<ValueId, IrError> {
        let mut index: Option<ValueId> = None;
        let mut inside: Option<ValueId> = None;
        for (&coordinate, &size) in coordinates.iter().zip(&self.sizes) {
            let float = b.dtype(coordinate);
            let count = b.cast(size, float)?;
            let last = b.offset(count, -1.0)?;
            let zero = b.scalar(float, 0.0)?;
            if self.outside == Outside::Zero {
                let (low, high) = (b.ge(coordinate, zero)?, b.le(coordinate, last)?);
                let within = b.and(low, high)?;
                inside = Some(match inside {
                    Some(all) => b.and(all, within)?,
                    None => within,
                });
            }
            let place = match self.outside {
                Outside::Zero | Outside::Edge => coordinate,
                Outside::Mirror(centers) => mirror(b, coordinate, count, centers)?,
            };
            let place = clamp(b, place, zero, last)?;
            let place = b.cast(place, DType::I64)?;
            index = Some(match index {
                Some(so_far) => {
                    let scaled = b.mul(so_far, size)?;
                    b.add(scaled, place)?
                }
                None => place,
            });
        }
        let Some(index) = index else { return Ok(self.rows) };
        let rank = b.rank(index);
        let index = b.unsqueeze(index, &[rank])?;
        let read = b.prim(Prim::GatherNd { batch: 1 }, &[self.rows, index])?;
        match inside {
            Some(inside) => {
                let inside = b.unsqueeze(inside, &[rank])?;
                let zero = b.scalar_like(read, 0.0)?;
                b.select(inside, read, zero)
            }
            None => Ok(read),
        }
    }

    /// The weighted sum over the corners around float coordinates, `[n, points]` each → `[n, points, c]`. The
    /// weights along each dim are those of `taps(ratio)` for the elements from `first` places before on.
    pub(crate) fn interpolate(
        &self,
        b: &mut Builder,
        coordinates: &[ValueId],
        first: i64,
        taps: Taps<'_>,
    ) -> Result<ValueId, IrError> {
        let dtype = b.dtype(self.rows);
        let mut starts = Vec::new();
        let mut weights = Vec::new();
        for &coordinate in coordinates {
            let below = b.floor(coordinate)?;
            let ratio = b.sub(coordinate, below)?;
            weights.push(taps(b, ratio)?);
            starts.push(b.offset(below, first as f64)?);
        }
        let count = weights.iter().fold(1usize, |n, dim| n.saturating_mul(dim.len()));
        if count > MOST_CORNERS {
            return Err(IrError::Shapes {
                op: "interpolate",
                reason: "an image of too many dims",
                types: vec![b.ty(self.rows).clone()],
            });
        }
        let mut corners = vec![Vec::new()];
        for dim in &weights {
            corners = corners
                .into_iter()
                .flat_map(|corner: Vec<usize>| {
                    (0..dim.len()).map(move |tap| [corner.as_slice(), &[tap]].concat())
                })
                .collect();
        }
        let mut sum: Option<ValueId> = None;
        for corner in corners {
            let mut places = Vec::new();
            let mut weight: Option<ValueId> = None;
            for (d, &tap) in corner.iter().enumerate() {
                places.push(b.offset(starts[d], tap as f64)?);
                weight = Some(match weight {
                    Some(so_far) => b.mul(so_far, weights[d][tap])?,
                    None => weights[d][tap],
                });
            }
            let read = self.at(b, &places)?;
            let term = match weight {
                Some(weight) => {
                    let axis = b.rank(weight);
                    let weight = b.cast(weight, dtype)?;
                    let weight = b.unsqueeze(weight, &[axis])?;
                    b.mul(read, weight)?
                }
                None => read,
            };
            sum = Some(match sum {
                Some(sum) => b.add(sum, term)?,
                None => term,
            });
        }
        Ok(sum.unwrap_or(self.rows))
    }

    /// As [`Pixels::interpolate`], linear in each dim.
    pub(crate) fn linear(
        &self,
        b: &mut Builder,
        coordinates: &[ValueId],
    ) -> Result<ValueId, IrError> {
        self.interpolate(b, coordinates, 0, &|b, ratio| {
            let one = b.scalar_like(ratio, 1.0)?;
            Ok(vec![b.sub(one, ratio)?, ratio])
        })
    }
}

/// `x` folded back and forth between the borders of `count` elements: their outermost centers
/// (`0 ..= count − 1`) or their edges (`−½ ..= count − ½`).
pub(crate) fn mirror(
    b: &mut Builder,
    x: ValueId,
    count: ValueId,
    centers: bool,
) -> Result<ValueId, IrError> {
    let (low, range) = if centers { (0.0, b.offset(count, -1.0)?) } else { (-0.5, count) };
    // One element has a range of 0: everything folds to it.
    let least = b.scalar_like(x, 1e-6)?;
    let range = b.max(range, least)?;
    let from_low = b.offset(x, -low)?;
    let distance = b.abs(from_low)?;
    let period = b.scale(range, 2.0)?;
    let periods = b.div(distance, period)?;
    let whole = b.floor(periods)?;
    let skipped = b.mul(whole, period)?;
    let phase = b.sub(distance, skipped)?;
    let to_middle = b.sub(phase, range)?;
    let to_middle = b.abs(to_middle)?;
    let folded = b.sub(range, to_middle)?;
    b.offset(folded, low)
}
