//! Layers fitted again after channels before them went: one after the other, each on what the layers before it now give.

use anychip_ir::Graph;
use anychip_quantize::{
    Matrix, Narrowed, PairedSums, Site, paired_sums, refitted, sites, with_layer,
};
use anychip_tensor::Tensor;

use super::layers::Wants;
use super::prune::BATCHES;
use super::walk::Walk;
use super::{Batch, runs};
use crate::Error;

/// The narrowed graph with the weights of every layer after the first that lost channels fitted to what it gave in the whole
/// network, and how many layers that are. Layers of several groups of channels, and those whose sums take more than
/// half of what may be held, stay as they are; without data all do.
pub(super) fn repaired(
    graph: &Graph,
    whole: &[Site],
    narrowed: &Narrowed,
    batches: &[Batch],
) -> Result<(Graph, usize), Error> {
    let mut smaller = narrowed.graph.clone();
    let some = &batches[..batches.len().min(BATCHES)];
    let first = narrowed.rows.iter().position(Option::is_some).unwrap_or(whole.len());
    let mut count = 0;
    if some.is_empty() {
        return Ok((smaller, 0));
    }
    for (its, rows) in whole.iter().zip(&narrowed.rows).skip(first + 1) {
        let own = sites(&smaller);
        let Some(layer) = own.iter().find(|site| site.name == its.name) else { continue };
        let wants = Wants::all_of(&smaller, layer);
        if wants.groups > 1 || wants.runs != 1 {
            continue;
        }
        let matrix = Matrix::of(&smaller, layer)?;
        let seen = seen(graph, its, &smaller, layer, some)?;
        let all: Vec<usize> = (0..matrix.rows).collect();
        let (weights, offset) = refitted(&matrix, &seen, rows.as_ref().unwrap_or(&all));
        smaller = with_layer(&smaller, layer, &weights, &offset)?;
        count += 1;
    }
    Ok((smaller, count))
}

fn seen(
    graph: &Graph,
    its: &Site,
    smaller: &Graph,
    layer: &Site,
    batches: &[Batch],
) -> Result<PairedSums, Error> {
    let section = paired_sums((graph, its), (smaller, layer))?;
    let mut seen = PairedSums::default();
    let add = |total: &mut Vec<f64>, tensor: &Tensor| {
        let more = tensor.to_f64();
        total.resize(more.len(), 0.0);
        total.iter_mut().zip(more).for_each(|(total, value)| *total += value);
    };
    Walk::new(graph, batches).run(&section, usize::MAX, |outputs| {
        let [gram, cross, inputs, of_layer, count] = outputs else { return Ok(()) };
        add(&mut seen.gram, gram);
        add(&mut seen.cross, cross);
        add(&mut seen.inputs, inputs);
        add(&mut seen.outputs, of_layer);
        seen.count += count.to_f64().first().copied().unwrap_or_default();
        Ok(())
    })?;
    if seen.gram.iter().any(|v| !v.is_finite()) {
        return Err(runs::not_finite(graph, its.input));
    }
    if seen.cross.iter().any(|v| !v.is_finite()) {
        return Err(runs::not_finite(graph, graph.node(its.node).outputs[0]));
    }
    Ok(seen)
}
