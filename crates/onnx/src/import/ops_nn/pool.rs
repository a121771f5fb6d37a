//! Pools.

use anychip_ir::{Combine, Prim, ReduceKind, ValueId, Window};
use anychip_ops::{AveragePool, MaxPoolIndices};
use anychip_tensor::{DType, Dim, Tensor};

use super::spatial::{LARGEST, Windows};
use crate::import::call::{Call, ImportError};

type Results = Result<Vec<ValueId>, ImportError>;

/// Windows, how far they reach past the padding, and the most that count along each dim.
type Pool = (Windows, Vec<i64>, Vec<Option<Dim>>);

/// The pool's windows, with what rounding their number up adds and the bounds on it.
fn windows(call: &Call<'_>, x: ValueId) -> Result<Pool, ImportError> {
    let size: Option<Vec<usize>> = call
        .need_ints("kernel_shape")?
        .iter()
        .map(|&k| (1..=LARGEST).contains(&k).then_some(k as usize))
        .collect();
    let size = size.ok_or_else(|| call.bad_attribute("kernel_shape", "must be positive"))?;
    let spatial = size.len();
    let windows = Windows::new(call, x, size)?;
    let (overhang, most) = if call.flag("ceil_mode", false) {
        windows.round_up(&call.b.dims(x)[2..])
    } else {
        (vec![0; spatial], vec![None; spatial])
    };
    Ok((windows, overhang, most))
}

/// Drops the windows beyond the bounds.
fn limit(
    call: &mut Call<'_>,
    mut y: ValueId,
    most: &[Option<Dim>],
) -> Result<ValueId, ImportError> {
    for (i, bound) in most.iter().enumerate() {
        if let Some(bound) = bound {
            y = call.b.slice(y, 2 + i, &Dim::Fixed(0), bound)?;
        }
    }
    Ok(y)
}

/// A scalar no larger than any value of the type.
fn lowest(call: &mut Call<'_>, dtype: DType) -> Result<ValueId, ImportError> {
    Ok(match dtype.integer_range() {
        Some((least, _)) => call.b.constant(Tensor::from_integers(dtype, [], &[least])?),
        None => call.b.scalar(dtype, f64::NEG_INFINITY)?,
    })
}

pub(super) fn max_pool(call: &mut Call<'_>) -> Results {
    let x = call.input(0)?;
    let (windows, overhang, most) = windows(call, x)?;
    let padding: Vec<(i64, i64)> =
        windows.padding.iter().zip(&overhang).map(|(&(low, high), o)| (low, high + o)).collect();
    if call.outputs > 1 {
        if windows.is_symbolic() {
            return Err(ImportError::NeedsSizes { input: 0, what: "the padding" });
        }
        let composite = MaxPoolIndices {
            size: windows.size,
            strides: windows.strides,
            dilation: windows.dilation,
            padding_low: padding.iter().map(|p| p.0).collect(),
            padding_high: padding.iter().map(|p| p.1).collect(),
            column_major: call.int("storage_order", 0) == 1,
        };
        let results = call.b.node(composite, &[x], Vec::new())?;
        return results.into_iter().map(|y| limit(call, y, &most)).collect();
    }
    let least = lowest(call, call.b.dtype(x))?;
    let x = windows.pad(call, x, least)?;
    let window = Window {
        size: windows.size,
        strides: windows.strides,
        dilation: windows.dilation,
        padding,
    };
    let y = call.b.prim(Prim::ReduceWindow { kind: ReduceKind::Max, window }, &[x])?;
    Ok(vec![limit(call, y, &most)?])
}

pub(super) fn average_pool(call: &mut Call<'_>) -> Results {
    let x = call.input(0)?;
    Ok(vec![average_pool_of(call, x)?])
}

/// The average pool that the node's attributes describe, of `x`.
pub(in crate::import) fn average_pool_of(
    call: &mut Call<'_>,
    x: ValueId,
) -> Result<ValueId, ImportError> {
    let (windows, overhang, most) = windows(call, x)?;
    if windows.is_symbolic() {
        return Err(ImportError::NeedsSizes { input: 0, what: "the padding" });
    }
    let composite = AveragePool {
        size: windows.size,
        strides: windows.strides,
        dilation: windows.dilation,
        padding_low: windows.padding.iter().map(|p| p.0).collect(),
        padding_high: windows.padding.iter().map(|p| p.1).collect(),
        overhang,
        count_padding: call.flag("count_include_pad", false),
    };
    let y = call.b.composite(composite, &[x])?;
    limit(call, y, &most)
}

/// `(Σ |x|^p)^(1/p)`, where `sum` adds up.
fn norm(
    call: &mut Call<'_>,
    x: ValueId,
    sum: &dyn Fn(&mut Call<'_>, ValueId) -> Result<ValueId, ImportError>,
) -> Result<ValueId, ImportError> {
    // Version 1 has a float; both default to 2.
    let p = call.int_opt("p").filter(|&p| p != 0).map_or(2.0, |p| p as f64);
    if p == 1.0 {
        let magnitude = call.b.abs(x)?;
        return sum(call, magnitude);
    }
    if p == 2.0 {
        let square = call.b.mul(x, x)?;
        let total = sum(call, square)?;
        return Ok(call.b.sqrt(total)?);
    }
    let magnitude = call.b.abs(x)?;
    let exponent = call.b.scalar_like(x, p)?;
    let power = call.b.pow(magnitude, exponent)?;
    let total = sum(call, power)?;
    let root = call.b.scalar_like(x, 1.0 / p)?;
    Ok(call.b.pow(total, root)?)
}

pub(super) fn lp_pool(call: &mut Call<'_>) -> Results {
    let x = call.input(0)?;
    let (windows, overhang, most) = windows(call, x)?;
    let zero = call.b.scalar_like(x, 0.0)?;
    let x = windows.pad(call, x, zero)?;
    let window = Window {
        size: windows.size,
        strides: windows.strides,
        dilation: windows.dilation,
        padding: windows.padding.iter().zip(&overhang).map(|(&(l, h), o)| (l, h + o)).collect(),
    };
    let y = norm(call, x, &|call, v| {
        let window = window.clone();
        Ok(call.b.prim(Prim::ReduceWindow { kind: ReduceKind::Sum, window }, &[v])?)
    })?;
    Ok(vec![limit(call, y, &most)?])
}

fn spatial_axes(call: &Call<'_>, x: ValueId) -> Vec<usize> {
    (2..call.b.rank(x)).collect()
}

pub(super) fn global_average_pool(call: &mut Call<'_>) -> Results {
    let x = call.input(0)?;
    let axes = spatial_axes(call, x);
    Ok(vec![call.b.mean(x, &axes, true)?])
}

pub(super) fn global_max_pool(call: &mut Call<'_>) -> Results {
    let x = call.input(0)?;
    let axes = spatial_axes(call, x);
    Ok(vec![call.b.reduce(ReduceKind::Max, x, &axes, true)?])
}

pub(super) fn global_lp_pool(call: &mut Call<'_>) -> Results {
    let x = call.input(0)?;
    let axes = spatial_axes(call, x);
    let y = norm(call, x, &|call, v| Ok(call.b.reduce(ReduceKind::Sum, v, &axes, true)?))?;
    Ok(vec![y])
}

/// Puts the elements back where a maximum pool took them, zeros elsewhere.
pub(super) fn max_unpool(call: &mut Call<'_>) -> Results {
    let (x, indices) = (call.input(0)?, call.input(1)?);
    let dims = call.b.dims(x);
    let kernel = call.need_ints("kernel_shape")?;
    let spatial = kernel.len();
    if dims.len() != spatial + 2 {
        return Err(call.invalid("the operand does not have the window's number of spatial dims"));
    }
    let strides = call.ints("strides").unwrap_or_else(|| vec![1; spatial]);
    let pads = call.ints("pads").unwrap_or_else(|| vec![0; 2 * spatial]);
    let large = kernel.iter().chain(&strides).chain(&pads).any(|&n| !(0..=LARGEST).contains(&n));
    if large || strides.len() != spatial || pads.len() != 2 * spatial {
        return Err(call.bad_attribute("pads", "needs two numbers for each spatial dim"));
    }
    let mut shape = dims[..2].to_vec();
    for i in 0..spatial {
        let steps = (dims[2 + i].clone() - Dim::Fixed(1)) * Dim::from_i64(strides[i]);
        shape.push(steps + Dim::from_i64(kernel[i] - pads[i] - pads[spatial + i]));
    }
    let total = shape.iter().fold(Dim::Fixed(1), |a, d| a * d.clone());
    let count = dims.iter().fold(Dim::Fixed(1), |a, d| a * d.clone());
    let zero = call.b.scalar_like(x, 0.0)?;
    let empty = call.b.broadcast(zero, &[total])?;
    let flat = call.b.reshape(x, std::slice::from_ref(&count))?;
    let places = call.b.reshape(indices, &[count])?;
    let scatter = Prim::ScatterAlong { axis: 0, combine: Combine::Set };
    let filled = call.b.prim(scatter, &[empty, places, flat])?;
    let image = call.b.reshape(filled, &shape)?;
    let Some(wanted) = call.optional(2) else { return Ok(vec![image]) };
    // A wanted shape adds zeros at the end.
    let own = call.b.dims_value(&shape)?;
    let wanted = call.b.cast(wanted, DType::I64)?;
    let high = call.b.sub(wanted, own)?;
    let low = call.b.integers(&vec![0; shape.len()]);
    Ok(vec![call.b.prim(Prim::Pad, &[image, low, high, zero])?])
}

/// The largest element in each bin of each region; bins are whole elements.
pub(super) fn max_roi_pool(call: &mut Call<'_>) -> Results {
    let (x, regions) = (call.input(0)?, call.input(1)?);
    let shape = call.need_ints("pooled_shape")?;
    let scale = f64::from(call.float("spatial_scale", 1.0));
    let dims = call.b.dims(x);
    if dims.len() != 4 || shape.len() != 2 || shape.iter().any(|&s| s < 1) {
        return Err(call.invalid("needs [n, c, h, w] and a height and a width"));
    }
    let images = call.b.index(regions, 1, 0)?;
    let images = call.b.cast(images, DType::I64)?;
    let mut read = call.b.prim(Prim::Take { axis: 0 }, &[x, images])?;
    let dtype = call.b.dtype(x);
    let least = lowest(call, dtype)?;
    // Width first, then height: each time the last dim is replaced by the bins along it.
    for (column, bins, size) in [(1, shape[1], &dims[3]), (2, shape[0], &dims[2])] {
        let inside = roi_bins(call, regions, column, bins, size, scale)?;
        let inside = call.b.unsqueeze(inside, &[1, 2])?;
        let wide = call.b.unsqueeze(read, &[3])?;
        let masked = call.b.select(inside, wide, least)?;
        let most = call.b.reduce(ReduceKind::Max, masked, &[4], false)?;
        read = call.b.transpose(most, &[0, 1, 3, 2])?;
    }
    // An empty bin gives 0.
    let empty = call.b.eq(read, least)?;
    let zero = call.b.scalar(dtype, 0.0)?;
    Ok(vec![call.b.select(empty, zero, read)?])
}

/// Which elements of a dim belong to each bin of each region, `bool [r, bins, size]`.
fn roi_bins(
    call: &mut Call<'_>,
    regions: ValueId,
    column: i64,
    bins: i64,
    size: &Dim,
    scale: f64,
) -> Result<ValueId, ImportError> {
    let b = &mut *call.b;
    // Halves are rounded away from zero; coordinates are not negative.
    let mut whole = |column: i64| -> Result<ValueId, ImportError> {
        let edge = b.index(regions, 1, column)?;
        let edge = b.scale(edge, scale)?;
        let shifted = b.offset(edge, 0.5)?;
        Ok(b.floor(shifted)?)
    };
    let (start, end) = (whole(column)?, whole(column + 2)?);
    let extent = b.sub(end, start)?;
    let extent = b.offset(extent, 1.0)?;
    let one = b.scalar_like(extent, 1.0)?;
    let extent = b.max(extent, one)?;
    let bin = b.scale(extent, 1.0 / bins as f64)?;
    let bin = b.unsqueeze(bin, &[1])?;
    let start = b.unsqueeze(start, &[1])?;
    let order = b.iota(&Dim::from_i64(bins))?;
    let order = b.cast(order, b.dtype(bin))?;
    let next = b.offset(order, 1.0)?;
    let low = b.mul(order, bin)?;
    let low = b.floor(low)?;
    let low = b.add(low, start)?;
    let high = b.mul(next, bin)?;
    let high = b.ceil(high)?;
    let high = b.add(high, start)?;
    let places = b.iota(size)?;
    let places = b.cast(places, b.dtype(bin))?;
    let (low, high) = (b.unsqueeze(low, &[2])?, b.unsqueeze(high, &[2])?);
    let (after, before) = (b.ge(places, low)?, b.lt(places, high)?);
    Ok(b.and(after, before)?)
}
