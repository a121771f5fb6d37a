//! Products on integers whose inputs get a grid at each run: no data are needed before.

use std::collections::BTreeMap;

use anychip_ir::{Builder, DotDims, Graph, IrError, NodeId, Prim, ValueId};
use anychip_ops::dynamic_range;
use anychip_passes::{Verdict, rebuild, remove_dead_code};
use anychip_tensor::{DType, Tensor};

use crate::{Kind, QuantizeError, Site};

/// A layer's integers.
#[derive(Debug, Clone)]
pub struct DynamicLayer {
    /// `i8`, `[k, n]`.
    pub codes: Tensor,
    /// A scale for each output channel.
    pub scales: Vec<f32>,
}

/// `graph` with products on integers: inputs go to `u8` with the range that they have, 0 included, as the standard's
/// `DynamicQuantizeLinear` says; sums are of 32 bits, and their scale is the input's times the channel's.
pub fn rewrite_dynamic(
    graph: &Graph,
    layers: &[(&Site, DynamicLayer)],
) -> Result<Graph, QuantizeError> {
    let by_node: BTreeMap<NodeId, &(&Site, DynamicLayer)> =
        layers.iter().map(|entry| (entry.0.node, entry)).collect();
    let mut known: BTreeMap<ValueId, [ValueId; 3]> = BTreeMap::new();
    let outcome = rebuild(graph, &mut |b, site| {
        let Some((own, layer)) = by_node.get(&site.id) else { return Ok(Verdict::Keep) };
        if !std::ptr::eq(site.graph, graph) || !matches!(own.kind, Kind::Dot { .. }) {
            return Ok(Verdict::Keep);
        }
        let x = site.inputs[0];
        let grid = match known.get(&x) {
            Some(&grid) => grid,
            None => dynamic_range(b, x)?,
        };
        known.insert(x, grid);
        Ok(Verdict::Replace(vec![product(b, grid, layer)?]))
    })?;
    Ok(remove_dead_code(&outcome.graph)?)
}

fn product(
    b: &mut Builder,
    [x, scale, point]: [ValueId; 3],
    layer: &DynamicLayer,
) -> Result<ValueId, IrError> {
    let weight = b.constant(layer.codes.clone());
    let (wide, zero) = (b.cast(x, DType::I32)?, b.cast(point, DType::I32)?);
    let centered = b.sub(wide, zero)?;
    let dims =
        DotDims { lhs_contract: vec![b.rank(x) - 1], rhs_contract: vec![0], ..DotDims::default() };
    let sums = b.prim(Prim::DotGeneral(dims, DType::I32), &[centered, weight])?;
    let sums = b.cast(sums, DType::F32)?;
    let scales = b.constant(Tensor::from_vec([layer.scales.len()], layer.scales.clone())?);
    let scales = b.mul(scales, scale)?;
    b.mul(sums, scales)
}

#[cfg(test)]
mod tests {
    use super::*;
    use anychip_ir::{TensorType, evaluate};

    #[test]
    fn is_near_the_float_product_whatever_the_range() {
        let mut b = Builder::new("product");
        let x = b.input("x", TensorType::new(DType::F32, [3usize, 8]));
        let data: Vec<f32> = (0..32).map(|i| ((i * 7) % 13) as f32 / 6.0 - 1.0).collect();
        let w = b.constant(Tensor::from_vec([8, 4], data.clone()).unwrap());
        let y = b.matmul(x, w, DType::F32).unwrap();
        let graph = b.finish(&[y]);
        let sites = crate::sites(&graph);
        let matrix = crate::Matrix::of(&graph, &sites[0]).unwrap();
        let scales = crate::row_scales(&matrix, 127, false, None, false);
        let codes = crate::round_to_nearest(&matrix, &scales, 127);
        let codes = crate::codes_tensor(&graph, &sites[0], &matrix, &codes).unwrap();
        let layer = DynamicLayer { codes, scales };
        let rewritten = rewrite_dynamic(&graph, &[(&sites[0], layer)]).unwrap();
        for size in [0.0f32, 1e-3, 1.0, 1e3] {
            let input: Vec<f32> = (0..24).map(|i| size * (((i * 5) % 11) as f32 - 3.0)).collect();
            let input = Tensor::from_vec([3, 8], input).unwrap();
            let expected = evaluate(&graph, std::slice::from_ref(&input)).unwrap()[0].to_f64();
            let found = evaluate(&rewritten, &[input]).unwrap()[0].to_f64();
            for (e, f) in expected.iter().zip(found) {
                assert!((e - f).abs() <= 0.2 * f64::from(size), "{size}: {e} {f}");
            }
        }
    }
}
