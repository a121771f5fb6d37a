//! Sampling, rearranging and cropping of images, and detection.

use anychip_ir::{Combine, DotDims, Prim, ValueId};
use anychip_ops::{GridSample, NonMaxSuppression, RoiAlign};
use anychip_tensor::{DType, Dim, Tensor};

use super::spatial::{LARGEST, positive};
use crate::import::call::{Call, ImportError};

type Results = Result<Vec<ValueId>, ImportError>;

pub(super) fn grid_sample(call: &mut Call<'_>) -> Results {
    let (x, grid) = (call.input(0)?, call.input(1)?);
    // Version 16 names the modes after images.
    let mode = match call.string("mode", "linear").as_str() {
        "linear" | "bilinear" => "linear",
        "nearest" => "nearest",
        "cubic" | "bicubic" => "cubic",
        _ => return Err(call.bad_attribute("mode", "is linear, nearest or cubic")),
    };
    let sample = GridSample {
        mode: mode.to_string(),
        padding: call.string("padding_mode", "zeros"),
        align_corners: call.flag("align_corners", false),
    };
    Ok(vec![call.b.composite(sample, &[x, grid])?])
}

pub(super) fn roi_align(call: &mut Call<'_>) -> Results {
    let (x, regions, images) = (call.input(0)?, call.input(1)?, call.input(2)?);
    let size = |name: &str, default: i64| {
        usize::try_from(call.int(name, default))
            .map_err(|_| call.bad_attribute(name, "must not be negative"))
    };
    let align = RoiAlign {
        height: size("output_height", 1)?,
        width: size("output_width", 1)?,
        sampling: size("sampling_ratio", 0)?,
        scale: call.float("spatial_scale", 1.0),
        // Version 10 has no such attribute and does not shift.
        half_pixel: call.opset >= 16
            && call.string("coordinate_transformation_mode", "half_pixel") == "half_pixel",
        maximum: call.string("mode", "avg") == "max",
    };
    Ok(vec![call.b.composite(align, &[x, regions, images])?])
}

pub(super) fn non_max_suppression(call: &mut Call<'_>) -> Results {
    let (boxes, scores) = (call.input(0)?, call.input(1)?);
    let dtype = call.b.dtype(scores);
    let mut scalar = |i: usize, default: f64, dtype: DType| match call.optional(i) {
        Some(value) => {
            let value = call.b.reshape(value, &[])?;
            Ok::<ValueId, ImportError>(call.b.cast(value, dtype)?)
        }
        None => Ok(call.b.scalar(dtype, default)?),
    };
    let most = scalar(2, 0.0, DType::I64)?;
    let overlap = scalar(3, 0.0, DType::F32)?;
    let least = scalar(4, f64::NEG_INFINITY, dtype)?;
    let select = NonMaxSuppression { centered: call.flag("center_point_box", false) };
    Ok(vec![call.b.composite(select, &[boxes, scores, most, overlap, least])?])
}

/// The elements of a shape operand as dims.
fn shape_operand(call: &Call<'_>, input: usize) -> Result<Vec<Dim>, ImportError> {
    let value = call.input(input)?;
    call.b
        .known(value)
        .map(<[Dim]>::to_vec)
        .ok_or(ImportError::NeedsValue { input, what: "the shape of the result" })
}

pub(super) fn affine_grid(call: &mut Call<'_>) -> Results {
    let theta = call.input(0)?;
    let size = shape_operand(call, 1)?;
    let dtype = call.b.dtype(theta);
    let align = call.flag("align_corners", false);
    if !matches!(size.len(), 4 | 5) {
        return Err(call.invalid("the size has four or five entries"));
    }
    let places = &size[2..];
    let spatial = places.len();
    let b = &mut *call.b;
    // Homogeneous positions (x, y[, z], 1), [places…, spatial + 1].
    let mut parts = Vec::new();
    for i in (0..spatial).rev() {
        let n = b.dim_value(&places[i])?;
        let n = b.cast(n, dtype)?;
        let order = b.iota(&places[i])?;
        let order = b.cast(order, dtype)?;
        let doubled = b.scale(order, 2.0)?;
        let along = if align {
            let last = b.offset(n, -1.0)?;
            let one = b.scalar(dtype, 1.0)?;
            let last = b.max(last, one)?;
            let ratio = b.div(doubled, last)?;
            b.offset(ratio, -1.0)?
        } else {
            let odd = b.offset(doubled, 1.0)?;
            let ratio = b.div(odd, n)?;
            b.offset(ratio, -1.0)?
        };
        let mut shape = vec![Dim::Fixed(1); spatial];
        shape[i] = places[i].clone();
        let along = b.reshape(along, &shape)?;
        let wide = b.broadcast(along, places)?;
        parts.push(b.unsqueeze(wide, &[spatial])?);
    }
    let one = b.scalar(dtype, 1.0)?;
    let ones = b.broadcast(one, &[places, &[Dim::Fixed(1)]].concat())?;
    parts.push(ones);
    let base = b.concat(&parts, spatial)?;
    let dims = DotDims { lhs_contract: vec![2], rhs_contract: vec![spatial], ..DotDims::default() };
    // [n, spatial, places…]
    let grid = b.prim(Prim::DotGeneral(dims, dtype), &[theta, base])?;
    let mut permutation = vec![0];
    permutation.extend(2..spatial + 2);
    permutation.push(1);
    Ok(vec![b.transpose(grid, &permutation)?])
}

/// Adds blocks back to where they were cut from.
pub(super) fn col2im(call: &mut Call<'_>) -> Results {
    let x = call.input(0)?;
    let image = call.need_integers(1, "the size of the image")?;
    let block = call.need_integers(2, "the size of a block")?;
    let spatial = image.len();
    let dims = call.b.dims(x);
    if dims.len() != 3
        || block.len() != spatial
        || image.iter().chain(&block).any(|n| !(1..=LARGEST).contains(n))
    {
        return Err(call.invalid("needs [n, c · block, places] and positive sizes"));
    }
    let strides = positive(call, "strides", spatial)?;
    let dilation = positive(call, "dilations", spatial)?;
    let pads = call.ints("pads").unwrap_or_else(|| vec![0; 2 * spatial]);
    if pads.len() != 2 * spatial || pads.iter().any(|p| !(0..=LARGEST).contains(p)) {
        return Err(call.bad_attribute("pads", "needs two numbers for each spatial dim"));
    }
    let b = &mut *call.b;
    let padded: Vec<i64> = (0..spatial).map(|i| image[i] + pads[i] + pads[spatial + i]).collect();
    // Which element of the padded image each element of each block is, [block…, places…].
    let mut shape = Vec::new();
    for i in 0..spatial {
        let span = (block[i] - 1) * dilation[i] as i64 + 1;
        shape.push(((padded[i] - span).div_euclid(strides[i] as i64) + 1).max(0));
    }
    let mut index: Option<ValueId> = None;
    for i in 0..spatial {
        let along = |b: &mut anychip_ir::Builder, count: i64, step: usize, place: usize| {
            let values: Vec<i64> = (0..count).map(|k| k * step as i64).collect();
            let values = b.integers(&values);
            let mut dims = vec![Dim::Fixed(1); 2 * spatial];
            dims[place] = Dim::from_i64(count);
            b.reshape(values, &dims)
        };
        let within = along(b, block[i], dilation[i], i)?;
        let start = along(b, shape[i], strides[i], spatial + i)?;
        let place = b.add(within, start)?;
        index = Some(match index {
            Some(index) => {
                let size = b.constant(Tensor::scalar(padded[i]));
                let scaled = b.mul(index, size)?;
                b.add(scaled, place)?
            }
            None => place,
        });
    }
    let Some(index) = index else { return Ok(vec![x]) };
    let product = |sizes: &[i64]| sizes.iter().try_fold(1i64, |p, &n| p.checked_mul(n));
    let (Some(elements), Some(area)) = (product(&block), product(&padded)) else {
        return Err(call.invalid("the image is too large"));
    };
    let b = &mut *call.b;
    let channels = dims[1].floor_div(&Dim::from_i64(elements));
    let count = Dim::from_i64(elements) * dims[2].clone();
    let planes = dims[0].clone() * channels.clone();
    let index = b.reshape(index, &[count.clone(), Dim::Fixed(1)])?;
    let blocks = b.reshape(x, &[planes.clone(), count])?;
    let blocks = b.transpose(blocks, &[1, 0])?;
    let zero = b.scalar_like(x, 0.0)?;
    let empty = b.broadcast(zero, &[Dim::from_i64(area), planes])?;
    let scatter = Prim::ScatterNd { combine: Combine::Add };
    let filled = b.prim(scatter, &[empty, index, blocks])?;
    let filled = b.transpose(filled, &[1, 0])?;
    let mut full = vec![dims[0].clone(), channels];
    full.extend(padded.iter().map(|&n| Dim::from_i64(n)));
    let filled = b.reshape(filled, &full)?;
    if pads.iter().all(|&p| p == 0) {
        return Ok(vec![filled]);
    }
    let crop =
        |part: &[i64]| -> Vec<i64> { [0, 0].into_iter().chain(part.iter().map(|p| -p)).collect() };
    let low = b.integers(&crop(&pads[..spatial]));
    let high = b.integers(&crop(&pads[spatial..]));
    Ok(vec![b.prim(Prim::Pad, &[filled, low, high, zero])?])
}

/// Crops or pads with zeros on both sides; what is odd goes to the end.
pub(super) fn center_crop_pad(call: &mut Call<'_>) -> Results {
    let (x, shape) = (call.input(0)?, call.input(1)?);
    let dims = call.b.dims(x);
    let axes = match call.ints("axes") {
        Some(axes) => call.axes(&axes, dims.len())?,
        None => (0..dims.len()).collect(),
    };
    let b = &mut *call.b;
    let shape = b.cast(shape, DType::I64)?;
    let two = b.constant(Tensor::scalar(2i64));
    let none = b.integers(&[0]);
    let (mut low, mut high) = (vec![none; dims.len()], vec![none; dims.len()]);
    for (i, &axis) in axes.iter().enumerate() {
        let wanted = b.index(shape, 0, i as i64)?;
        let own = b.dim_value(&dims[axis])?;
        let difference = b.sub(wanted, own)?;
        let before = b.div(difference, two)?;
        let after = b.sub(difference, before)?;
        low[axis] = b.unsqueeze(before, &[0])?;
        high[axis] = b.unsqueeze(after, &[0])?;
    }
    let (low, high) = (b.concat(&low, 0)?, b.concat(&high, 0)?);
    let zero = b.constant(Tensor::zeros(b.dtype(x), [])?);
    Ok(vec![b.prim(Prim::Pad, &[x, low, high, zero])?])
}
