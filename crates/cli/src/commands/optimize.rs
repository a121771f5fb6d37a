//! `anychip optimize`: the passes alone, standard ONNX out.

use anychip::{ExportOptions, ImportOptions, Model};
use anyhow::Result;

use crate::args::Optimize;
use crate::commands::print;

pub(crate) fn execute(args: &Optimize) -> Result<()> {
    let options =
        ImportOptions { dims: args.dims.iter().cloned().collect(), ..ImportOptions::default() };
    let model = Model::load_with(&args.model, &options)?;
    let (graph, reports) = model.optimized()?;
    anychip::export_to(&graph, &args.output, &ExportOptions::default())?;
    let mut changed: Vec<&str> = reports.iter().filter(|r| r.changes > 0).map(|r| r.pass).collect();
    changed.sort_unstable();
    changed.dedup();
    print(&format!(
        "{}: {} nodes became {}, {} passes changed something (see `anychip explain`)\nwrote {}\n",
        model.name(),
        anychip::node_count(model.graph()),
        anychip::node_count(&graph),
        changed.len(),
        args.output.display()
    ))
}
