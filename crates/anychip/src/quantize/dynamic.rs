//! Products on integers whose inputs get their grid at each run, so that no calibration data are needed.

use anychip_ir::Graph;
use anychip_quantize::{
    DynamicLayer, Kind, Matrix, Site, codes_tensor, rewrite_dynamic, round_to_nearest, row_scales,
};

use super::layers::each_of;
use super::weights::measure;
use super::{LayerReport, QuantizeReport, Samples, quantizable};
use crate::Error;

/// The largest integer of a weight.
const MOST: i32 = 127;

/// The graph with its products on 8-bit integers, grids of inputs found at run time; convolutions stay in floats. What it cost
/// is known where there are samples.
pub fn quantize_dynamic(
    graph: &Graph,
    samples: Option<&Samples>,
) -> Result<(Graph, QuantizeReport), Error> {
    let sites: Vec<Site> =
        quantizable(graph)?.into_iter().filter(|s| matches!(s.kind, Kind::Dot { .. })).collect();
    if sites.is_empty() {
        let reason = "the model has no product with constant f32 weights, only convolutions, whose inputs want a grid that is known before\n  help: --quantize int8 --calibrate DATA takes those";
        return Err(Error::NothingToQuantize(reason.into()));
    }
    let batches = samples.map(|s| s.batches(graph)).transpose()?.unwrap_or_default();
    let made = each_of(&sites, vec![(); sites.len()], &|site, ()| -> Result<DynamicLayer, Error> {
        let matrix = Matrix::of(graph, site)?;
        let scales = row_scales(&matrix, MOST, true, None, false);
        let codes = round_to_nearest(&matrix, &scales, MOST);
        let codes =
            codes_tensor(graph, site, &matrix, &codes).map_err(anychip_ir::IrError::from)?;
        Ok(DynamicLayer { codes, scales })
    });
    let mut report = QuantizeReport::default();
    let mut layers = Vec::new();
    for (site, made) in sites.iter().zip(made) {
        layers.push((site, made?));
        report.layers.push(LayerReport {
            name: site.name.clone(),
            op: graph.node(site.node).op.name(),
            signal_to_noise: None,
            effect: None,
            quantized: true,
        });
    }
    let result = rewrite_dynamic(graph, &layers)?;
    measure(graph, &result, &batches, &mut report)?;
    Ok((result, report))
}
