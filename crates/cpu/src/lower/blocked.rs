//! Operators on images in blocks: convolutions, pooling, and the ways in and out of blocks.

use std::ops::Range;
use std::sync::Arc;

use anychip_ir::{IrError, Node, ValueId};
use anychip_tensor::{DType, Tensor};

use super::convolution::shape;
use super::tail::Written;
use super::{Cx, Lowered};
use crate::blocked::{BlockedConvolution, BlockedPool, FromBlocked};
use crate::detect::Simd;
use crate::fusion::Tail;
use crate::kernel::blocked::{
    BLOCK, Dense, DenseWeights, Depthwise, Expanded, Pooled, Size, Winograd, WinogradWeights,
    blocks, depthwise_weights, from_blocked, to_blocked,
};
use crate::kernel::conv::ConvShape;
use crate::kernel::gemm::Epilogue;
use crate::kernel::split::{Split, Strides};
use crate::pool::Pool;
use crate::step::{Io, Kernel};
use crate::tune::{self, Choice};

pub(super) fn lower(cx: &Cx<'_>, node: &Node) -> Option<Lowered> {
    lower_tail(cx, &Tail::alone(node))
}

/// A convolution on blocks with constant weights.
struct Anchor<'a> {
    x: ValueId,
    weights: &'a Tensor,
    /// One number an image and channel, which the image is to be multiplied by.
    scale: &'a [ValueId],
    shape: ConvShape,
    rows: bool,
}

impl<'a> Anchor<'a> {
    fn of(cx: &Cx<'a>, node: &'a Node) -> Option<Anchor<'a>> {
        let settings = node.op.composite::<BlockedConvolution>()?;
        let &[x, w, ref scale @ ..] = node.inputs.as_slice() else { return None };
        let weights = cx.constant(w)?;
        let x_shape = cx.shape(x);
        let channels = weights.shape()[1] * settings.groups;
        let rows = settings.rows;
        let image = if rows {
            x_shape.to_vec()
        } else {
            vec![x_shape[0], channels, x_shape[2], x_shape[3]]
        };
        let shape = shape(&settings.dims(), &image, weights.shape())?;
        let fits = scale.is_empty() || !(rows || settings.groups > 1);
        fits.then_some(Anchor { x, weights, scale, shape, rows })
    }

    /// Some of the weights, as they lie in the file.
    fn read(&self, run: Range<usize>, out: &mut [f32]) {
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(out);
        bytes.copy_from_slice(&self.weights.bytes()[run.start * 4..run.end * 4]);
    }

    fn key(&self) -> [usize; 5] {
        let s = &self.shape;
        [s.filters, s.channels, s.groups, s.taps(), usize::from(self.rows)]
    }

    fn dense(&self, cx: &Cx<'_>) -> Arc<DenseWeights> {
        cx.shared.weights.kept(
            &cx.shared.pool,
            self.weights,
            "blocked convolution",
            &self.key(),
            |slot| {
                let read = |run: Range<usize>, out: &mut [f32]| self.read(run, out);
                DenseWeights::in_slot(cx.shared.simd, &self.shape, self.rows, &read, slot)
            },
        )
    }

    fn depthwise(&self, cx: &Cx<'_>) -> Arc<Vec<f32>> {
        cx.shared.weights.packed(self.weights, "blocked depthwise", &self.key(), || {
            let mut plain = vec![0.0; self.shape.weights_len()];
            self.read(0..plain.len(), &mut plain);
            depthwise_weights(self.shape.channels, self.shape.taps(), &plain)
        })
    }
}

/// Whether a convolution and the depthwise one that alone reads its result run as one.
pub(crate) fn expands(cx: &Cx<'_>, first: &Tail<'_>, second: &Node) -> bool {
    let both = Anchor::of(cx, first.anchor).zip(Anchor::of(cx, second));
    both.is_some_and(|(a, b)| {
        // The matrix unit is faster at the first than what is saved.
        cx.shared.matrix.is_none()
            && first.residual.is_none()
            && !a.rows
            && a.scale.is_empty()
            && Expanded::pays(&a.shape, &b.shape)
    })
}

/// Two convolutions that [`expands`].
pub(super) fn lower_expanded(cx: &Cx<'_>, first: &Tail<'_>, second: &Tail<'_>) -> Option<Lowered> {
    let (a, b) = (Anchor::of(cx, first.anchor)?, Anchor::of(cx, second.anchor)?);
    let conv = Expanded::new(cx.shared.simd, cx.threads(), &a.shape, &b.shape);
    let mut operands = vec![a.x];
    let written = [first, second].map(|tail| Written::new(tail, &mut operands));
    let detail = format!(
        "{}, {}{}, depthwise{}",
        cx.shared.simd.name(),
        conv.describe(),
        first.names(),
        second.names()
    );
    let scratch = conv.scratch_len() * 4;
    let kernel = ExpandedKernel { conv, weights: a.dense(cx), depthwise: b.depthwise(cx), written };
    Some(Lowered {
        detail,
        scratch,
        ..Lowered::new("two convolutions on blocks", kernel, &operands)
    })
}

struct ExpandedKernel {
    conv: Expanded,
    weights: Arc<DenseWeights>,
    depthwise: Arc<Vec<f32>>,
    written: [Written; 2],
}

impl Kernel for ExpandedKernel {
    fn run(&self, io: &Io<'_>) -> Result<(), IrError> {
        let [before, after] = &self.written;
        let before = Epilogue { column_bias: before.bias(io), ..before.epilogue(io) };
        let after = Epilogue { column_bias: after.bias(io), ..after.epilogue(io) };
        let (x, y) = (io.operand(0), io.result(0));
        let weights = (&*self.weights, self.depthwise.as_slice());
        self.conv.run(weights, x, y, (&before, &after), io.scratch(), io.pool);
        Ok(())
    }
}

/// A convolution and what is done to its result as it is written.
pub(super) fn lower_tail(cx: &Cx<'_>, tail: &Tail<'_>) -> Option<Lowered> {
    let anchor = &Anchor::of(cx, tail.anchor)?;
    let &Anchor { x, scale, shape, rows, .. } = anchor;
    let (simd, threads) = (cx.shared.simd, cx.threads());
    let mut operands = vec![x];
    operands.extend(scale);
    let written = Written::new(tail, &mut operands);
    if shape.groups > 1 {
        let weights = anchor.depthwise(cx);
        let kernel = DepthwiseKernel { conv: Depthwise::new(simd, &shape), weights, written };
        return Some(Lowered {
            detail: format!("depthwise, {}{}", simd.name(), tail.names()),
            ..Lowered::new("convolution on blocks", kernel, &operands)
        });
    }
    let split = split(cx, &shape, rows, !scale.is_empty());
    if !scale.is_empty() {
        if !Dense::does(&shape, rows) {
            return None;
        }
        let packed = anchor.dense(cx);
        let image = ConvShape { batch: 1, ..shape };
        let conv = DenseOrSplit { plain: Dense::new(simd, threads, &image, rows), split };
        return Some(Lowered {
            scratch: (conv.scratch_len() + packed.elements().next_multiple_of(BLOCK)) * 4,
            detail: format!("{}, scaled{}", conv.describe(simd), tail.names()),
            ..Lowered::new(
                "convolution on blocks",
                ScaledKernel { conv, images: shape.batch, weights: packed, written },
                &operands,
            )
        });
    }
    if split.is_some() {
        return Dense::does(&shape, rows).then(|| dense(cx, tail, anchor, split, 3));
    }
    let mut choices = Vec::new();
    for size in Winograd::sizes(&shape, cx.shared.relaxed).filter(|_| !rows) {
        let make = Box::new(move || winograd(cx, tail, anchor, size));
        choices.push(Choice { name: size.name(), make });
    }
    if Dense::does(&shape, rows) {
        for (name, eighths) in
            [("direct", 3), ("direct, half the cache", 2), ("direct, all of it", 6)]
        {
            let make = Box::new(move || dense(cx, tail, anchor, None, eighths));
            choices.push(Choice { name, make });
        }
    }
    // What the formulas say comes first.
    let formula = if rows { None } else { Winograd::size(simd, &shape, cx.shared.relaxed) };
    let formula = formula.map_or("direct", |size| size.name());
    choices.sort_by_key(|choice| choice.name != formula);
    let step = format!("{shape:?} rows: {rows}{}, {threads} threads", tail.names());
    let last = tail.absorbed.last().copied().unwrap_or(tail.anchor);
    tune::choose(cx, step, &last.outputs, &choices)
}

fn winograd(cx: &Cx<'_>, tail: &Tail<'_>, anchor: &Anchor<'_>, size: Size) -> Lowered {
    let (shape, simd) = (&anchor.shape, cx.shared.simd);
    let mut operands = vec![anchor.x];
    let written = Written::new(tail, &mut operands);
    let key = [shape.filters, shape.channels, size.outputs()];
    let weights =
        cx.shared.weights.kept(&cx.shared.pool, anchor.weights, "winograd", &key, |slot| {
            let read = |run: Range<usize>, out: &mut [f32]| anchor.read(run, out);
            WinogradWeights::in_slot(simd, shape, size, &read, slot)
        });
    let conv = Winograd::new(simd, cx.threads(), shape, size);
    Lowered {
        scratch: conv.scratch_len() * 4,
        detail: format!("{}, {}{}", simd.name(), conv.describe(), tail.names()),
        ..Lowered::new(
            "convolution on blocks",
            WinogradKernel { conv, weights, written },
            &operands,
        )
    }
}

/// The direct kernel, counting on so many eighths of the second-level cache.
fn dense(
    cx: &Cx<'_>,
    tail: &Tail<'_>,
    anchor: &Anchor<'_>,
    split: Option<Split>,
    eighths: usize,
) -> Lowered {
    let (simd, threads) = (cx.shared.simd, cx.threads());
    let mut operands = vec![anchor.x];
    let written = Written::new(tail, &mut operands);
    let plain = Dense::for_cache(simd, threads, &anchor.shape, anchor.rows, eighths);
    let conv = DenseOrSplit { plain, split };
    Lowered {
        scratch: conv.scratch_len() * 4,
        detail: format!("{}{}", conv.describe(simd), tail.names()),
        ..Lowered::new(
            "convolution on blocks",
            DenseKernel { conv, weights: anchor.dense(cx), written },
            &operands,
        )
    }
}

/// The convolution on the matrix unit, where there is one and it takes less time.
fn split(cx: &Cx<'_>, shape: &ConvShape, rows: bool, one_by_one: bool) -> Option<Split> {
    let matrix = cx.shared.matrix.filter(|_| !rows)?;
    let strides = |channels: usize, pixels: usize| Strides {
        pixel: BLOCK,
        block: pixels * BLOCK,
        image: blocks(channels) * pixels * BLOCK,
        padded: true,
    };
    let input = strides(shape.channels, shape.input_pixels());
    let output = strides(shape.filters, shape.output_pixels());
    let shape = ConvShape { batch: if one_by_one { 1 } else { shape.batch }, ..*shape };
    Split::new(matrix, cx.shared.simd, cx.threads(), &shape, (input, output))
}

/// A convolution on the matrix unit if that pays, with the plain one for numbers that are not finite; else the plain one.
struct DenseOrSplit {
    plain: Dense,
    split: Option<Split>,
}

impl DenseOrSplit {
    fn scratch_len(&self) -> usize {
        self.plain.scratch_len().max(self.split.as_ref().map_or(0, Split::scratch_len))
    }

    fn describe(&self, simd: Simd) -> String {
        match &self.split {
            Some(split) => split.describe(),
            None => format!("{}, {}", simd.name(), self.plain.describe()),
        }
    }

    fn run(
        &self,
        (weights, packed): (&DenseWeights, &[f32]),
        x: &[f32],
        y: &mut [f32],
        epilogue: &Epilogue<'_>,
        scratch: &mut [f32],
        pool: &Pool,
    ) {
        if let Some(split) = &self.split
            && split.run(packed, x, y, epilogue, scratch, pool)
        {
            return;
        }
        self.plain.run_packed(weights, packed, x, y, epilogue, scratch, pool);
    }
}

struct DenseKernel {
    conv: DenseOrSplit,
    weights: Arc<DenseWeights>,
    written: Written,
}

impl Kernel for DenseKernel {
    fn run(&self, io: &Io<'_>) -> Result<(), IrError> {
        let epilogue = Epilogue { column_bias: self.written.bias(io), ..self.written.epilogue(io) };
        let (x, y) = (io.operand(0), io.result(0));
        let packed = self.weights.as_slice();
        self.conv.run((&self.weights, packed), x, y, &epilogue, io.scratch(), io.pool);
        Ok(())
    }
}

/// A convolution of an image times one number a channel: the weights are multiplied instead.
struct ScaledKernel {
    conv: DenseOrSplit,
    images: usize,
    weights: Arc<DenseWeights>,
    written: Written,
}

impl Kernel for ScaledKernel {
    fn run(&self, io: &Io<'_>) -> Result<(), IrError> {
        let epilogue = Epilogue { column_bias: self.written.bias(io), ..self.written.epilogue(io) };
        let (x, scales, y) = (io.operand(0), io.operand(1), io.result(0));
        let elements = self.weights.elements().next_multiple_of(BLOCK);
        let (packed, scratch) = io.scratch().split_at_mut(elements);
        let per = |all: usize| all / self.images.max(1);
        let (image, channels, result) = (per(x.len()), per(scales.len()), per(y.len()));
        for i in 0..self.images {
            self.weights.scaled(&scales[i * channels..], packed);
            let epilogue =
                Epilogue { residual: epilogue.residual.map(|r| &r[i * result..]), ..epilogue };
            let (x, y) = (&x[i * image..], &mut y[i * result..]);
            self.conv.run((&self.weights, packed), x, y, &epilogue, scratch, io.pool);
        }
        Ok(())
    }
}

struct WinogradKernel {
    conv: Winograd,
    weights: Arc<WinogradWeights>,
    written: Written,
}

impl Kernel for WinogradKernel {
    fn run(&self, io: &Io<'_>) -> Result<(), IrError> {
        let epilogue = Epilogue { column_bias: self.written.bias(io), ..self.written.epilogue(io) };
        let (x, y) = (io.operand(0), io.result(0));
        self.conv.run(&self.weights, x, y, &epilogue, io.scratch(), io.pool);
        Ok(())
    }
}

struct DepthwiseKernel {
    conv: Depthwise,
    weights: Arc<Vec<f32>>,
    written: Written,
}

impl Kernel for DepthwiseKernel {
    fn run(&self, io: &Io<'_>) -> Result<(), IrError> {
        let epilogue = Epilogue { column_bias: self.written.bias(io), ..self.written.epilogue(io) };
        self.conv.run(&self.weights, io.operand(0), io.result(0), &epilogue, io.pool);
        Ok(())
    }
}

struct PoolKernel(Pooled);
impl Kernel for PoolKernel {
    fn run(&self, io: &Io<'_>) -> Result<(), IrError> {
        self.0.run(io.operand(0), io.result(0), io.pool);
        Ok(())
    }
}

pub(super) fn lower_pool(cx: &Cx<'_>, node: &Node) -> Option<Lowered> {
    let settings = node.op.composite::<BlockedPool>()?;
    let x = node.inputs[0];
    let &[images, blocks, height, width, _] = cx.shape(x) else { return None };
    let low: Vec<isize> = settings.padding_low.iter().map(|&p| p as isize).collect();
    let high: Vec<isize> = settings.padding_high.iter().map(|&p| p as isize).collect();
    let window = ConvShape::new(
        (1, 1, 1, 1),
        &[height, width],
        &settings.size,
        &settings.strides,
        &settings.dilation,
        (&low, &high),
    )?;
    if cx.dtype(x) != DType::F32 {
        return super::quantized::lower_pool(cx, x, images * blocks, window);
    }
    let pooled = Pooled::new(cx.shared.simd, images * blocks, &window, settings.mean);
    let name = if settings.mean { "average-pool on blocks" } else { "max-pool on blocks" };
    Some(Lowered::new(name, PoolKernel(pooled), &[x]))
}

/// Images, channels and pixels.
type Image = (usize, usize, usize);

struct Turn<T> {
    image: Image,
    turn: fn(Image, &[T], &mut [T], &crate::pool::Pool),
}

impl<T: bytemuck::Pod + Send + Sync> Kernel for Turn<T> {
    fn run(&self, io: &Io<'_>) -> Result<(), IrError> {
        let x = bytemuck::cast_slice::<u8, T>(io.bytes(0));
        let y = bytemuck::cast_slice_mut::<u8, T>(io.result_bytes(0));
        (self.turn)(self.image, x, y, io.pool);
        Ok(())
    }
}

pub(super) fn lower_to(cx: &Cx<'_>, node: &Node) -> Option<Lowered> {
    let &[n, c, h, w] = cx.shape(node.inputs[0]) else { return None };
    let image = (n, c, h * w);
    Some(match cx.dtype(node.inputs[0]) {
        DType::F32 => {
            Lowered::new("to blocks", Turn::<f32> { image, turn: to_blocked }, &node.inputs)
        }
        DType::I8 | DType::U8 => {
            Lowered::new("to blocks", Turn::<u8> { image, turn: to_blocked }, &node.inputs)
        }
        _ => return None,
    })
}

pub(super) fn lower_from(cx: &Cx<'_>, node: &Node) -> Option<Lowered> {
    let channels = node.op.composite::<FromBlocked>()?.channels;
    let &[n, _, h, w, _] = cx.shape(node.inputs[0]) else { return None };
    let image = (n, channels, h * w);
    Some(match cx.dtype(node.inputs[0]) {
        DType::F32 => {
            Lowered::new("from blocks", Turn::<f32> { image, turn: from_blocked }, &node.inputs)
        }
        DType::I8 | DType::U8 => {
            Lowered::new("from blocks", Turn::<u8> { image, turn: from_blocked }, &node.inputs)
        }
        _ => return None,
    })
}
