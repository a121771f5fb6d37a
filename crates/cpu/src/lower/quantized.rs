//! Operators on 8-bit codes: convolutions and products with their requantization, sums, means, and the ways from and to floats.

use std::sync::Arc;

use anychip_ir::{Graph, IrError, Node, Op, Prim, ValueId};
use anychip_ops::{QuantizedAdd, QuantizedConvolution, QuantizedDot, QuantizedMean};
use anychip_tensor::{DType, Tensor};

use super::convolution::shape;
use super::{Cx, Lowered};
use crate::blocked::{BlockedPool, BlockedQuantizedConvolution};
use crate::kernel::blocked::{
    Codes, Layout, QuantizedDense, QuantizedDepthwise, QuantizedWeights, QuantizedWinograd,
    Requantize,
};
use crate::kernel::codes::{self, Addition};
use crate::kernel::conv::ConvShape;
use crate::kernel::integer::GroupedConvolution;
use crate::step::{Io, Kernel};

/// Whether an operand of codes, and a result, are those of kernels.
fn is_code(dtype: DType) -> bool {
    matches!(dtype, DType::I8 | DType::U8)
}

/// Whether weights, bias, multipliers and shifts are constants that a kernel can use.
pub(super) fn claims_weighted(node: &Node, graph: &Graph) -> bool {
    let &[x, w, bias, multiplier, shift] = node.inputs.as_slice() else { return false };
    let constants: Option<Vec<&Tensor>> =
        [w, bias, multiplier, shift].iter().map(|&v| graph.constant(v)).collect();
    let Some(constants) = constants else { return false };
    let shifts = constants[3].to_i64();
    is_code(graph.ty(x).dtype)
        && is_code(constants[0].dtype())
        && constants[1..].iter().all(|t| t.dtype() == DType::I32)
        && constants[2].len() == constants[3].len()
        && constants[1].len() == constants[3].len()
        && !constants[0].is_empty()
        && shifts.iter().all(|s| (1..=62).contains(s))
        && graph.ty(x).rank() <= 5
}

/// Whether all operands are codes.
pub(super) fn claims_codes(node: &Node, graph: &Graph) -> bool {
    node.inputs.iter().all(|&v| is_code(graph.ty(v).dtype))
}

/// Whether all operands are `f32`, or codes of which the largest is taken.
pub(super) fn claims_pool(node: &Node, graph: &Graph) -> bool {
    let mean = node.op.composite::<BlockedPool>().is_some_and(|pool| pool.mean);
    super::floats(node, graph) || (!mean && claims_codes(node, graph))
}

/// A weighted sum as its kernel needs it.
struct Weighted<'a> {
    x: ValueId,
    w: &'a Tensor,
    signed: bool,
    zero: i32,
    w_zero: i32,
    lists: [Vec<i32>; 3],
    out: (i32, i32, i32, bool),
    /// What the zero points and limits are, to tell packings apart.
    key: Vec<usize>,
}

/// Settings that convolutions and products share.
struct Zeros {
    x: i64,
    w: i64,
    to: DType,
    y: i64,
    low: i64,
    high: i64,
}

impl<'a> Weighted<'a> {
    fn of(cx: &Cx<'a>, node: &'a Node, zeros: &Zeros) -> Option<Weighted<'a>> {
        let &[x, w, bias, multiplier, shift] = node.inputs.as_slice() else { return None };
        let list = |v| -> Option<Vec<i32>> {
            Some(cx.constant(v)?.to_i64().into_iter().map(|n| n as i32).collect())
        };
        let dtype = cx.dtype(x);
        let lists = [bias, multiplier, shift];
        let mut key: Vec<usize> = [zeros.x, zeros.w, zeros.y, zeros.low, zeros.high]
            .iter()
            .map(|&n| n as usize)
            .chain([usize::from(zeros.to == DType::I8), usize::from(dtype == DType::I8)])
            .collect();
        for v in lists {
            key.push(cx.constant(v)?.bytes().as_ptr() as usize);
        }
        Some(Weighted {
            x,
            w: cx.constant(w)?,
            signed: dtype == DType::I8,
            zero: zeros.x as i32,
            w_zero: zeros.w as i32,
            lists: [list(bias)?, list(multiplier)?, list(shift)?],
            out: (zeros.y as i32, zeros.low as i32, zeros.high as i32, zeros.to == DType::I8),
            key,
        })
    }

    fn requantize(&self) -> Requantize<'_> {
        let [bias, multiplier, shift] = &self.lists;
        let (zero, low, high, signed) = self.out;
        Requantize { bias, multiplier, shift, zero, low, high, signed }
    }

    /// Weight `i`, less its zero point.
    fn weight(&self, i: usize) -> i32 {
        let byte = self.w.bytes()[i];
        let code =
            if self.w.dtype() == DType::I8 { i32::from(byte as i8) } else { i32::from(byte) };
        code - self.w_zero
    }

    /// Packed weights, made once for all plans.
    fn packed(
        &self,
        cx: &Cx<'_>,
        kind: &'static str,
        shape: &ConvShape,
        pack: impl FnOnce() -> QuantizedWeights,
    ) -> Arc<QuantizedWeights> {
        cx.shared.weights.packed(self.w, kind, &self.full_key(shape), pack)
    }

    fn full_key(&self, shape: &ConvShape) -> Vec<usize> {
        let mut key = vec![shape.filters, shape.channels, shape.groups, shape.taps()];
        key.extend(&self.key);
        key
    }
}

struct Dense {
    conv: QuantizedDense,
    weights: Arc<QuantizedWeights>,
    signed: bool,
    zero: i32,
}

impl Kernel for Dense {
    fn run(&self, io: &Io<'_>) -> Result<(), IrError> {
        let x = Codes { bytes: io.bytes(0), signed: self.signed, zero: self.zero };
        self.conv.run(&self.weights, x, io.result_bytes(0), io.scratch(), io.pool);
        Ok(())
    }
}

struct Depthwise {
    conv: QuantizedDepthwise,
    weights: Arc<QuantizedWeights>,
    signed: bool,
    zero: i32,
}

impl Kernel for Depthwise {
    fn run(&self, io: &Io<'_>) -> Result<(), IrError> {
        let x = Codes { bytes: io.bytes(0), signed: self.signed, zero: self.zero };
        self.conv.run(&self.weights, x, io.result_bytes(0), io.scratch(), io.pool);
        Ok(())
    }
}

/// A convolution on blocks.
pub(super) fn lower_blocked(cx: &Cx<'_>, node: &Node) -> Option<Lowered> {
    let settings = node.op.composite::<BlockedQuantizedConvolution>()?;
    let plain = settings.plain();
    let weighted = Weighted::of(cx, node, &zeros(&plain))?;
    let (x, w) = (cx.shape(weighted.x), weighted.w.shape());
    let channels = w[1] * settings.groups;
    let image =
        if settings.rows { x.to_vec() } else { vec![x[0], channels, *x.get(2)?, *x.get(3)?] };
    let shape = shape(&plain.dims(), &image, w)?;
    let (simd, threads) = (cx.shared.simd, cx.threads());
    let (signed, zero) = (weighted.signed, weighted.zero);
    if settings.groups > 1 {
        let weights = weighted.packed(cx, "quantized depthwise", &shape, || {
            QuantizedWeights::depthwise(simd, &shape, &weighted.requantize(), &|i| {
                weighted.weight(i)
            })
        });
        let conv = QuantizedDepthwise::new(simd, threads, &shape);
        return Some(Lowered {
            scratch: conv.scratch_len() * 4,
            detail: format!("depthwise, {}", simd.name()),
            ..Lowered::new(
                "quantized convolution on blocks",
                Depthwise { conv, weights, signed, zero },
                &[weighted.x],
            )
        });
    }
    if !settings.rows
        && QuantizedWinograd::pays(simd, &shape)
        && let Some(lowered) = winograd(cx, &weighted, &shape)
    {
        return Some(lowered);
    }
    let layout = if settings.rows { Layout::Planes } else { Layout::Blocks };
    Some(dense(cx, &weighted, &shape, layout, "quantized convolution on blocks", &|i| i))
}

struct Winograd {
    conv: QuantizedWinograd,
    weights: Arc<Option<QuantizedWeights>>,
    signed: bool,
    zero: i32,
}

impl Kernel for Winograd {
    fn run(&self, io: &Io<'_>) -> Result<(), IrError> {
        let x = Codes { bytes: io.bytes(0), signed: self.signed, zero: self.zero };
        if let Some(weights) = self.weights.as_ref() {
            self.conv.run(weights, x, io.result_bytes(0), io.scratch(), io.pool);
        }
        Ok(())
    }
}

/// By Winograd's algorithm, unless sums may be too large for it.
fn winograd(cx: &Cx<'_>, weighted: &Weighted<'_>, shape: &ConvShape) -> Option<Lowered> {
    let (simd, threads) = (cx.shared.simd, cx.threads());
    let key = weighted.full_key(shape);
    let weights = cx.shared.weights.packed(weighted.w, "quantized winograd", &key, || {
        let read = |i| weighted.weight(i);
        QuantizedWinograd::weights(simd, shape, &weighted.requantize(), &read)
    });
    (*weights).as_ref()?;
    let conv = QuantizedWinograd::new(simd, threads, shape);
    let (signed, zero) = (weighted.signed, weighted.zero);
    Some(Lowered {
        scratch: conv.scratch_len() * 4,
        detail: format!("{}, {}", simd.name(), conv.describe()),
        ..Lowered::new(
            "quantized convolution on blocks",
            Winograd { conv, weights, signed, zero },
            &[weighted.x],
        )
    })
}

fn dense(
    cx: &Cx<'_>,
    weighted: &Weighted<'_>,
    shape: &ConvShape,
    layout: Layout,
    name: &'static str,
    place: &dyn Fn(usize) -> usize,
) -> Lowered {
    let (simd, threads) = (cx.shared.simd, cx.threads());
    let kind = match layout {
        Layout::Blocks => "quantized dense",
        Layout::Planes => "quantized planes",
        Layout::Pixels => "quantized pixels",
    };
    let weights = weighted.packed(cx, kind, shape, || {
        let requantize = weighted.requantize();
        QuantizedWeights::dense(simd, shape, layout, &requantize, &|i| weighted.weight(place(i)))
    });
    let conv = QuantizedDense::new(simd, threads, shape, layout);
    let (signed, zero) = (weighted.signed, weighted.zero);
    Lowered {
        scratch: conv.scratch_len() * 4,
        detail: format!("{}, {}", simd.name(), conv.describe()),
        ..Lowered::new(name, Dense { conv, weights, signed, zero }, &[weighted.x])
    }
}

struct Grouped {
    conv: GroupedConvolution,
    signed: bool,
    zero: i32,
}

impl Kernel for Grouped {
    fn run(&self, io: &Io<'_>) -> Result<(), IrError> {
        let x = Codes { bytes: io.bytes(0), signed: self.signed, zero: self.zero };
        self.conv.run(x, io.result_bytes(0), io.scratch(), io.pool);
        Ok(())
    }
}

fn zeros(s: &QuantizedConvolution) -> Zeros {
    Zeros { x: s.x_zero, w: s.w_zero, to: s.to, y: s.y_zero, low: s.low, high: s.high }
}

/// A convolution in rows, of any number of groups and one to three spatial dims.
pub(super) fn lower_convolution(cx: &Cx<'_>, node: &Node) -> Option<Lowered> {
    let settings = node.op.composite::<QuantizedConvolution>()?;
    let weighted = Weighted::of(cx, node, &zeros(settings))?;
    let shape = shape(&settings.dims(), cx.shape(weighted.x), weighted.w.shape())?;
    let weights: Vec<i32> = (0..weighted.w.len()).map(|i| weighted.weight(i)).collect();
    let conv = GroupedConvolution::new(&shape, cx.threads(), weights, &weighted.requantize());
    let scratch = conv.scratch_len() * 4;
    let (signed, zero) = (weighted.signed, weighted.zero);
    let kernel = Grouped { conv, signed, zero };
    Some(Lowered {
        scratch,
        detail: "plain".to_string(),
        ..Lowered::new("quantized convolution", kernel, &[weighted.x])
    })
}

/// A product of rows with a matrix.
pub(super) fn lower_dot(cx: &Cx<'_>, node: &Node) -> Option<Lowered> {
    let s = node.op.composite::<QuantizedDot>()?;
    let zeros = Zeros { x: s.x_zero, w: s.w_zero, to: s.to, y: s.y_zero, low: s.low, high: s.high };
    let weighted = Weighted::of(cx, node, &zeros)?;
    let &[k, m] = weighted.w.shape() else { return None };
    let rows = cx.shape(weighted.x).split_last()?.1.iter().product();
    let shape =
        ConvShape::new((1, k, m, 1), &[1, rows], &[1, 1], &[1, 1], &[1, 1], (&[0, 0], &[0, 0]))?;
    // Packing asks for `[m, k]`.
    let turned = |i: usize| i % k * m + i / k;
    Some(dense(cx, &weighted, &shape, Layout::Pixels, "quantized product", &turned))
}

/// Calls `$body` with `$t` as the type of the codes.
macro_rules! code {
    ($dtype:expr, $t:ident => $body:expr) => {
        match $dtype {
            DType::I8 => {
                type $t = i8;
                Some($body)
            }
            DType::U8 => {
                type $t = u8;
                Some($body)
            }
            _ => None,
        }
    };
}

/// A kernel that is a function of what it may touch.
struct Run<F>(F);

impl<F: Fn(&Io<'_>) + Send + Sync> Kernel for Run<F> {
    fn run(&self, io: &Io<'_>) -> Result<(), IrError> {
        (self.0)(io);
        Ok(())
    }
}

/// A sum of two tensors of one shape.
pub(super) fn lower_add(cx: &Cx<'_>, node: &Node) -> Option<Lowered> {
    let s = node.op.composite::<QuantizedAdd>()?;
    let &[a, b] = node.inputs.as_slice() else { return None };
    // One of the last dims of the other is added to each of them.
    let rows = [a, b].map(|v| cx.shape(v).iter().skip_while(|&&n| n == 1).collect::<Vec<_>>());
    if cx.shape(node.outputs[0]) != cx.shape(a) || !rows[0].ends_with(&rows[1]) {
        return None;
    }
    let addition = Addition {
        zeros: [s.a_zero as i32, s.b_zero as i32],
        multipliers: [s.a_multiplier as i32, s.b_multiplier as i32],
        shift: s.shift as u32,
        zero: s.y_zero as i32,
        limits: (s.low as i32, s.high as i32),
    };
    code!(cx.dtype(a), A => code!(cx.dtype(b), B => code!(s.to, R => {
        let run = move |io: &Io<'_>| {
            let (a, b, y) = (io.operand::<A>(0), io.operand::<B>(1), io.result::<R>(0));
            let row = b.len().max(1);
            for (a, y) in a.chunks_exact(row).zip(y.chunks_exact_mut(row)) {
                codes::add(io.simd, &addition, a, b, y, io.pool);
            }
        };
        Lowered::new("quantized sum", Run(run), &node.inputs)
    })))
    .flatten()
    .flatten()
}

/// A mean over neighboring dims.
pub(super) fn lower_mean(cx: &Cx<'_>, node: &Node) -> Option<Lowered> {
    let s = node.op.composite::<QuantizedMean>()?;
    let x = node.inputs[0];
    let dims = cx.shape(x);
    let (&first, &last) = (s.axes.first()?, s.axes.last()?);
    if last + 1 - first != s.axes.len() {
        return None;
    }
    let planes = dims[..first].iter().product();
    let pixels = dims[first..=last].iter().product();
    let lanes: usize = dims[last + 1..].iter().product();
    let (multiplier, shift) = (s.multiplier, s.shift);
    let (zero, low, high) = (s.y_zero, s.low, s.high);
    let finish = move |sum: i32| {
        let rounded = (i64::from(sum) * multiplier + (1 << (shift - 1))) >> shift;
        (rounded + zero).clamp(low, high) as i32
    };
    let x_zero = s.x_zero as i32;
    code!(cx.dtype(x), A => code!(s.to, R => {
        let run = move |io: &Io<'_>| {
            let shape = (planes, pixels, lanes);
            let (x, y) = (io.operand::<A>(0), io.result::<R>(0));
            codes::mean(io.simd, shape, x, x_zero, finish, y, io.pool);
        };
        Lowered::new("quantized mean", Run(run), &[x])
    }))
    .flatten()
}

/// The one number of a constant.
fn one(cx: &Cx<'_>, v: ValueId) -> Option<f64> {
    let values = cx.constant(v).filter(|t| t.len() == 1)?.to_f64();
    values.first().copied()
}

/// From floats to codes, or back, with one scale.
pub(super) fn lower_affine(cx: &Cx<'_>, node: &Node) -> Option<Lowered> {
    let &[x, scale, zero] = node.inputs.as_slice() else { return None };
    if cx.dtype(scale) != DType::F32 || cx.shape(node.outputs[0]) != cx.shape(x) {
        return None;
    }
    let affine = (one(cx, scale)? as f32, one(cx, zero)? as i32);
    match &node.op {
        Op::Prim(Prim::Quantize { to, .. }) if cx.dtype(x) == DType::F32 => code!(*to, R => {
            let run = move |io: &Io<'_>| {
                codes::quantize(io.simd, affine, io.operand(0), io.result::<R>(0), io.pool);
            };
            Lowered::new("to codes", Run(run), &[x])
        }),
        Op::Prim(Prim::Dequantize { to: DType::F32 }) => code!(cx.dtype(x), A => {
            let run = move |io: &Io<'_>| {
                codes::dequantize(io.simd, affine, io.operand::<A>(0), io.result(0), io.pool);
            };
            Lowered::new("from codes", Run(run), &[x])
        }),
        _ => None,
    }
}

/// The largest code of each window, on blocks.
pub(super) fn lower_pool(
    cx: &Cx<'_>,
    x: ValueId,
    planes: usize,
    window: ConvShape,
) -> Option<Lowered> {
    code!(cx.dtype(x), A => {
        let run = move |io: &Io<'_>| {
            codes::max_pool(io.simd, planes, &window, io.operand::<A>(0), io.result(0), io.pool);
        };
        Lowered::new("max-pool on blocks", Run(run), &[x])
    })
}
