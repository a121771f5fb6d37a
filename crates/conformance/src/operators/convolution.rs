//! Convolutions: channels and filters 1–67, images 1–33, kernels 1–7, strides, dilations, groups, uneven and negative
//! padding, one to three dims; networks of a few of them, which stay in blocks; transposed ones.

use anychip_ir::{ConvolutionDims, IrError, Prim, ReduceKind, ValueId, Window};
use anychip_ops::{AveragePool, ConvTranspose};
use anychip_tensor::{DType, Dim};

use super::draft::{Draft, USUAL, sizes};

/// Winograd's transforms round more than sums do; a network adds up roundings.
const SLACK: f64 = 5.0;
const NETWORK_SLACK: f64 = 20.0;

/// Kernel sizes, strides, dilations and padding over `rank` dims.
fn dims(d: &mut Draft, rank: usize, groups: usize) -> (Vec<usize>, ConvolutionDims) {
    let random = &mut d.random;
    let usual = random.chance(70);
    let one = random.pick(&[1, 3, 3, 5, 7]);
    let kernel: Vec<usize> =
        (0..rank).map(|_| if usual { one } else { random.range(1, 7) }).collect();
    let even = random.chance(70);
    let stride = random.pick(&[1, 1, 1, 2, 2, 3]);
    let strides = (0..rank).map(|_| if even { stride } else { random.range(1, 3) }).collect();
    let dilated = random.below(20);
    let dilation: Vec<usize> = (0..rank)
        .map(|_| match dilated {
            0..=11 => 1,
            12..=18 => random.range(1, 4),
            _ => random.range(5, 40),
        })
        .collect();
    let padded = random.below(20);
    let padding = kernel
        .iter()
        .zip(&dilation)
        .map(|(&k, &dilation)| {
            let reach = (k - 1) * dilation;
            match padded {
                0..=9 => ((reach / 2) as i64, (reach - reach / 2) as i64),
                10..=12 => (0, 0),
                13 => (random.below(4) as i64 - 2, random.below(4) as i64 - 2),
                14 => (random.below(reach + 5) as i64, random.below(reach + 5) as i64),
                _ => (random.below(reach + 1) as i64, random.below(reach + 1) as i64),
            }
        })
        .collect();
    let stretched = random.chance(8);
    let input_dilation =
        (0..rank).map(|_| if stretched { random.range(1, 3) } else { 1 }).collect();
    (kernel, ConvolutionDims { strides, padding, dilation, input_dilation, groups })
}

/// Channels, filters, groups.
fn channels(d: &mut Draft) -> (usize, usize, usize) {
    let random = &mut d.random;
    match random.below(10) {
        0..=5 => (random.range(1, 67), random.range(1, 67), 1),
        6..=8 => {
            let c = random.range(1, 67);
            (c, c * random.pick(&[1, 1, 1, 2]), c)
        }
        _ => {
            let groups = random.range(2, 8);
            (groups * random.range(1, 8), groups * random.range(1, 8), groups)
        }
    }
}

/// A convolution of `x`; its work is counted.
fn convolve(
    d: &mut Draft,
    x: ValueId,
    filters: usize,
    kernel: &[usize],
    dims: ConvolutionDims,
    constant: usize,
) -> Result<ValueId, IrError> {
    let shape = sizes(&d.b, x);
    let per_group = shape[1] / dims.groups;
    let mut w = vec![filters, per_group];
    w.extend_from_slice(kernel);
    d.say(&format!("{shape:?} * {w:?} {dims:?}"));
    let w = d.weights(DType::F32, &w, USUAL, constant);
    let y = d.b.prim(Prim::Convolution(dims, DType::F32), &[x, w])?;
    let positions: usize = sizes(&d.b, y)[2..].iter().product();
    if positions == 0 && d.random.chance(90) {
        return Err(IrError::Setting {
            op: "convolution",
            reason: "an empty image is drawn seldom",
            found: String::new(),
        });
    }
    d.spend(filters * per_group * kernel.iter().product::<usize>() * positions);
    Ok(y)
}

pub(super) fn one(d: &mut Draft) -> Result<(), IrError> {
    d.slack = SLACK;
    let rank = d.random.pick(&[2, 2, 2, 2, 2, 2, 1, 3]);
    let (c, m, groups) = channels(d);
    let (kernel, dims) = dims(d, rank, groups);
    let largest = [100, 33, 11][rank - 1];
    let mut shape = vec![d.batch(), Dim::Fixed(c)];
    shape.extend((0..rank).map(|_| Dim::Fixed(d.random.range(1, largest))));
    let x = d.floats(&shape);
    let y = convolve(d, x, m, &kernel, dims, 85)?;
    let y = d.epilogue(y, 1)?;
    d.output(y);
    Ok(())
}

/// A few layers on one image, of the kinds that mobile and residual networks have.
pub(super) fn network(d: &mut Draft) -> Result<(), IrError> {
    d.slack = NETWORK_SLACK;
    let first = d.random.pick(&[1, 3, 3, 4, 16, 17, 24, 32, 40, 67]);
    let (h, w) = (d.random.range(3, 33), d.random.range(3, 33));
    let shape = [d.batch(), Dim::Fixed(first), Dim::Fixed(h), Dim::Fixed(w)];
    let mut x = d.floats(&shape);
    let mut earlier: Vec<ValueId> = Vec::new();
    for _ in 0..d.random.range(2, 5) {
        let c = sizes(&d.b, x)[1];
        earlier.push(x);
        x = match d.random.below(10) {
            0..=1 => {
                let filters = d.random.range(1, 67);
                pointwise(d, x, filters)?
            }
            2..=3 => layer(d, x, c, c)?,
            4..=5 => {
                let filters = d.random.pick(&[8, 16, 17, 24, 32, 48, 64, 67]);
                layer(d, x, filters, 1)?
            }
            6 => window(d, x)?,
            7 => gated(d, x)?,
            8 => {
                let alike = |v: &&ValueId| {
                    let (a, b) = (sizes(&d.b, **v), sizes(&d.b, x));
                    a[2..] == b[2..]
                };
                match earlier.iter().rev().find(alike).copied() {
                    Some(other) if sizes(&d.b, other) == sizes(&d.b, x) => {
                        d.say("sum");
                        d.b.add(x, other)?
                    }
                    Some(other) => {
                        d.say("concatenated");
                        d.b.concat(&[x, other], 1)?
                    }
                    None => x,
                }
            }
            _ => {
                // Read in another layout, and worked on there.
                d.say("channels last and back");
                let last = d.b.transpose(x, &[0, 2, 3, 1])?;
                let shift = d.constant(&[c]);
                let last = d.b.add(last, shift)?;
                d.b.transpose(last, &[0, 3, 1, 2])?
            }
        };
        if d.random.chance(15) {
            d.output(x);
        }
    }
    if d.random.chance(40) {
        d.say("mean");
        let mean = d.b.mean(x, &[2, 3], d.random.chance(50))?;
        d.output(mean);
    }
    d.output(x);
    Ok(())
}

fn pointwise(d: &mut Draft, x: ValueId, filters: usize) -> Result<ValueId, IrError> {
    let dims = ConvolutionDims {
        strides: vec![1; 2],
        padding: vec![(0, 0); 2],
        dilation: vec![1; 2],
        input_dilation: vec![1; 2],
        groups: 1,
    };
    let y = convolve(d, x, filters, &[1, 1], dims, 100)?;
    d.epilogue(y, 1)
}

fn layer(d: &mut Draft, x: ValueId, filters: usize, groups: usize) -> Result<ValueId, IrError> {
    let (kernel, dims) = dims(d, 2, groups);
    let y = convolve(d, x, filters, &kernel, dims, 100)?;
    d.epilogue(y, 1)
}

fn window(d: &mut Draft, x: ValueId) -> Result<ValueId, IrError> {
    let size = d.random.range(2, 3);
    let strides = vec![d.random.range(1, 2); 2];
    let low = d.random.below(size) as i64;
    if d.random.chance(50) {
        d.say(&format!("maximum over {size} {strides:?} {low}"));
        let window = Window {
            size: vec![size; 2],
            strides,
            dilation: vec![1; 2],
            padding: vec![(low, size as i64 - 1 - low); 2],
        };
        return d.b.prim(Prim::ReduceWindow { kind: ReduceKind::Max, window }, &[x]);
    }
    d.say(&format!("average over {size} {strides:?} {low}"));
    let pool = AveragePool {
        size: vec![size; 2],
        strides,
        dilation: vec![1; 2],
        padding_low: vec![low; 2],
        padding_high: vec![size as i64 - 1 - low; 2],
        overhang: vec![0; 2],
        count_padding: d.random.chance(30),
    };
    d.b.composite(pool, &[x])
}

/// Squeeze and excite.
fn gated(d: &mut Draft, x: ValueId) -> Result<ValueId, IrError> {
    let c = sizes(&d.b, x)[1];
    d.say("gate");
    let mean = d.b.mean(x, &[2, 3], true)?;
    let few = d.random.range(1, 20);
    let small = pointwise(d, mean, few)?;
    let large = pointwise(d, small, c)?;
    let gate = d.b.sigmoid(large)?;
    d.b.mul(x, gate)
}

pub(super) fn transposed(d: &mut Draft) -> Result<(), IrError> {
    d.slack = SLACK;
    let rank = d.random.pick(&[2, 2, 2, 1, 3]);
    let groups = d.random.pick(&[1, 1, 1, 2, 3]);
    let (c, m) = (groups * d.random.range(1, 67 / groups), d.random.range(1, 33));
    let (kernel, dims) = dims(d, rank, groups);
    let largest = [60, 20, 7][rank - 1];
    let mut shape = vec![d.batch(), Dim::Fixed(c)];
    shape.extend((0..rank).map(|_| Dim::Fixed(d.random.range(1, largest))));
    let x = d.floats(&shape);
    let mut w = vec![c, m];
    w.extend_from_slice(&kernel);
    let composite = ConvTranspose {
        strides: dims.strides.clone(),
        padding_low: dims.padding.iter().map(|p| p.0).collect(),
        padding_high: dims.padding.iter().map(|p| p.1).collect(),
        dilation: dims.dilation.clone(),
        groups,
    };
    d.say(&format!("{:?} * {w:?} {composite:?}", sizes(&d.b, x)));
    let w = d.weights(DType::F32, &w, USUAL, 85);
    let y = d.b.composite(composite, &[x, w])?;
    let positions: usize = sizes(&d.b, y)[2..].iter().product();
    // The reference visits the zeros between the elements too.
    d.spend(c * m * kernel.iter().product::<usize>() * positions);
    let y = d.epilogue(y, 1)?;
    d.output(y);
    Ok(())
}
