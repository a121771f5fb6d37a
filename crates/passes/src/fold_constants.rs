//! What depends on constants alone is computed once, here.

use anychip_ir::{
    Builder, Graph, IrError, Limits, Op, Prim, ValueId, evaluate_node_within,
};
use anychip_tensor::Tensor;

use crate::random::draws;
use crate::{Outcome, Site, Verdict, rebuild};

pass! {
    /// `f(c₁, c₂, …) => c` for constants, where the result takes at most 1 MiB more than they do
    pub(crate) const FOLD_CONSTANTS = "fold-constants", run;
}

/// How many bytes a result may take beyond its operands.
const EXTRA_BYTES: usize = 1 << 20;

/// Contractions of larger constants are left to the target, whose kernels are made for it.
const LARGEST_CONTRACTION: usize = 1 << 20;

fn run(graph: &Graph) -> Result<Outcome, IrError> {
    rebuild(graph, &mut rule)
}

fn rule(b: &mut Builder, site: &Site<'_>) -> Result<Verdict, IrError> {
    if site.inputs.is_empty() || !site.node.regions.is_empty() {
        return Ok(Verdict::Keep);
    }
    let operands: Option<Vec<Tensor>> =
        site.inputs.iter().map(|&v| b.graph().constant(v).cloned()).collect();
    let Some(operands) = operands else { return Ok(Verdict::Keep) };
    let bytes: usize = operands.iter().map(|t| t.bytes().len()).sum();
    if stays(site, bytes) || draws(b, &site.node.op, site.inputs)? {
        return Ok(Verdict::Keep);
    }
    let limits = Limits { bytes: bytes + EXTRA_BYTES, ..Limits::default() };
    // What fails here fails the same way when the model runs, and says so then.
    let Ok(results) = evaluate_node_within(&site.node.op, &[], &operands, &limits) else {
        return Ok(Verdict::Keep);
    };
    if results.iter().map(|t| t.bytes().len()).sum::<usize>() > limits.bytes {
        return Ok(Verdict::Keep);
    }
    let values: Vec<ValueId> = results.into_iter().map(|tensor| b.constant(tensor)).collect();
    Ok(Verdict::Replace(values))
}

/// Whether a node is better left as it is, though its operands are constant.
fn stays(site: &Site<'_>, bytes: usize) -> bool {
    let Op::Prim(prim) = &site.node.op else { return false };
    match prim {
        // Quantized weights stay small, and targets with integer arithmetic read them as they are.
        Prim::Quantize { .. } | Prim::Dequantize { .. } => true,
        // A dot product reads transposed weights where they lie (`absorb-transposes`).
        Prim::Transpose { permutation } => {
            let users = site.uses.users(site.node.outputs[0]);
            permutation.len() == 2
                && !users.is_empty()
                && users.iter().all(|&user| {
                    matches!(site.graph.node(user).op, Op::Prim(Prim::DotGeneral(..)))
                })
        }
        Prim::DotGeneral(..) | Prim::Convolution(..) => bytes > LARGEST_CONTRACTION,
        Prim::Constant(_)
        | Prim::Iota
        | Prim::Random { .. }
        | Prim::Unary(_)
        | Prim::Binary(_)
        | Prim::Compare(_)
        | Prim::Select
        | Prim::Cast { .. }
        | Prim::BitCast { .. }
        | Prim::Reduce { .. }
        | Prim::ArgReduce { .. }
        | Prim::ReduceWindow { .. }
        | Prim::Cumulative { .. }
        | Prim::TopK { .. }
        | Prim::ShapeOf
        | Prim::Reshape
        | Prim::Broadcast
        | Prim::Slice { .. }
        | Prim::Pad
        | Prim::Concat { .. }
        | Prim::Take { .. }
        | Prim::TakeAlong { .. }
        | Prim::GatherNd { .. }
        | Prim::ScatterAlong { .. }
        | Prim::ScatterNd { .. }
        | Prim::NonZero
        | Prim::Requantize { .. }
        | Prim::If
        | Prim::Loop { .. } => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recognize::tests::with_input;
    use anychip_tensor::DType;

    #[test]
    fn a_chain_of_constants_folds_at_once() {
        let g = with_input([2, 2], |b, x| {
            let two = b.scalar_like(x, 2.0).unwrap();
            let root = b.sqrt(two).unwrap();
            let inverse = b.reciprocal(root).unwrap();
            b.mul(x, inverse).unwrap()
        });
        let folded = crate::optimize(&g, &mut |_| {}).unwrap();
        let product = folded.nodes().last().unwrap();
        let factor = crate::matching::uniform(&folded, product.inputs[1]).unwrap();
        assert!((factor - std::f64::consts::FRAC_1_SQRT_2).abs() < 1e-7);
        assert_eq!(crate::node_count(&folded), 1);
    }

    #[test]
    fn a_result_much_larger_than_its_operands_is_not_stored() {
        let g = with_input([1], |b, x| {
            let one = b.scalar(DType::F32, 1.0).unwrap();
            let ones = b.broadcast(one, &[1024usize.into(), 1024usize.into()]).unwrap();
            b.concat(&[ones, ones], 0).unwrap();
            let _ = x;
            ones
        });
        assert_eq!(run(&g).unwrap().changes, 0);
    }
}
