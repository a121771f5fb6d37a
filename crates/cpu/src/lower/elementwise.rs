//! Chains of elementwise `f32` operators: one pass over memory for as many of them as belong together.

use anychip_ir::{Binary, IrError, Node, Op, Prim, Unary, ValueId};
use anychip_ops::{Gelu, Silu};
use anychip_tensor::DType;

use super::{Cx, Lowered};
use crate::kernel::activation::Activation;
use crate::kernel::broadcast::{Broadcast, MAX_OPERANDS, broadcast_strides};
use crate::kernel::elementwise::{self as chain, Chain, Input, Operand, Step};
use crate::step::{Io, Kernel};

/// More steps than this do not gain from one more.
pub(crate) const LONGEST_CHAIN: usize = 24;
/// Dims that the walk over operands can have.
const LARGEST_RANK: usize = 16;

/// One elementwise operator alone.
pub(crate) fn lower(cx: &Cx<'_>, node: &Node) -> Option<Lowered> {
    lower_chain(cx, &[node])
}

/// Whether an operator can be a step of a chain.
pub(crate) fn is_step(cx: &Cx<'_>, node: &Node) -> bool {
    let [result] = node.outputs.as_slice() else { return false };
    cx.is_sized(node)
        && cx.shape(*result).len() <= LARGEST_RANK
        && cx.dtype(*result) == DType::F32
        && node.inputs.iter().all(|&v| cx.dtype(v) == DType::F32)
        && match &node.op {
            Op::Prim(Prim::Unary(op)) => unary(*op).is_some(),
            Op::Prim(Prim::Binary(op)) => binary(*op).is_some(),
            op => activation(op).is_some(),
        }
}

/// Operators in the order they run, each with one result, as one kernel: only the last one's result is written.
pub(crate) fn lower_chain(cx: &Cx<'_>, nodes: &[&Node]) -> Option<Lowered> {
    let last = nodes.last()?;
    if nodes.len() > LONGEST_CHAIN || !nodes.iter().all(|node| is_step(cx, node)) {
        return None;
    }
    let shape = cx.shape(last.outputs[0]);
    let mut inputs: Vec<ValueId> = Vec::new();
    let mut steps = Vec::new();
    for node in nodes {
        let operands: Vec<Operand> = node
            .inputs
            .iter()
            .map(|&v| {
                if let Some(step) = nodes[..steps.len()].iter().position(|n| n.outputs[0] == v) {
                    return Operand::Step(step);
                }
                if let Some(constant) = cx.constant(v)
                    && constant.len() == 1
                    && let Some(elements) = constant.elements::<f32>()
                {
                    return Operand::Constant(elements[0]);
                }
                let position = inputs.iter().position(|&i| i == v).unwrap_or_else(|| {
                    inputs.push(v);
                    inputs.len() - 1
                });
                Operand::Input(position)
            })
            .collect();
        steps.push(match (&node.op, operands.as_slice()) {
            (Op::Prim(Prim::Unary(op)), &[x]) => Step::Unary(unary(*op)?, x),
            (
                Op::Prim(Prim::Binary(Binary::Max)),
                &[x, Operand::Constant(0.0)] | &[Operand::Constant(0.0), x],
            ) => Step::Unary(chain::Unary::Activation(Activation::Relu), x),
            (Op::Prim(Prim::Binary(op)), &[a, b]) => Step::Binary(binary(*op)?, a, b),
            (op, &[x]) => Step::Unary(chain::Unary::Activation(activation(op)?), x),
            _ => return None,
        });
    }
    if inputs.len() > MAX_OPERANDS {
        return None;
    }
    let strides = inputs
        .iter()
        .map(|&v| broadcast_strides(cx.shape(v), shape))
        .collect::<Option<Vec<_>>>()?;
    let strides: Vec<&[usize]> = strides.iter().map(Vec::as_slice).collect();
    let walk = Broadcast::new(shape, &strides).with_periods();
    let in_place = (0..inputs.len()).filter(|&i| walk.is_like_result(i)).collect();
    let names: Vec<&str> = nodes.iter().map(|n| n.op.name()).collect();
    let chain = Chain::new(cx.shared.simd, cx.threads(), walk, inputs.len(), steps);
    let scratch = chain.scratch_len() * 4;
    Some(Lowered {
        detail: names.join(", "),
        scratch,
        in_place,
        ..Lowered::new("elementwise", ChainKernel { chain, inputs: inputs.len() }, &inputs)
    })
}

struct ChainKernel {
    chain: Chain,
    inputs: usize,
}

impl Kernel for ChainKernel {
    fn run(&self, io: &Io<'_>) -> Result<(), IrError> {
        let result = io.result_raw(0);
        let mut inputs = [Input::Output; MAX_OPERANDS];
        for (i, input) in inputs.iter_mut().enumerate().take(self.inputs) {
            // An operand in the result's memory is read through the result.
            if io.operand_raw(i).start != result.start || result.len == 0 {
                *input = Input::Slice(io.operand(i));
            }
        }
        self.chain.run(&inputs[..self.inputs], io.result(0), io.scratch(), io.pool);
        Ok(())
    }
}

/// An operator that is one of the kernels' activations.
pub(crate) fn activation(op: &Op) -> Option<Activation> {
    if let Some(gelu) = op.composite::<Gelu>() {
        return Some(if gelu.tanh { Activation::GeluTanh } else { Activation::GeluErf });
    }
    if op.composite::<Silu>().is_some() {
        return Some(Activation::Silu);
    }
    match op {
        Op::Prim(Prim::Unary(Unary::Sigmoid)) => Some(Activation::Sigmoid),
        Op::Prim(Prim::Unary(Unary::Tanh)) => Some(Activation::Tanh),
        _ => None,
    }
}

fn unary(op: Unary) -> Option<chain::Unary> {
    Some(match op {
        Unary::Neg => chain::Unary::Negate,
        Unary::Abs => chain::Unary::Abs,
        Unary::Sign => chain::Unary::Sign,
        Unary::Floor => chain::Unary::Floor,
        Unary::Ceil => chain::Unary::Ceil,
        Unary::Round => chain::Unary::Round,
        Unary::Sqrt => chain::Unary::Sqrt,
        Unary::Exp => chain::Unary::Exp,
        Unary::Log => chain::Unary::Log,
        Unary::Sin => chain::Unary::Sin,
        Unary::Cos => chain::Unary::Cos,
        Unary::Tan => chain::Unary::Tan,
        Unary::Asin => chain::Unary::Asin,
        Unary::Acos => chain::Unary::Acos,
        Unary::Atan => chain::Unary::Atan,
        Unary::Sinh => chain::Unary::Sinh,
        Unary::Cosh => chain::Unary::Cosh,
        Unary::Asinh => chain::Unary::Asinh,
        Unary::Acosh => chain::Unary::Acosh,
        Unary::Atanh => chain::Unary::Atanh,
        Unary::Erf => chain::Unary::Erf,
        Unary::Tanh => chain::Unary::Activation(Activation::Tanh),
        Unary::Sigmoid => chain::Unary::Activation(Activation::Sigmoid),
        Unary::Not | Unary::IsNan | Unary::IsInf => return None,
    })
}

fn binary(op: Binary) -> Option<chain::Binary> {
    Some(match op {
        Binary::Add => chain::Binary::Add,
        Binary::Sub => chain::Binary::Sub,
        Binary::Mul => chain::Binary::Mul,
        Binary::Div => chain::Binary::Div,
        Binary::Max => chain::Binary::Max,
        Binary::Min => chain::Binary::Min,
        Binary::Pow => chain::Binary::Pow,
        Binary::Rem
        | Binary::And
        | Binary::Or
        | Binary::Xor
        | Binary::ShiftLeft
        | Binary::ShiftRight => return None,
    })
}
