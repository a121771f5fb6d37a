//! Swin Transformer (arXiv:2103.14030): attention within windows of an image, shifted by half a window in every other block.

use anychip_ir::{Prim, ValueId};
use anychip_tensor::{Dim, Tensor};

use crate::activation::Activation::Gelu;
use crate::convolution::Conv;
use crate::net::{Made, Net, Outputs};
use crate::row::{Row, torchvision};
use crate::settings::Settings;

const EPSILON: f32 = 1e-5;

/// Height and width of a window.
const WINDOW: usize = 7;

/// What is added to the score of two positions that the shift brought into one window.
const APART: f64 = -100.0;

pub(crate) const ROWS: &[Row] = &[
    torchvision("swin-t", 28_288_354, 4.491e9, |n, s| build(n, s, 96, [2, 2, 6, 2], 3)),
    torchvision("swin-s", 49_606_258, 8.741e9, |n, s| build(n, s, 96, [2, 2, 18, 2], 3)),
    torchvision("swin-b", 87_768_224, 15.431e9, |n, s| build(n, s, 128, [2, 2, 18, 2], 4)),
];

/// `heads` are those of the first stage; both they and the channels double with each.
fn build(
    net: &mut Net,
    settings: &mut Settings,
    width: usize,
    blocks: [usize; 4],
    heads: usize,
) -> Made<Outputs> {
    let image = settings.image(224);
    let x = net.input("image", &[3, image, image]);
    let x = net.conv("patches", x, Conv::new(width, 4).stride(4).padding(0).bias())?;
    let x = net.b.transpose(x, &[0, 2, 3, 1])?;
    let mut x = net.layer_norm("patch_norm", x, EPSILON)?;
    for (stage, count) in blocks.into_iter().enumerate() {
        if stage > 0 {
            x = net.within(format!("merge.{stage}"), |net| merge(net, x))?;
        }
        for block in 0..count {
            let shifted = block % 2 == 1;
            x = net.within(format!("stages.{stage}.{block}"), |net| {
                let normal = net.layer_norm("attention_norm", x, EPSILON)?;
                let y =
                    net.within("attention", |net| attention(net, normal, heads << stage, shifted))?;
                let x = net.b.add(x, y)?;
                let channels = net.width(x)?;
                let normal = net.layer_norm("feed_forward_norm", x, EPSILON)?;
                let y = net.linear("feed_forward.in", normal, 4 * channels, true)?;
                let y = net.activate(y, Gelu)?;
                let y = net.linear("feed_forward.out", y, channels, true)?;
                net.b.add(x, y)
            })?;
        }
    }
    let x = net.layer_norm("norm", x, EPSILON)?;
    let pooled = net.b.mean(x, &[1, 2], false)?;
    let logits = net.linear("classifier", pooled, settings.classes(1000), true)?;
    Ok(vec![("logits".into(), logits)])
}

/// Four neighbors become one position of twice the channels.
fn merge(net: &mut Net, x: ValueId) -> Made {
    let channels = net.width(x)?;
    let x = pad(net, x, 2)?;
    let mut parts = Vec::new();
    for (row, column) in [(0, 0), (1, 0), (0, 1), (1, 1)] {
        let b = &mut net.b;
        let starts = b.integers(&[row, column]);
        let ends = b.integers(&[i64::MAX, i64::MAX]);
        let steps = b.integers(&[2, 2]);
        parts.push(b.prim(Prim::Slice { axes: vec![1, 2] }, &[x, starts, ends, steps])?);
    }
    let joint = net.b.concat(&parts, 3)?;
    let normal = net.layer_norm("norm", joint, EPSILON)?;
    net.linear("reduce", normal, 2 * channels, false)
}

/// Zeros below and right of `[n, h, w, c]` up to a multiple of `step`.
fn pad(net: &mut Net, x: ValueId, step: usize) -> Made {
    let around = [net.size(x, 1)?, net.size(x, 2)?].map(|n| (n.next_multiple_of(step) - n) as i64);
    if around == [0, 0] {
        return Ok(x);
    }
    let b = &mut net.b;
    let (low, high) = (b.integers(&[0; 4]), b.integers(&[0, around[0], around[1], 0]));
    let zero = b.scalar_like(x, 0.0)?;
    b.prim(Prim::Pad, &[x, low, high, zero])
}

/// `x` moved up and left by `by`, what leaves on one side coming in on the other.
fn roll(net: &mut Net, x: ValueId, by: [usize; 2], back: bool) -> Made {
    let mut x = x;
    for (i, by) in by.into_iter().enumerate().filter(|&(_, by)| by > 0) {
        let (axis, size) = (i + 1, net.size(x, i + 1)?);
        let at = Dim::Fixed(if back { size - by } else { by });
        let first = net.b.slice(x, axis, &Dim::Fixed(0), &at)?;
        let second = net.b.slice(x, axis, &at, &Dim::Fixed(size))?;
        x = net.b.concat(&[second, first], axis)?;
    }
    Ok(x)
}

/// Attention of `[n, h, w, c]` within windows. All heads of all windows of an image are heads of one attention.
fn attention(net: &mut Net, x: ValueId, heads: usize, shifted: bool) -> Made {
    let [height, width, channels] = [net.size(x, 1)?, net.size(x, 2)?, net.size(x, 3)?];
    let x = pad(net, x, WINDOW)?;
    let sizes = [net.size(x, 1)?, net.size(x, 2)?];
    // A window that covers the image has nothing to shift to.
    let by = sizes.map(|size| if shifted && size > WINDOW { WINDOW / 2 } else { 0 });
    let x = roll(net, x, by, false)?;

    let batch = net.b.dims(x)[0].clone();
    let [rows, columns] = sizes.map(|size| size / WINDOW);
    let (windows, inside) = (rows * columns, WINDOW * WINDOW);
    let dims = |list: &[usize]| -> Vec<Dim> {
        std::iter::once(batch.clone()).chain(list.iter().map(|&n| Dim::Fixed(n))).collect()
    };
    let split = net.b.reshape(x, &dims(&[rows, WINDOW, columns, WINDOW, channels]))?;
    let grouped = net.b.transpose(split, &[0, 1, 3, 2, 4, 5])?;
    let tokens = net.b.reshape(grouped, &dims(&[windows, inside, channels]))?;

    let mut qkv = [tokens; 3];
    for (part, name) in qkv.iter_mut().zip(["query", "key", "value"]) {
        let y = net.linear(name, tokens, channels, true)?;
        let y = net.b.reshape(y, &dims(&[windows, inside, heads, channels / heads]))?;
        let y = net.b.transpose(y, &[0, 1, 3, 2, 4])?;
        *part = net.b.reshape(y, &dims(&[windows * heads, inside, channels / heads]))?;
    }
    let bias = score_bias(net, heads, sizes, by)?;
    let y = net.attend(qkv, 1.0 / ((channels / heads) as f64).sqrt(), false, Some(bias))?;
    let y = net.b.reshape(y, &dims(&[windows, heads, inside, channels / heads]))?;
    let y = net.b.transpose(y, &[0, 1, 3, 2, 4])?;
    let y = net.b.reshape(y, &dims(&[windows, inside, channels]))?;
    let y = net.linear("output", y, channels, true)?;

    let y = net.b.reshape(y, &dims(&[rows, columns, WINDOW, WINDOW, channels]))?;
    let y = net.b.transpose(y, &[0, 1, 3, 2, 4, 5])?;
    let y = net.b.reshape(y, &dims(&[sizes[0], sizes[1], channels]))?;
    let mut y = roll(net, y, by, true)?;
    for (axis, size) in [(1, height), (2, width)] {
        if net.size(y, axis)? != size {
            y = net.b.slice(y, axis, &Dim::Fixed(0), &Dim::Fixed(size))?;
        }
    }
    Ok(y)
}

/// What is added to the scores, `[1, windows · heads, 49, 49]`: one learned number for each head and relative position,
/// and [`APART`] between what was not neighbors before the shift.
fn score_bias(net: &mut Net, heads: usize, sizes: [usize; 2], by: [usize; 2]) -> Made {
    let inside = WINDOW * WINDOW;
    let reach = 2 * WINDOW - 1;
    let place = |i: usize| [i / WINDOW, i % WINDOW];
    let mut relative = Vec::with_capacity(inside * inside);
    for (i, j) in (0..inside).flat_map(|i| (0..inside).map(move |j| (i, j))) {
        let [from, to] = [place(i), place(j)];
        let distance = |axis: usize| from[axis] + WINDOW - 1 - to[axis];
        relative.push((distance(0) * reach + distance(1)) as i64);
    }
    let table = net.shift(&[reach * reach, heads])?;
    let index = net.b.constant(Tensor::from_vec([inside, inside], relative)?);
    let bias = net.b.prim(Prim::Take { axis: 0 }, &[table, index])?;
    let bias = net.b.transpose(bias, &[2, 0, 1])?;
    let [rows, columns] = sizes.map(|size| size / WINDOW);
    let windows = rows * columns;
    let whole = [1, windows, heads, inside, inside].map(Dim::Fixed);
    let flat = [1, windows * heads, inside, inside].map(Dim::Fixed);
    let all = if by == [0, 0] {
        net.b.broadcast(bias, &whole)?
    } else {
        // Rows and columns before the cut, and after it: a position's region is the pair. Only the parts along each side
        // are constants, so that a large image makes no large ones.
        let mut parts = [bias; 2];
        for (axis, part) in parts.iter_mut().enumerate() {
            let region = |left: usize| match by[axis] {
                0 => 0,
                by if left <= by => 2,
                _ => i64::from(left <= WINDOW),
            };
            let regions: Vec<i64> = (0..sizes[axis]).map(|at| region(sizes[axis] - at)).collect();
            let regions = net.b.integers(&regions);
            let split = if axis == 0 { [rows, 1, WINDOW, 1] } else { [1, columns, 1, WINDOW] };
            *part = net.b.reshape(regions, &split.map(Dim::Fixed))?;
        }
        let b = &mut net.b;
        let first = b.scale(parts[0], 3.0)?;
        let regions = b.add(first, parts[1])?;
        let of_queries = b.reshape(regions, &[1, windows, 1, inside, 1].map(Dim::Fixed))?;
        let of_keys = b.reshape(regions, &[1, windows, 1, 1, inside].map(Dim::Fixed))?;
        let together = b.eq(of_queries, of_keys)?;
        let (zero, apart) = (b.scalar_like(bias, 0.0)?, b.scalar_like(bias, APART)?);
        let apart = b.select(together, zero, apart)?;
        b.add(bias, apart)?
    };
    net.b.reshape(all, &flat)
}
