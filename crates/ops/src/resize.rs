//! Resampling of images to another size, one dim after the other.

use anychip_ir::{Builder, Expand, IrError, Prim, ReduceKind, ValueId, composite};
use anychip_tensor::{DType, Dim};

use crate::interpolate::{clamp, cubic_inner, cubic_outer, cubic_weights};

composite! {
    /// `(x[, sizes i64[axes]]) → x` resampled along `axes`, to `⌊size · scale⌋` or to `sizes`. Where element `i` of
    /// the result lies in `x` is `coordinates`' affair; the names are those of ONNX's `Resize` 19, which defines them.
    pub struct Resize = "resize" {
        /// Which dims.
        pub axes: Vec<usize>,
        /// `nearest`, `linear` or `cubic`.
        pub mode: String,
        /// `half_pixel`, `half_pixel_symmetric`, `pytorch_half_pixel`, `align_corners`, `asymmetric`,
        /// `tf_crop_and_resize` or `tf_half_pixel_for_nn`.
        pub coordinates: String,
        /// `round_prefer_floor`, `round_prefer_ceil`, `floor` or `ceil`.
        pub nearest: String,
        /// The cubic kernel's coefficient.
        pub cubic: f32,
        /// Neighbors outside have no weight; else the edge is continued.
        pub exclude_outside: bool,
        /// When it shrinks, the kernel covers all elements that it skips.
        pub antialias: bool,
        /// What `tf_crop_and_resize` gives outside.
        pub extrapolation: f32,
        /// Starts then ends along `axes` as fractions, for `tf_crop_and_resize`; else empty.
        pub region: Vec<f32>,
        /// Factors along `axes`; empty when there is an operand with sizes.
        pub scales: Vec<f32>,
        /// What sizes mean: `stretch`, or the bounds `not_larger` or `not_smaller` that keep proportions.
        pub policy: String,
    }
    example: Resize {
        axes: vec![2, 3],
        mode: "linear".to_string(),
        coordinates: "half_pixel".to_string(),
        nearest: "round_prefer_floor".to_string(),
        cubic: -0.75,
        exclude_outside: false,
        antialias: false,
        extrapolation: 0.0,
        region: Vec::new(),
        scales: vec![2.0, 1.5],
        policy: "stretch".to_string(),
    }
}

/// One dim being resized: what of it is known, and values that hold it.
struct Along {
    axis: usize,
    /// The result's size, when it is known before the run.
    dim: Option<Dim>,
    /// The result's size, `i64[]`.
    length: ValueId,
    /// The factor, `f64[]`.
    scale: ValueId,
    /// The factor as a number.
    factor: Option<f64>,
    /// Start and end as fractions.
    region: (f64, f64),
}

/// Elements on one side that a stretched kernel may cover; each becomes a few nodes.
const MOST_NEIGHBORS: i64 = 4096;

fn setting(reason: &'static str, found: &str) -> IrError {
    IrError::Setting { op: "resize", reason, found: found.to_string() }
}

impl Expand for Resize {
    fn expand(&self, b: &mut Builder, x: &[ValueId]) -> Result<Vec<ValueId>, IrError> {
        let sized = self.scales.is_empty();
        if x.len() != 1 + usize::from(sized) {
            return Err(IrError::OperandCount {
                op: "resize",
                expected: 1 + usize::from(sized),
                found: x.len(),
            });
        }
        let rank = b.rank(x[0]);
        if self.axes.iter().any(|&a| a >= rank)
            || (!sized && self.scales.len() != self.axes.len())
            || !(self.region.is_empty() || self.region.len() == 2 * self.axes.len())
        {
            return Err(setting("axes must exist, with a scale each", &format!("{self:?}")));
        }
        let dtype = b.dtype(x[0]);
        let original = b.dims(x[0]);
        let alongs = self.sizes(b, x[0], x.get(1).copied())?;
        let crop = self.coordinates == "tf_crop_and_resize";
        // Weighted sums of integers are taken in floats.
        let computed = if self.mode == "nearest" || dtype.is_float() { dtype } else { DType::F32 };
        let mut result = b.cast(x[0], computed)?;
        let mut outside: Option<ValueId> = None;
        for along in &alongs {
            let unchanged = along.dim.as_ref() == Some(&original[along.axis])
                && along.factor.is_none_or(|f| f == 1.0);
            if unchanged && !crop {
                continue;
            }
            let place = self.place(b, along, &original[along.axis])?;
            if crop {
                let out = beyond(b, place, &original[along.axis])?;
                let axes: Vec<usize> = (1..rank - along.axis).collect();
                let out = b.unsqueeze(out, &axes)?;
                outside = Some(match outside {
                    Some(so_far) => b.or(so_far, out)?,
                    None => out,
                });
            }
            result = self.resample(b, result, along, &original[along.axis], place)?;
        }
        if let Some(outside) = outside {
            let value = b.scalar(computed, f64::from(self.extrapolation))?;
            result = b.select(outside, value, result)?;
        }
        Ok(vec![b.cast(result, dtype)?])
    }
}

impl Resize {
    /// The size and the factor along each axis.
    fn sizes(&self, b: &mut Builder, x: ValueId, sizes: Option<ValueId>) -> Result<Vec<Along>, IrError> {
        let dims = b.dims(x);
        let mut alongs = Vec::new();
        let common = match sizes {
            Some(sizes) if self.policy != "stretch" => Some(self.common_scale(b, &dims, sizes)?),
            _ => None,
        };
        for (i, &axis) in self.axes.iter().enumerate() {
            let n = self.axes.len();
            let region = match self.region.as_slice() {
                [] => (0.0, 1.0),
                r => (f64::from(r[i]), f64::from(r[n + i])),
            };
            let input = b.dim_value(&dims[axis])?;
            let wide = b.cast(input, DType::F64)?;
            let along = match (sizes, &common) {
                (None, _) => {
                    let factor = f64::from(self.scales[i]);
                    let dim = scaled(&dims[axis], self.scales[i], region)?;
                    let length = b.dim_value(&dim)?;
                    let scale = b.scalar(DType::F64, factor)?;
                    Along { axis, dim: Some(dim), length, scale, factor: Some(factor), region }
                }
                (Some(_), Some((scale, factor))) => {
                    // round_half_up(scale · size)
                    let dim = factor.zip(dims[axis].fixed()).map(|(f, n)| {
                        Dim::Fixed((f * n as f64 + 0.5).floor() as usize)
                    });
                    let length = if let Some(dim) = &dim { b.dim_value(dim)? } else {
                        let product = b.mul(wide, *scale)?;
                        let shifted = b.offset(product, 0.5)?;
                        let whole = b.floor(shifted)?;
                        b.cast(whole, DType::I64)?
                    };
                    Along { axis, dim, length, scale: *scale, factor: *factor, region }
                }
                (Some(sizes), None) => {
                    let dim = b.known(sizes).and_then(|known| known.get(i)).cloned();
                    // A name in it need not be readable from `x`, so anything but a number is read off the operand.
                    let length = match &dim {
                        Some(dim) if dim.fixed().is_some() => b.dim_value(dim)?,
                        _ => b.index(sizes, 0, i as i64)?,
                    };
                    let output = b.cast(length, DType::F64)?;
                    let scale = b.div(output, wide)?;
                    let factor = dim
                        .as_ref()
                        .and_then(|d| Some(d.constant()? as f64 / dims[axis].constant()? as f64));
                    Along { axis, dim, length, scale, factor, region }
                }
            };
            alongs.push(along);
        }
        Ok(alongs)
    }

    /// The one factor with which no size is exceeded, or none undercut.
    fn common_scale(
        &self,
        b: &mut Builder,
        dims: &[Dim],
        sizes: ValueId,
    ) -> Result<(ValueId, Option<f64>), IrError> {
        let larger = match self.policy.as_str() {
            "not_larger" => false,
            "not_smaller" => true,
            other => return Err(setting("the policy is stretch, not_larger or not_smaller", other)),
        };
        let picked: Vec<Dim> = self.axes.iter().map(|&a| dims[a].clone()).collect();
        let numbers = b.known_integers(sizes).and_then(|sizes| {
            let ratios: Option<Vec<f64>> = sizes
                .iter()
                .zip(&picked)
                .map(|(&size, dim)| Some(size as f64 / dim.constant()? as f64))
                .collect();
            ratios?.into_iter().reduce(|a, r| if larger { a.max(r) } else { a.min(r) })
        });
        if let Some(factor) = numbers {
            return Ok((b.scalar(DType::F64, factor)?, Some(factor)));
        }
        let inputs = b.dims_value(&picked)?;
        let (inputs, sizes) = (b.cast(inputs, DType::F64)?, b.cast(sizes, DType::F64)?);
        let ratios = b.div(sizes, inputs)?;
        let kind = if larger { ReduceKind::Max } else { ReduceKind::Min };
        Ok((b.reduce(kind, ratios, &[0], false)?, None))
    }

    /// Where each element of the result lies in the original, `f64 [length]`.
    fn place(&self, b: &mut Builder, along: &Along, original: &Dim) -> Result<ValueId, IrError> {
        let order = b.prim(Prim::Iota, &[along.length])?;
        let order = b.cast(order, DType::F64)?;
        let input = b.dim_value(original)?;
        let input = b.cast(input, DType::F64)?;
        let last = b.offset(input, -1.0)?;
        let output = b.mul(along.scale, input)?;
        let output_last = b.offset(output, -1.0)?;
        let one = b.scalar(DType::F64, 1.0)?;
        let single = b.eq(output, one)?;
        let half_pixel = |b: &mut Builder| {
            let center = b.offset(order, 0.5)?;
            let scaled = b.div(center, along.scale)?;
            b.offset(scaled, -0.5)
        };
        match self.coordinates.as_str() {
            "half_pixel" => half_pixel(b),
            "half_pixel_symmetric" => {
                let whole = b.cast(along.length, DType::F64)?;
                let adjustment = b.div(whole, output)?;
                let missing = b.sub(one, adjustment)?;
                let center = b.scale(input, 0.5)?;
                let shift = b.mul(center, missing)?;
                let place = half_pixel(b)?;
                b.add(place, shift)
            }
            "pytorch_half_pixel" => {
                let place = half_pixel(b)?;
                let alone = b.scalar(DType::F64, -0.5)?;
                b.select(single, alone, place)
            }
            "tf_half_pixel_for_nn" => {
                let center = b.offset(order, 0.5)?;
                b.div(center, along.scale)
            }
            "asymmetric" => b.div(order, along.scale),
            "align_corners" => {
                let scaled = b.mul(order, last)?;
                let place = b.div(scaled, output_last)?;
                let first = b.scalar(DType::F64, 0.0)?;
                b.select(single, first, place)
            }
            "tf_crop_and_resize" => {
                let (start, end) = along.region;
                let span = b.scale(last, end - start)?;
                let scaled = b.mul(order, span)?;
                let place = b.div(scaled, output_last)?;
                let middle = b.scale(span, 0.5)?;
                let place = b.select(single, middle, place)?;
                let start = b.scale(last, start)?;
                b.add(place, start)
            }
            other => Err(setting("is not a way to map coordinates", other)),
        }
    }

    /// `x` read at `place` along one axis.
    fn resample(
        &self,
        b: &mut Builder,
        x: ValueId,
        along: &Along,
        original: &Dim,
        place: ValueId,
    ) -> Result<ValueId, IrError> {
        let axis = along.axis;
        let last = b.dim_value(&(original.clone() - Dim::Fixed(1)))?;
        let last = b.cast(last, DType::F64)?;
        let first = b.scalar(DType::F64, 0.0)?;
        if self.mode == "nearest" {
            let nearest = match self.nearest.as_str() {
                "round_prefer_floor" => {
                    let less = b.offset(place, -0.5)?;
                    b.ceil(less)?
                }
                "round_prefer_ceil" => {
                    let more = b.offset(place, 0.5)?;
                    b.floor(more)?
                }
                "floor" => b.floor(place)?,
                "ceil" => b.ceil(place)?,
                other => return Err(setting("is not a way to round", other)),
            };
            let inside = clamp(b, nearest, first, last)?;
            let index = b.cast(inside, DType::I64)?;
            return b.prim(Prim::Take { axis }, &[x, index]);
        }
        let below = b.floor(place)?;
        let ratio = b.sub(place, below)?;
        let (start, mut weights) = self.weights(b, along, ratio)?;
        let mut places = Vec::new();
        for i in 0..weights.len() {
            places.push(b.offset(below, (start + i as i64) as f64)?);
        }
        if self.exclude_outside {
            let mut sum: Option<ValueId> = None;
            for (weight, &place) in weights.iter_mut().zip(&places) {
                let (low, high) = (b.ge(place, first)?, b.le(place, last)?);
                let inside = b.and(low, high)?;
                *weight = b.select(inside, *weight, first)?;
                sum = Some(match sum {
                    Some(sum) => b.add(sum, *weight)?,
                    None => *weight,
                });
            }
            if let Some(sum) = sum {
                for weight in &mut weights {
                    *weight = b.div(*weight, sum)?;
                }
            }
        }
        let dtype = b.dtype(x);
        let trailing: Vec<usize> = (1..b.rank(x) - axis).collect();
        let mut sum: Option<ValueId> = None;
        for (&place, &weight) in places.iter().zip(&weights) {
            let inside = clamp(b, place, first, last)?;
            let index = b.cast(inside, DType::I64)?;
            let read = b.prim(Prim::Take { axis }, &[x, index])?;
            let weight = b.cast(weight, dtype)?;
            let weight = b.unsqueeze(weight, &trailing)?;
            let term = b.mul(read, weight)?;
            sum = Some(match sum {
                Some(sum) => b.add(sum, term)?,
                None => term,
            });
        }
        sum.ok_or_else(|| setting("the kernel covers no element", &self.mode))
    }

    /// How far before a position its first neighbor lies (0 or negative), and the neighbors' weights.
    fn weights(
        &self,
        b: &mut Builder,
        along: &Along,
        ratio: ValueId,
    ) -> Result<(i64, Vec<ValueId>), IrError> {
        let cubic = match self.mode.as_str() {
            "linear" => false,
            "cubic" => true,
            other => return Err(setting("the mode is nearest, linear or cubic", other)),
        };
        let a = f64::from(self.cubic);
        let one = b.scalar(DType::F64, 1.0)?;
        let shrinks = self.antialias && along.factor.is_none_or(|f| f < 1.0);
        if !shrinks {
            return Ok(if cubic {
                (-1, cubic_weights(b, ratio, a)?.to_vec())
            } else {
                (0, vec![b.sub(one, ratio)?, ratio])
            });
        }
        // The kernel is stretched by 1/scale; how many elements it covers must be known.
        let Some(scale) = along.factor.filter(|&f| f > 0.0) else {
            return Err(IrError::NeedsValue {
                op: "resize",
                operand: 1,
                what: "how many elements the kernel covers",
            });
        };
        let reach = if cubic { 2.0 } else { 1.0 };
        let start = (-reach / scale).floor() as i64 + 1;
        if start < -MOST_NEIGHBORS {
            return Err(setting("shrinks too much for a kernel that covers all", &scale.to_string()));
        }
        let zero = b.scalar(DType::F64, 0.0)?;
        let two = b.scalar(DType::F64, 2.0)?;
        let mut weights = Vec::new();
        let mut sum: Option<ValueId> = None;
        for i in start..2 - start {
            let place = b.scalar(DType::F64, i as f64)?;
            let distance = b.sub(place, ratio)?;
            let distance = b.scale(distance, scale)?;
            let distance = b.abs(distance)?;
            let weight = if cubic {
                let (inner, outer) = (cubic_inner(b, distance, a)?, cubic_outer(b, distance, a)?);
                let (near, far) = (b.le(distance, one)?, b.lt(distance, two)?);
                let outer = b.select(far, outer, zero)?;
                b.select(near, inner, outer)?
            } else {
                let weight = b.sub(one, distance)?;
                b.max(weight, zero)?
            };
            weights.push(weight);
            sum = Some(match sum {
                Some(sum) => b.add(sum, weight)?,
                None => weight,
            });
        }
        if let Some(sum) = sum {
            for weight in &mut weights {
                *weight = b.div(*weight, sum)?;
            }
        }
        Ok((start, weights))
    }
}

/// `⌊dim · (end − start) · scale⌋`, as the standard's shape rule computes it (in 32 bits for a number, exactly for a
/// formula).
fn scaled(dim: &Dim, scale: f32, region: (f64, f64)) -> Result<Dim, IrError> {
    if !(scale.is_finite() && scale > 0.0) {
        return Err(setting("a scale must be positive", &scale.to_string()));
    }
    let span = region.1 - region.0;
    if let Some(n) = dim.fixed() {
        let size = if span == 1.0 { f64::from(n as f32 * scale) } else { n as f64 * span * f64::from(scale) };
        return Ok(Dim::Fixed(size.floor() as usize));
    }
    // A float is a whole number times a power of two.
    let exact = f64::from(scale) * span;
    let shift = (0..=40).find(|&s| (exact * f64::from(s).exp2()).fract() == 0.0).unwrap_or(40);
    let denominator = 1i64 << shift;
    let numerator = (exact * denominator as f64).round() as i64;
    Ok((dim.clone() * Dim::from_i64(numerator)).floor_div(&Dim::from_i64(denominator)))
}

/// Which places lie outside the original, `bool [length]`.
fn beyond(b: &mut Builder, place: ValueId, original: &Dim) -> Result<ValueId, IrError> {
    let first = b.scalar(DType::F64, 0.0)?;
    let last = b.dim_value(&(original.clone() - Dim::Fixed(1)))?;
    let last = b.cast(last, DType::F64)?;
    let (below, above) = (b.lt(place, first)?, b.gt(place, last)?);
    b.or(below, above)
}

#[cfg(test)]
mod tests {
    use super::*;
    use anychip_ir::TensorType;

    fn doubled() -> Resize {
        Resize {
            axes: vec![2, 3],
            mode: "nearest".to_string(),
            coordinates: "asymmetric".to_string(),
            nearest: "floor".to_string(),
            cubic: -0.75,
            exclude_outside: false,
            antialias: false,
            extrapolation: 0.0,
            region: Vec::new(),
            scales: vec![2.0, 1.5],
            policy: "stretch".to_string(),
        }
    }

    #[test]
    fn a_named_size_scales() {
        let mut b = Builder::new("resize");
        let dims = [1.into(), 3.into(), Dim::sym("h"), 5.into()];
        let x = b.input("x", TensorType::new(DType::F32, dims));
        let y = b.composite(doubled(), &[x]).unwrap();
        assert_eq!(b.ty(y).to_string(), "f32[1, 3, 2*h, 7]");
    }

    #[test]
    fn sizes_from_another_image_are_followed() {
        let mut b = Builder::new("resize");
        let image = |h: Dim| TensorType::new(DType::F32, [1.into(), 3.into(), h, 5.into()]);
        let x = b.input("x", image(Dim::sym("h")));
        let other = b.input("other", image(Dim::sym("k")));
        let sizes = b.prim(Prim::ShapeOf, &[other]).unwrap();
        let resize =
            Resize { axes: vec![0, 1, 2, 3], scales: Vec::new(), mode: "linear".to_string(), ..doubled() };
        let y = b.composite(resize, &[x, sizes]).unwrap();
        assert_eq!(b.ty(y).to_string(), "f32[1, 3, k, 5]");
    }

    #[test]
    fn scales_are_read_exactly() {
        assert_eq!(scaled(&Dim::Fixed(10), 0.7, (0.0, 1.0)).unwrap(), Dim::Fixed(7));
        let half = scaled(&Dim::sym("h"), 0.5, (0.0, 1.0)).unwrap();
        assert_eq!(half.evaluate(&|_| Some(7)), Some(3));
        assert!(scaled(&Dim::Fixed(10), f32::NAN, (0.0, 1.0)).is_err());
    }
}
