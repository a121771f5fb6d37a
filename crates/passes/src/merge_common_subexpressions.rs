//! What is computed twice is computed once.

use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

use anychip_ir::{Builder, Graph, IrError, Op, Prim, ValueId};
use anychip_tensor::Tensor;

use crate::random::draws;
use crate::rebuild::apply_to_regions;
use crate::{Outcome, Site, Verdict, rebuild};

pass! {
    /// `f(x), f(x) => y, y` where `y = f(x)`; constants with the same contents are one
    pub(crate) const MERGE_COMMON_SUBEXPRESSIONS = "merge-common-subexpressions", run;
}

/// Constants of more bytes are told apart by where their storage lies, not by their contents: an
/// exporter may repeat a scalar or a mask, and weights are read from the file only when they are needed.
const LARGEST_COMPARED: usize = 1 << 16;

/// Bytes of a constant that its hash is made of.
const HASHED: usize = 128;

fn run(graph: &Graph) -> Result<Outcome, IrError> {
    // Candidates by hash; the operations themselves decide.
    let mut table: HashMap<u64, Vec<usize>> = HashMap::new();
    let mut results: Vec<Vec<ValueId>> = Vec::new();
    rebuild(graph, &mut |b, site| {
        if !site.node.regions.is_empty() {
            return apply_to_regions(b, site, run);
        }
        let key = hash(site);
        let same = table.get(&key).into_iter().flatten().find(|&&i| same_node(b, site, &results[i]));
        if let Some(&i) = same
            && !draws(b, &site.node.op, site.inputs)?
        {
            return Ok(Verdict::Replace(results[i].clone()));
        }
        let new = b.copy(site.graph, site.node, site.inputs)?;
        table.entry(key).or_default().push(results.len());
        results.push(new.clone());
        Ok(Verdict::Kept(new))
    })
}

fn same_node(b: &Builder, site: &Site<'_>, results: &[ValueId]) -> bool {
    let Some(node) = results.first().and_then(|&v| b.graph().producer(v)) else { return false };
    if node.inputs != site.inputs {
        return false;
    }
    match (&node.op, &site.node.op) {
        (Op::Prim(Prim::Constant(old)), Op::Prim(Prim::Constant(new))) => {
            old.dtype() == new.dtype()
                && old.shape() == new.shape()
                && (old.storage_id() == new.storage_id()
                    || (compares_contents(old) && compares_contents(new) && old == new))
        }
        (old, new) => old == new,
    }
}

/// Small constants are compared by contents, unless these are still to be made.
fn compares_contents(tensor: &Tensor) -> bool {
    tensor.byte_len() <= LARGEST_COMPARED && !tensor.is_deferred()
}

fn hash(site: &Site<'_>) -> u64 {
    let mut hasher = DefaultHasher::new();
    site.node.op.name().hash(&mut hasher);
    site.inputs.hash(&mut hasher);
    if let Op::Prim(Prim::Constant(tensor)) = &site.node.op {
        tensor.shape().hash(&mut hasher);
        if compares_contents(tensor) {
            // Its head will do to find candidates: contents are compared anyway.
            tensor.bytes()[..tensor.bytes().len().min(HASHED)].hash(&mut hasher);
        } else {
            tensor.storage_id().hash(&mut hasher);
        }
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use anychip_ir::{Distribution, TensorType};
    use anychip_tensor::DType;

    #[test]
    fn equal_chains_and_constants_merge() {
        let mut b = Builder::new("g");
        let x = b.input("x", TensorType::new(DType::F32, [2usize]));
        let twice = |b: &mut Builder| {
            let two = b.constant(Tensor::scalar(2f32));
            let scaled = b.mul(x, two).unwrap();
            b.exp(scaled).unwrap()
        };
        let (left, right) = (twice(&mut b), twice(&mut b));
        let sum = b.add(left, right).unwrap();
        let outcome = run(&b.finish(&[sum])).unwrap();
        assert_eq!(outcome.changes, 3);
        let sum = &outcome.graph.nodes().last().unwrap().inputs;
        assert_eq!(sum[0], sum[1]);
    }

    #[test]
    fn fresh_random_numbers_stay_apart() {
        let mut b = Builder::new("g");
        let shape = b.integers(&[3]);
        let draw = |b: &mut Builder, seed| {
            let distribution = Distribution::Uniform { low: 0.0, high: 1.0 };
            b.prim(Prim::Random { distribution, dtype: DType::F32, seed }, &[shape]).unwrap()
        };
        let fresh = [draw(&mut b, None), draw(&mut b, None)];
        let seeded = [draw(&mut b, Some(7)), draw(&mut b, Some(7))];
        let g = b.finish(&[fresh[0], fresh[1], seeded[0], seeded[1]]);
        let merged = run(&g).unwrap().graph;
        assert_ne!(merged.outputs()[0], merged.outputs()[1]);
        assert_eq!(merged.outputs()[2], merged.outputs()[3]);
    }
}
