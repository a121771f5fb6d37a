//! What depends on constants alone is computed once, here.

use anychip_ir::{
    Builder, Graph, IrError, Limits, Node, Op, Prim, ValueId, evaluate_node_within,
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

/// Operands of fewer bytes are read and worked out, even where they are still to be made.
const LARGEST_AT_ONCE: usize = 1 << 16;

/// Contractions of larger constants are left to the target, whose kernels are made for it.
const LARGEST_CONTRACTION: usize = 1 << 20;

/// What one node may do beyond [`OPERATIONS_PER_BYTE`], and all nodes together may.
const OPERATIONS_OF_A_NODE: u64 = 1 << 24;
const OPERATIONS_OF_ALL: u64 = 1 << 28;

/// How often constants may be gone through: what a large model's weights need, and no more than a large file can ask for.
const OPERATIONS_PER_BYTE: u64 = 16;

fn run(graph: &Graph) -> Result<Outcome, IrError> {
    let mut left = OPERATIONS_OF_ALL + OPERATIONS_PER_BYTE * constant_bytes(graph) as u64;
    rebuild(graph, &mut |b, site| rule(b, site, &mut left))
}

/// The bytes of all constants, those in regions included.
fn constant_bytes(graph: &Graph) -> usize {
    let of_node = |node: &Node| match &node.op {
        Op::Prim(Prim::Constant(tensor)) => tensor.byte_len(),
        Op::Prim(_) | Op::Composite(_) => node.regions.iter().map(constant_bytes).sum(),
    };
    graph.nodes().iter().map(of_node).sum()
}

/// `left` is what all nodes together may still do.
fn rule(b: &mut Builder, site: &Site<'_>, left: &mut u64) -> Result<Verdict, IrError> {
    if site.inputs.is_empty() || !site.node.regions.is_empty() {
        return Ok(Verdict::Keep);
    }
    let operands: Option<Vec<Tensor>> =
        site.inputs.iter().map(|&v| b.graph().constant(v).cloned()).collect();
    let Some(operands) = operands else { return Ok(Verdict::Keep) };
    let bytes: usize = operands.iter().map(Tensor::byte_len).sum();
    if stays(site, bytes) || draws(b, &site.node.op, site.inputs)? {
        return Ok(Verdict::Keep);
    }
    if let Some(tensor) = deferred(site, &operands, bytes) {
        return Ok(Verdict::Replace(vec![b.constant(tensor)]));
    }
    let most = (OPERATIONS_OF_A_NODE + OPERATIONS_PER_BYTE * bytes as u64).min(*left);
    let mut limits =
        Limits { bytes: bytes + EXTRA_BYTES, operations: most, ..Limits::default() };
    let results = evaluate_node_within(&site.node.op, &[], &operands, &mut limits);
    *left -= most - limits.operations;
    // What fails here fails the same way when the model runs, and says so then.
    let Ok(results) = results else { return Ok(Verdict::Keep) };
    if results.iter().map(Tensor::byte_len).sum::<usize>() > limits.bytes {
        return Ok(Verdict::Keep);
    }
    let values: Vec<ValueId> = results.into_iter().map(|tensor| b.constant(tensor)).collect();
    Ok(Verdict::Replace(values))
}

/// The result of a node whose operands are still to be made, itself to be made when it is read: elementwise and
/// moving primitives, which cannot fail on operands of their types. Small ones are worked out at once.
fn deferred(site: &Site<'_>, operands: &[Tensor], bytes: usize) -> Option<Tensor> {
    let prim = site.node.op.prim()?;
    let total = matches!(
        prim,
        Prim::Unary(_)
            | Prim::Binary(_)
            | Prim::Cast { .. }
            | Prim::Reshape
            | Prim::Transpose { .. }
            | Prim::Concat { .. }
    );
    if !total || bytes <= LARGEST_AT_ONCE || !operands.iter().any(Tensor::is_deferred) {
        return None;
    }
    let ty = site.graph.ty(site.node.outputs[0]);
    let (op, operands) = (site.node.op.clone(), operands.to_vec());
    let tensor = Tensor::deferred(ty.dtype, ty.fixed_shape()?, move || {
        let results = evaluate_node_within(&op, &[], &operands, &mut Limits::default());
        let result = results.ok().and_then(|tensors| tensors.into_iter().next());
        result.expect("a primitive of well-typed constants has a result").bytes().clone()
    });
    tensor.ok().filter(|t| t.byte_len() <= bytes + EXTRA_BYTES)
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
    use anychip_ir::{Expand, ReduceKind, TensorType, Window, composite, operands};
    use anychip_tensor::DType;

    /// Weights that nobody reads are not made, nor what is computed of them; once read they are what they should be.
    #[test]
    fn what_is_computed_of_deferred_weights_is_deferred() {
        use std::sync::Arc;
        use std::sync::atomic::{AtomicUsize, Ordering};
        let n = 1 << 15;
        let calls = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&calls);
        let weights = Tensor::deferred(DType::F32, [n], move || {
            counter.fetch_add(1, Ordering::Relaxed);
            let ramp = (0..n).map(|i| i as f32).collect();
            Tensor::from_vec([n], ramp).unwrap().bytes().clone()
        })
        .unwrap();
        let g = with_input([n], |b, x| {
            let weights = b.constant(weights);
            let doubled = b.scale(weights, 2.0).unwrap();
            let shifted = b.offset(doubled, 1.0).unwrap();
            b.mul(x, shifted).unwrap()
        });
        let folded = crate::optimize(&g, &mut |_| {}).unwrap();
        assert_eq!(crate::node_count(&folded), 1);
        assert_eq!(calls.load(Ordering::Relaxed), 0);
        let product = folded.producer(folded.outputs()[0]).unwrap();
        let constant = product.inputs.iter().find_map(|&v| folded.constant(v)).unwrap();
        assert_eq!(constant.elements::<f32>().unwrap()[..3], [1.0, 3.0, 5.0]);
        assert_eq!(calls.load(Ordering::Relaxed), 1);
    }

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

    /// The optimized graph has its node yet, and the test does not take long.
    fn is_left_alone(build: impl FnOnce(&mut Builder) -> ValueId) {
        let g = with_input([1], |b, _| build(b));
        let optimized = crate::optimize(&g, &mut |_| {}).unwrap();
        assert!(crate::node_count(&optimized) > 0, "{}", anychip_ir::text::print_summary(&optimized));
    }

    #[test]
    fn a_loop_without_end_does_not_hang() {
        // As it stands, and behind a composite, where it can be told only by running it.
        is_left_alone(|b| endless(b, 1 << 62).unwrap());
        is_left_alone(|b| {
            let trips = b.scalar(DType::I64, (1u64 << 62) as f64).unwrap();
            b.composite(Endless {}, &[trips]).unwrap()
        });
    }

    #[test]
    fn a_huge_broadcast_and_a_huge_sum_are_not_computed() {
        is_left_alone(|b| {
            let one = b.scalar(DType::F32, 1.0).unwrap();
            let shape = [(1usize << 20).into(), (1usize << 15).into()];
            let ones = b.broadcast(one, &shape).unwrap();
            b.reduce(ReduceKind::Sum, ones, &[0, 1], false).unwrap()
        });
        // 2^40 terms, though neither operand nor result is large.
        is_left_alone(|b| {
            let shape = [1024, 1024];
            let zeros = Tensor::zeros(DType::I8, shape).unwrap();
            let zeros = b.constant(zeros);
            let window = Window {
                size: vec![1024; 2],
                strides: vec![1; 2],
                dilation: vec![1; 2],
                padding: vec![(512, 511); 2],
            };
            let kind = ReduceKind::Max;
            b.prim(Prim::ReduceWindow { kind, window }, &[zeros]).unwrap()
        });
    }

    composite! {
        /// A loop of so many iterations.
        pub struct Endless = "endless" {}
        example: Endless {}
    }

    impl Expand for Endless {
        fn expand(&self, b: &mut Builder, x: &[ValueId]) -> Result<Vec<ValueId>, IrError> {
            let [trips] = operands("endless", x)?;
            Ok(vec![endless_from(b, trips)?])
        }
    }

    fn endless(b: &mut Builder, trips: i64) -> Result<ValueId, IrError> {
        let trips = b.constant(Tensor::scalar(trips));
        endless_from(b, trips)
    }

    fn endless_from(b: &mut Builder, trips: ValueId) -> Result<ValueId, IrError> {
        let mut body = b.region("body");
        let i = body.input("i", TensorType::scalar(DType::I64));
        let state = body.input("state", TensorType::scalar(DType::I64));
        let again = body.constant(Tensor::from_bools([], [true])?);
        let next = body.add(i, state)?;
        let region = body.finish(&[again, next]);
        let start = b.constant(Tensor::from_bools([], [true])?);
        Ok(b.node(Prim::Loop { carried: 1 }, &[trips, start, trips], vec![region])?[0])
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
