//! Idioms of layers: products with their bias, and weights as integers in blocks.

use anychip_ir::{Graph, Node, NodeId, Op, Prim, ValueId};
use anychip_tensor::{DType, Tensor};

use super::{Finder, Idiom};
use crate::export::emit::{Emitter, Frame};
use crate::export::quantize;

/// What is added to a sum of products, a vector with an entry a channel.
#[derive(Debug, Clone)]
pub(super) enum Bias {
    Constant(Tensor),
    /// 32-bit integers with a scale for each.
    Dequantized {
        codes: Tensor,
        scale: Tensor,
    },
}

impl Bias {
    pub(super) fn emit(&self, e: &mut Emitter, frame: &mut Frame<'_>) -> String {
        match self {
            Bias::Constant(bias) => e.constant(bias),
            Bias::Dequantized { codes, scale } => {
                let axis = vec![("axis", 0.into())];
                let (codes, scale) = (e.constant(codes), e.constant(scale));
                e.add(frame, "DequantizeLinear", &[&codes, &scale], axis)
            }
        }
    }
}

/// A weight as integers of shape `[…, blocks, block, …]` with a scale and zero point for each block; in the file it is
/// `[…, blocks · block, …]`.
#[derive(Debug, Clone)]
pub(super) struct Blocks {
    x: ValueId,
    scale: ValueId,
    zero_point: ValueId,
    axis: usize,
    block: usize,
}

impl Blocks {
    /// What of it is written as it is: a constant is written in the operator's shape instead.
    pub(super) fn read(&self, graph: &Graph) -> Option<ValueId> {
        graph.constant(self.x).is_none().then_some(self.x)
    }

    pub(super) fn emit(&self, e: &mut Emitter, frame: &mut Frame<'_>) -> Result<String, String> {
        let failed = |error: anychip_tensor::TensorError| error.to_string();
        let shape = frame.graph.ty(self.x).fixed_shape().ok_or("its sizes are not numbers")?;
        let mut joined = shape;
        let size = joined.remove(self.axis + 1);
        joined[self.axis] *= size;
        let codes = if let Some(tensor) = frame.graph.constant(self.x) {
            e.constant(&tensor.reshaped(joined).map_err(failed)?)
        } else {
            let joined: Vec<i64> = joined.iter().map(|&n| n as i64).collect();
            let name = frame.name(self.x);
            e.reshape(frame, &name, &joined)
        };
        let mut names = vec![codes];
        for v in [self.scale, self.zero_point] {
            let tensor = frame.graph.constant(v).ok_or("its scales are not constant")?;
            // A zero point of 0 goes without saying.
            if v == self.scale || tensor.to_i64().iter().any(|&z| z != 0) {
                let mut dims = tensor.shape().to_vec();
                dims.remove(self.axis + 1);
                names.push(e.constant(&tensor.reshaped(dims).map_err(failed)?));
            }
        }
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let attributes =
            vec![("axis", (self.axis as i64).into()), ("block_size", (self.block as i64).into())];
        Ok(e.add(frame, "DequantizeLinear", &names, attributes))
    }
}

impl Finder<'_> {
    /// A constant, or one of 32-bit integers dequantized, as a vector of so many.
    pub(super) fn channel_bias(
        &self,
        bias: ValueId,
        channels: usize,
        output: DType,
        inner: &mut Vec<NodeId>,
    ) -> Option<Bias> {
        // An importer leaves the bias as a vector under another shape.
        let mut source = bias;
        if self.graph.constant(source).is_none()
            && let Some((reshape, node)) = self.only_here(source)
            && matches!(node.op, Op::Prim(Prim::Reshape))
        {
            inner.push(reshape);
            source = node.inputs[0];
        }
        if let Some(constant) = self.graph.constant(source) {
            return Some(Bias::Constant(if constant.len() == channels {
                constant.reshaped([channels]).ok()?
            } else {
                let value = *constant.to_f64().first()?;
                Tensor::from_f64(output, [channels], &vec![value; channels]).ok()?
            }));
        }
        let (id, node) = self.only_here(source)?;
        if !matches!(node.op, Op::Prim(Prim::Dequantize { .. })) {
            return None;
        }
        quantize::layout(self.graph, node, self.opset)?;
        let (codes, scale) =
            (self.graph.constant(node.inputs[0])?, self.graph.constant(node.inputs[1])?);
        if codes.dtype() != DType::I32 || codes.len() != channels {
            return None;
        }
        inner.push(id);
        let codes = codes.reshaped([channels]).ok()?;
        let scale = quantize::flattened(scale, Some(channels)).ok()?;
        Some(Bias::Dequantized { codes, scale })
    }

    /// A matrix by a constant one, with a bias.
    pub(super) fn gemm(
        &self,
        result: ValueId,
        [sum, bias]: [ValueId; 2],
    ) -> Option<(Idiom, Vec<NodeId>)> {
        let (id, node) = self.only_here(sum)?;
        let Op::Prim(Prim::DotGeneral(dims, output)) = &node.op else { return None };
        let types = [node.inputs[0], node.inputs[1], bias].map(|v| self.graph.ty(v));
        let matrices = types[0].rank() == 2
            && types[1].rank() == 2
            && dims.lhs_batch.is_empty()
            && dims.lhs_contract == [1]
            && dims.rhs_contract == [0];
        let plain = types.iter().all(|ty| ty.dtype == *output);
        if !plain || !matrices || !self.same_shape(result, sum) {
            return None;
        }
        let columns = types[1].shape[1].fixed()?;
        let shape = types[2].fixed_shape()?;
        let (last, before) = shape.split_last()?;
        if *last != columns || before.iter().any(|&n| n != 1) {
            return None;
        }
        let mut inner = vec![id];
        let bias = self.channel_bias(bias, columns, *output, &mut inner)?;
        Some((Idiom::Gemm { node: id, bias }, inner))
    }

    /// A weight dequantized in blocks, before its blocks are put together.
    pub(super) fn blocks(&self, node: &Node) -> Option<(Idiom, Vec<NodeId>)> {
        if self.opset < 21 {
            return None;
        }
        let (id, inner) = self.only_here(node.inputs[0])?;
        if !matches!(inner.op, Op::Prim(Prim::Dequantize { to: DType::F32 })) {
            return None;
        }
        let &[x, scale, zero_point] = &inner.inputs[..] else { return None };
        let shape = self.graph.ty(x).fixed_shape()?;
        let result = self.graph.ty(node.outputs[0]).fixed_shape()?;
        let scales = self.graph.constant(scale)?;
        let zeros = self.graph.constant(zero_point)?;
        let stored = self.graph.ty(x).dtype;
        if scales.dtype() != DType::F32
            || scales.rank() != shape.len()
            || (zeros.shape() != scales.shape() && zeros.to_i64() != [0])
            || !matches!(stored, DType::I4 | DType::U4 | DType::I8 | DType::U8)
        {
            return None;
        }
        // The dim that scales do not vary along is the block.
        let block = (1..shape.len()).find(|&i| scales.shape()[i] == 1 && shape[i] > 1)?;
        let elsewhere = (0..shape.len()).any(|i| i != block && scales.shape()[i] != shape[i]);
        let mut joined = shape.clone();
        let size = joined.remove(block);
        joined[block - 1] *= size;
        if elsewhere || joined != result {
            return None;
        }
        let blocks = Blocks { x, scale, zero_point, axis: block - 1, block: size };
        Some((Idiom::Blocks(blocks), vec![id]))
    }
}
