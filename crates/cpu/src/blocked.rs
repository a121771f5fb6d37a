//! Images with their channels in blocks: which nodes of a compiled graph work on them, decided once for the whole graph.
//!
//! A value `[n, c, h, w]` in blocks is an ordinary value `[n, ⌈c/16⌉, h, w, 16]`, so fusion, views and the memory plan know
//! nothing of it. Convolutions make blocks; what can go on with them does (elementwise operators, pooling, means over the
//! image, concatenation of whole blocks); everything else reads the value put back in rows, which is made where it is
//! wanted. Lanes beyond the last channel hold whatever the operators make of them, and nobody reads them.

mod composites;

use std::collections::BTreeMap;

use anychip_ir::{
    Binary, Builder, ConvolutionDims, Graph, IrError, Node, Op, Prim, ReduceKind, ValueId, Window,
    evaluate_node, rewrite,
};
use anychip_ops::{AveragePool, QuantizedAdd, QuantizedConvolution, QuantizedMean};
use anychip_passes::remove_dead_code;
use anychip_tensor::{DType, Dim, Tensor};

use crate::kernel::blocked::BLOCK;
use composites::fixed_channels;
pub(crate) use composites::{
    BlockedConvolution, BlockedPool, BlockedQuantizedConvolution, FromBlocked, ToBlocked,
};

/// The graph with its images in blocks where that pays.
pub(crate) fn lay_out(graph: &Graph) -> Result<Graph, IrError> {
    let mut blocked = Blocked { made: BTreeMap::new(), scaled: BTreeMap::new() };
    let graph = rewrite(graph, &mut |b, node, x| blocked.node(b, node, x))?;
    // Most values are never read in rows; each plan would derive their types again.
    remove_dead_code(&graph)
}

/// A value in blocks, and how the same stands in rows: an image `[n, c, h, w]`, or single pixels with their channels at
/// any dim but the first and ones around them (`[n, c]`, `[n, 1, 1, c]`).
#[derive(Clone, Copy)]
struct Made {
    value: ValueId,
    channels: usize,
    rank: usize,
    axis: usize,
}

impl Made {
    fn image(value: ValueId, channels: usize) -> Made {
        Made { value, channels, rank: 4, axis: 1 }
    }

    fn is_image(&self) -> bool {
        (self.rank, self.axis) == (4, 1)
    }
}

struct Blocked {
    /// For values of the new graph in rows, the same in blocks.
    made: BTreeMap<ValueId, Made>,
    /// For images in blocks that are an image times one number a channel: both.
    scaled: BTreeMap<ValueId, (ValueId, ValueId)>,
}

/// Fewer filters than this leave most of a block empty.
const FEWEST_FILTERS: usize = 8;
/// Images have this many channels at most: the first convolution reads them in rows.
const MOST_ROWS: usize = 4;

impl Blocked {
    fn node(
        &mut self,
        b: &mut Builder,
        node: &Node,
        x: &[ValueId],
    ) -> Result<Option<Vec<ValueId>>, IrError> {
        let made = match &node.op {
            Op::Prim(Prim::Convolution(dims, DType::F32)) => self.convolution(b, dims, x)?,
            Op::Prim(Prim::ReduceWindow { kind: ReduceKind::Max, window }) => {
                self.pool(b, window, false, x)?
            }
            Op::Prim(prim @ Prim::Reduce { .. }) => self.reduce(b, prim, x)?,
            Op::Prim(Prim::Reshape) => return self.reshape(b, node, x),
            Op::Prim(Prim::Concat { axis: 1 }) => self.concat(b, x)?,
            Op::Prim(
                Prim::Unary(_)
                | Prim::Binary(_)
                | Prim::Compare(_)
                | Prim::Select
                | Prim::Cast { .. }
                | Prim::Quantize { .. }
                | Prim::Dequantize { .. },
            ) => self.elementwise(b, node, x)?,
            Op::Prim(_) => None,
            Op::Composite(composite) => match composite.downcast_ref::<AveragePool>() {
                Some(pool)
                    if !pool.count_padding
                        || pool.padding_low.iter().chain(&pool.padding_high).all(|&p| p == 0) =>
                {
                    let ends = pool.padding_high.iter().zip(&pool.overhang).map(|(p, o)| p + o);
                    let window = Window {
                        size: pool.size.clone(),
                        strides: pool.strides.clone(),
                        dilation: pool.dilation.clone(),
                        padding: pool.padding_low.iter().copied().zip(ends).collect(),
                    };
                    self.pool(b, &window, true, x)?
                }
                None if composite.downcast_ref::<QuantizedConvolution>().is_some() => {
                    self.quantized(b, node, x)?
                }
                None if composite.downcast_ref::<QuantizedMean>().is_some() => {
                    self.quantized_mean(b, node, x)?
                }
                None if matches!(composite.name(), "gelu" | "silu")
                    || composite.downcast_ref::<QuantizedAdd>().is_some() =>
                {
                    self.elementwise(b, node, x)?
                }
                Some(_) | None => None,
            },
        };
        let Some(made) = made else { return Ok(None) };
        let mut rows = b.composite(FromBlocked { channels: made.channels }, &[made.value])?;
        if !made.is_image() {
            let dims = single(b.dims(rows)[0].clone(), made);
            rows = b.reshape(rows, &dims)?;
        }
        self.made.insert(rows, made);
        Ok(Some(vec![rows]))
    }

    /// Single pixels in another shape: the same in blocks.
    fn reshape(
        &mut self,
        b: &mut Builder,
        node: &Node,
        x: &[ValueId],
    ) -> Result<Option<Vec<ValueId>>, IrError> {
        let Some(&made) = x.first().and_then(|x| self.made.get(x)) else { return Ok(None) };
        let y = b.node(node.op.clone(), x, Vec::new())?;
        let (from, to) = (b.dims(x[0]), b.dims(y[0]));
        if made.channels > 1
            && from == single(from[0].clone(), made)
            && let Some(axis) = to.iter().skip(1).position(|d| *d == Dim::Fixed(made.channels))
        {
            let same = Made { rank: to.len(), axis: axis + 1, ..made };
            if to == single(from[0].clone(), same) {
                self.made.insert(y[0], same);
            }
        }
        Ok(Some(y))
    }

    /// `x` in blocks, made now if it is not there.
    fn of(&mut self, b: &mut Builder, x: ValueId) -> Result<ValueId, IrError> {
        if let Some(found) = self.made.get(&x) {
            return Ok(found.value);
        }
        let channels = fixed_channels(b, "to-blocked", x)?;
        let value = b.composite(ToBlocked {}, &[x])?;
        self.made.insert(x, Made::image(value, channels));
        Ok(value)
    }

    fn convolution(
        &mut self,
        b: &mut Builder,
        dims: &ConvolutionDims,
        x: &[ValueId],
    ) -> Result<Option<Made>, IrError> {
        let &[x, w] = x else { return Ok(None) };
        let Some(weights) = b.graph().constant(w).filter(|_| b.rank(x) == 4) else {
            return Ok(None);
        };
        let &[filters, per_group, ..] = weights.shape() else { return Ok(None) };
        let own = weights.shape().len() == 4
            && weights.dtype() == DType::F32
            && b.dtype(x) == DType::F32
            && dims.input_dilation == [1, 1];
        let weights_taps: usize = weights.shape()[2..].iter().product();
        let Some(channels) = b.ty(x).shape.get(1).and_then(Dim::fixed) else { return Ok(None) };
        let depthwise =
            dims.groups == channels && filters == channels && channels >= FEWEST_FILTERS;
        if self.made.get(&x).is_some_and(|made| !made.is_image()) {
            return Ok(None);
        }
        let is_blocked = self.made.contains_key(&x);
        let rows = !is_blocked && channels <= MOST_ROWS && !depthwise;
        let dense = dims.groups == 1
            && dims.strides[..].iter().all(|&s| s <= 2)
            && filters >= FEWEST_FILTERS
            && (rows || channels >= FEWEST_FILTERS);
        if !own || per_group == 0 || !(depthwise || dense) {
            return Ok(None);
        }
        let operand = if rows { x } else { self.of(b, x)? };
        // Weights with fewer filters than there are pixels are scaled in less time than the image.
        let pixels = match b.ty(x).shape[2..] {
            [Dim::Fixed(height), Dim::Fixed(width)] => height * width,
            _ => 0,
        };
        let scaled = self.scaled.get(&operand).copied();
        let scaled = scaled.filter(|_| dense && weights_taps == 1 && filters < pixels);
        let operands = match scaled {
            Some((image, scale)) => vec![image, w, scale],
            None => vec![operand, w],
        };
        let composite = BlockedConvolution {
            strides: dims.strides.clone(),
            padding_low: dims.padding.iter().map(|p| p.0).collect(),
            padding_high: dims.padding.iter().map(|p| p.1).collect(),
            dilation: dims.dilation.clone(),
            groups: dims.groups,
            rows,
        };
        Ok(Some(Made::image(b.composite(composite, &operands)?, filters)))
    }

    /// A convolution of codes.
    fn quantized(
        &mut self,
        b: &mut Builder,
        node: &Node,
        x: &[ValueId],
    ) -> Result<Option<Made>, IrError> {
        let (Some(plain), &[x, w, ref rest @ ..]) =
            (node.op.composite::<QuantizedConvolution>(), x)
        else {
            return Ok(None);
        };
        let all_constant = [w].iter().chain(rest).all(|&v| b.graph().constant(v).is_some());
        let Some(weights) = b.graph().constant(w).filter(|_| b.rank(x) == 4 && all_constant) else {
            return Ok(None);
        };
        let &[filters, per_group, ..] = weights.shape() else { return Ok(None) };
        let Some(channels) = b.ty(x).shape.get(1).and_then(Dim::fixed) else { return Ok(None) };
        if per_group == 0 || self.made.get(&x).is_some_and(|made| !made.is_image()) {
            return Ok(None);
        }
        let depthwise = plain.groups == channels && filters == channels && channels > 1;
        let rows = !self.made.contains_key(&x) && channels <= MOST_ROWS && !depthwise;
        if !(depthwise || plain.groups == 1) {
            return Ok(None);
        }
        let operand = if rows { x } else { self.of(b, x)? };
        let operands: Vec<ValueId> = [operand, w].iter().chain(rest).copied().collect();
        let composite = BlockedQuantizedConvolution::of(plain, rows);
        Ok(Some(Made::image(b.composite(composite, &operands)?, filters)))
    }

    /// A mean of codes over the whole image: one pixel is left.
    fn quantized_mean(
        &mut self,
        b: &mut Builder,
        node: &Node,
        x: &[ValueId],
    ) -> Result<Option<Made>, IrError> {
        let (Some(mean), &[x]) = (node.op.composite::<QuantizedMean>(), x) else {
            return Ok(None);
        };
        let image = self.made.get(&x).filter(|made| made.is_image() && mean.axes == [2, 3]);
        let Some(image) = image.copied() else { return Ok(None) };
        Ok(Some(Made { value: b.composite(mean.clone(), &[image.value])?, ..image }))
    }

    fn pool(
        &mut self,
        b: &mut Builder,
        window: &Window,
        mean: bool,
        x: &[ValueId],
    ) -> Result<Option<Made>, IrError> {
        let &[x] = x else { return Ok(None) };
        let Some(image) = self.made.get(&x).filter(|made| made.is_image()) else { return Ok(None) };
        // Every window must cover an element.
        let covers = window.size.len() == 2
            && (0..2).all(|i| {
                let reach = ((window.size[i].max(1) - 1) * window.dilation[i]) as i64;
                let (low, high) = window.padding[i];
                (0..=reach).contains(&low) && (0..=reach).contains(&high)
            });
        let codes = !mean && matches!(b.dtype(x), DType::I8 | DType::U8);
        if !covers || !(b.dtype(x) == DType::F32 || codes) {
            return Ok(None);
        }
        let pool = BlockedPool {
            size: window.size.clone(),
            strides: window.strides.clone(),
            dilation: window.dilation.clone(),
            padding_low: window.padding.iter().map(|p| p.0).collect(),
            padding_high: window.padding.iter().map(|p| p.1).collect(),
            mean,
        };
        Ok(Some(Made { value: b.composite(pool, &[image.value])?, ..*image }))
    }

    /// A reduction over the whole image: one pixel is left, and stands for the result `[n, c]` too.
    fn reduce(
        &mut self,
        b: &mut Builder,
        prim: &Prim,
        x: &[ValueId],
    ) -> Result<Option<Made>, IrError> {
        let (Prim::Reduce { axes, .. }, &[x]) = (prim, x) else { return Ok(None) };
        let image = self.made.get(&x).filter(|made| made.is_image() && axes[..] == [2, 3]);
        let Some(image) = image else { return Ok(None) };
        let y = b.prim(prim.clone(), &[image.value])?;
        Ok(Some(Made { value: b.unsqueeze(y, &[2, 3])?, rank: 2, ..*image }))
    }

    /// A concatenation of channels that begin and end with blocks.
    fn concat(&mut self, b: &mut Builder, x: &[ValueId]) -> Result<Option<Made>, IrError> {
        let mut parts = Vec::new();
        let mut total = 0;
        for &x in x {
            let Some(image) = self.made.get(&x).filter(|made| made.is_image()) else {
                return Ok(None);
            };
            if total % BLOCK != 0 {
                return Ok(None);
            }
            parts.push(image.value);
            total += image.channels;
        }
        if parts.is_empty() {
            return Ok(None);
        }
        Ok(Some(Made::image(b.concat(&parts, 1)?, total)))
    }

    /// An elementwise operator, when an operand is in blocks already and the others can be.
    fn elementwise(
        &mut self,
        b: &mut Builder,
        node: &Node,
        x: &[ValueId],
    ) -> Result<Option<Made>, IrError> {
        let Some(&model) = x.iter().find_map(|x| self.made.get(x)) else { return Ok(None) };
        let whole = x
            .iter()
            .filter(|x| self.made.contains_key(x))
            .map(|&x| b.dims(x))
            .max_by_key(|dims| dims.iter().filter(|d| **d != Dim::Fixed(1)).count())
            .unwrap_or_default();
        let mut operands = Vec::new();
        for &v in x {
            let shape = b.ty(v).shape.clone();
            let operand = if let Some(found) = self.made.get(&v) {
                // Its channels must be the result's, not one for all, and at the same dim.
                let alike = |m: &Made| (m.channels, m.rank, m.axis);
                if alike(found) != alike(&model) {
                    return Ok(None);
                }
                found.value
            } else if let Some(constant) = b.graph().constant(v).cloned() {
                match constant_in_blocks(&constant, model)? {
                    Some(tensor) => b.constant(tensor),
                    None => return Ok(None),
                }
            } else if model.is_image()
                && matches!(b.dtype(v), DType::F32 | DType::I8 | DType::U8)
                && broadcasts(&shape, &whole)
            {
                self.of(b, v)?
            } else {
                return Ok(None);
            };
            operands.push(operand);
        }
        let y = b.node(node.op.clone(), &operands, Vec::new())?;
        if let (Op::Prim(Prim::Binary(Binary::Mul)), &[y], &[p, q]) =
            (&node.op, &y[..], &operands[..])
        {
            let is_pixel = |v: ValueId| b.dims(v)[2..4] == [Dim::Fixed(1), Dim::Fixed(1)];
            let is_whole = |v: ValueId| b.dims(v) == b.dims(y) && !is_pixel(v);
            for (image, scale) in [(p, q), (q, p)] {
                // Each image has its own scales: one for all would be another layout.
                let alike = |v: ValueId| b.dims(v)[..2] == b.dims(y)[..2];
                if b.rank(scale) == 5 && is_whole(image) && is_pixel(scale) && alike(scale) {
                    self.scaled.insert(y, (image, scale));
                }
            }
        }
        Ok(y.first().map(|&value| Made { value, ..model }))
    }
}

/// Whether an image has the same channels as `whole` and broadcasts to it.
fn broadcasts(shape: &[Dim], whole: &[Dim]) -> bool {
    shape.len() == whole.len()
        && shape[1] == whole[1]
        && shape.iter().zip(whole).all(|(own, all)| own == all || *own == Dim::Fixed(1))
}

/// The dims of single pixels in rows.
fn single(images: Dim, made: Made) -> Vec<Dim> {
    let mut dims = vec![Dim::Fixed(1); made.rank];
    dims[0] = images;
    dims[made.axis] = Dim::Fixed(made.channels);
    dims
}

/// A constant that broadcasts to values as `made` stands in rows, as one that broadcasts to the same in blocks.
fn constant_in_blocks(constant: &Tensor, made: Made) -> Result<Option<Tensor>, IrError> {
    if constant.len() == 1 {
        return Ok(Some(constant.reshaped(Vec::<usize>::new())?));
    }
    // Missing dims in front are 1.
    let mut shape = constant.shape().to_vec();
    if shape.len() > made.rank || !constant.dtype().is_float() {
        return Ok(None);
    }
    while shape.len() < made.rank {
        shape.insert(0, 1);
    }
    if shape[made.axis] != made.channels {
        return Ok(None);
    }
    if !made.is_image() {
        if constant.len() != made.channels {
            return Ok(None);
        }
        shape = vec![1, made.channels, 1, 1];
    }
    let op = Op::Composite(std::sync::Arc::new(ToBlocked {}));
    Ok(evaluate_node(&op, &[], &[constant.reshaped(shape)?])?.into_iter().next())
}
