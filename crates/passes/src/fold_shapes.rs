//! Sizes that are known need no computing.

use std::collections::{BTreeSet, HashMap, HashSet};

use anychip_ir::{Builder, Graph, IrError, Op, Prim, ValueId};
use anychip_tensor::{Atom, DType, Dim, Symbol, Tensor};

use crate::rebuild::apply_to_regions;
use crate::{Outcome, Site, Verdict, rebuild};

pass! {
    /// - `f(sizes) => constant` where every element follows from fixed dims
    /// - `f(sizes) => g(sizes)` where that is the same vector of dims, computed before
    /// - `f(shape of x, …) => [d₀, d₁, …]` computed straight from the dims by name, where that takes fewer nodes
    pub(crate) const FOLD_SHAPES = "fold-shapes", run;
}

/// How many nodes behind a size are looked at: longer computations are always worth replacing.
const LONGEST_CHAIN: usize = 64;

fn run(graph: &Graph) -> Result<Outcome, IrError> {
    // Vectors of sizes that are there already, by their elements.
    let mut there: HashMap<Vec<Dim>, ValueId> = HashMap::new();
    rebuild(graph, &mut |b, site| {
        if !site.node.regions.is_empty() {
            return apply_to_regions(b, site, run);
        }
        fold(b, site, &mut there)
    })
}

fn fold(
    b: &mut Builder,
    site: &Site<'_>,
    there: &mut HashMap<Vec<Dim>, ValueId>,
) -> Result<Verdict, IrError> {
    let (Op::Prim(prim), [output]) = (&site.node.op, &site.node.outputs[..]) else {
        return Ok(Verdict::Keep);
    };
    let ty = site.graph.ty(*output);
    if matches!(prim, Prim::Constant(_)) || ty.dtype.is_float() || ty.rank() > 1 {
        return Ok(Verdict::Keep);
    }
    let copy = b.prim(prim.clone(), site.inputs)?;
    let Some(dims) = b.known(copy).map(<[Dim]>::to_vec) else {
        return Ok(Verdict::Kept(vec![copy]));
    };
    let numbers: Option<Vec<i128>> = dims.iter().map(|d| d.constant().map(i128::from)).collect();
    if let Some(numbers) = numbers {
        let shape: Vec<usize> = if ty.rank() == 0 { Vec::new() } else { vec![numbers.len()] };
        let tensor = Tensor::from_integers(ty.dtype, shape, &numbers)?;
        return Ok(Verdict::Replace(vec![b.constant(tensor)]));
    }
    if ty.dtype != DType::I64 {
        return Ok(Verdict::Kept(vec![copy]));
    }
    if ty.rank() == 1
        && let Some(&same) = there.get(&dims)
    {
        return Ok(Verdict::Replace(vec![same]));
    }
    // Only where the chain ends: what is inside it becomes dead with it.
    let ends = site.uses.is_output(*output)
        || site.uses.users(*output).iter().any(|&user| !computes_sizes(site.graph, user));
    if ends && cost(&dims) < chain(site) {
        let value = if ty.rank() == 0 { b.dim_value(&dims[0]) } else { b.dims_value(&dims) };
        match value {
            Ok(value) => {
                if ty.rank() == 1 {
                    there.insert(dims, value);
                }
                return Ok(Verdict::Replace(vec![value]));
            }
            // A name that no value before this node has in its shape: the computation must stay.
            Err(IrError::UnboundSymbol(_)) => {}
            Err(error) => return Err(error),
        }
    }
    if ty.rank() == 1 {
        there.insert(dims, copy);
    }
    Ok(Verdict::Kept(vec![copy]))
}

/// Whether a node is itself a step of a computation on sizes: a small integer result.
fn computes_sizes(graph: &Graph, id: anychip_ir::NodeId) -> bool {
    let node = graph.node(id);
    node.regions.is_empty()
        && !matches!(node.op, Op::Prim(Prim::Iota))
        && node.outputs.iter().all(|&v| {
            let ty = graph.ty(v);
            !ty.dtype.is_float()
                && ty.rank() <= 1
                && ty.elements().constant().is_some_and(|n| n <= 128)
        })
}

/// Nodes behind a value that work on sizes alone, this one included; constants cost nothing.
fn chain(site: &Site<'_>) -> usize {
    let mut seen: HashSet<ValueId> = HashSet::new();
    let mut pending = vec![site.node.outputs[0]];
    let mut count = 0;
    while let Some(value) = pending.pop() {
        if count > LONGEST_CHAIN || !seen.insert(value) {
            continue;
        }
        let Some(node) = site.graph.producer(value) else { continue };
        match &node.op {
            Op::Prim(Prim::Constant(_)) => {}
            Op::Prim(Prim::ShapeOf) => count += 1,
            Op::Prim(_) | Op::Composite(_) => {
                count += 1;
                let sizes = node.inputs.iter().filter(|v| !site.graph.ty(**v).dtype.is_float());
                pending.extend(sizes);
            }
        }
    }
    count
}

/// The nodes that [`Builder::dims_value`] adds for `dims` once common ones are merged.
fn cost(dims: &[Dim]) -> usize {
    let mut symbols: BTreeSet<Symbol> = BTreeSet::new();
    let mut nodes = usize::from(dims.len() > 1);
    let mut distinct: BTreeSet<&Dim> = BTreeSet::new();
    for dim in dims.iter().filter(|d| d.constant().is_none()) {
        if distinct.insert(dim) {
            symbols.extend(dim.symbols());
            nodes += 1 + arithmetic(dim);
        }
    }
    nodes + 2 * symbols.len()
}

/// Additions, products and the like in a dim, once factors of 1 are gone.
fn arithmetic(dim: &Dim) -> usize {
    let Dim::Expr(polynomial) = dim else { return 0 };
    let mut nodes = 0;
    let mut terms = 0usize;
    for (coefficient, atoms) in polynomial.terms() {
        terms += 1;
        let factors = atoms.len() + usize::from(coefficient != 1);
        nodes += factors.saturating_sub(1);
        nodes += atoms
            .iter()
            .map(|atom| match atom {
                Atom::Sym(_) => 0,
                // `Builder::floor_div`: a quotient, a remainder and what corrects the one by the other.
                Atom::FloorDiv(a, b) => 9 + arithmetic(a) + arithmetic(b),
                Atom::Max(a, b) | Atom::Min(a, b) => 1 + arithmetic(a) + arithmetic(b),
            })
            .sum::<usize>();
    }
    nodes + terms.saturating_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node_count;
    use anychip_ir::TensorType;

    /// `reshape(x, concat(take(shape(x), [0]), [-1 resolved as 12]))`, as exporters flatten.
    fn flatten(batch: Dim) -> Graph {
        let mut b = Builder::new("flatten");
        let x = b.input("x", TensorType::new(DType::F32, [batch, Dim::Fixed(3), Dim::Fixed(4)]));
        let shape = b.prim(Prim::ShapeOf, &[x]).unwrap();
        let index = b.integers(&[0]);
        let n = b.prim(Prim::Take { axis: 0 }, &[shape, index]).unwrap();
        let twelve = b.integers(&[12]);
        let target = b.prim(Prim::Concat { axis: 0 }, &[n, twelve]).unwrap();
        let flat = b.prim(Prim::Reshape, &[x, target]).unwrap();
        b.finish(&[flat])
    }

    #[test]
    fn a_fixed_shape_folds_whole() {
        let folded = crate::optimize(&flatten(Dim::Fixed(2)), &mut |_| {}).unwrap();
        assert_eq!(node_count(&folded), 1);
        let reshape = folded.nodes().last().unwrap();
        assert_eq!(folded.constant_integers(reshape.inputs[1]), Some(vec![2, 12]));
    }

    #[test]
    fn a_named_shape_is_not_made_longer() {
        let g = flatten(Dim::sym("n"));
        let folded = crate::optimize(&g, &mut |_| {}).unwrap();
        assert!(node_count(&folded) <= node_count(&g));
        assert_eq!(folded.ty(folded.outputs()[0]).to_string(), "f32[n, 12]");
    }
}
