//! `anychip optimize`: the passes alone, standard ONNX out.

use anychip::{ExportOptions, ImportOptions, Model};
use anyhow::Result;

use crate::args::Optimize;
use crate::commands::print;

pub(crate) fn execute(args: &Optimize) -> Result<()> {
    let options = ImportOptions { dims: args.dims.iter().cloned().collect(), ..ImportOptions::default() };
    let model = Model::load_with(&args.model, &options)?;
    let (graph, reports) = model.optimized()?;
    anychip::export_to(&graph, &args.output, &ExportOptions::default())?;
    let changed = reports.iter().filter(|report| report.changed > 0).count();
    print(&format!(
        "{}: {} nodes became {}, {changed} passes changed something (see `anychip explain`)\nwrote {}\n",
        model.name(),
        model.graph().nodes().len(),
        graph.nodes().len(),
        args.output.display()
    ))
}
