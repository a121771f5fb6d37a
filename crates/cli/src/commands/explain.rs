//! `anychip explain`: what every pass changed, and where every node went.

use anychip::{CompileOptions, Engine};
use anyhow::Result;

use crate::args::Explain;
use crate::commands::{prepare, print};

pub(crate) fn execute(args: &Explain) -> Result<()> {
    let prepared = prepare(&args.model)?;
    let chip = anychip::local_chip(&args.on)?;
    let options = CompileOptions { precision: args.dtype, ..CompileOptions::default() };
    let engine = Engine::new(&prepared.graph, &chip, &options)?;
    let placed = engine.explain();
    if args.json {
        let passes: Vec<serde_json::Value> = prepared
            .reports
            .iter()
            .map(|r| {
                serde_json::json!({
                    "pass": r.pass, "round": r.round, "equation": r.equation, "changed": r.changes,
                    "nodes_before": r.nodes_before, "nodes_after": r.nodes_after,
                })
            })
            .collect();
        let value =
            serde_json::json!({"passes": passes, "target": engine.target(), "nodes": placed});
        return print(&format!("{value}\n"));
    }
    let mut text = format!("passes on {}\n", prepared.model.name());
    for report in &prepared.reports {
        if report.round > 1 && report.changes == 0 {
            continue;
        }
        if report.changes == 0 {
            text += &format!("  {:<32} unchanged\n", report.pass);
        } else {
            text += &format!(
                "  {:<32} {:>4} changed   {} -> {} nodes\n",
                report.pass, report.changes, report.nodes_before, report.nodes_after
            );
        }
        if args.equations {
            text += &format!("      {}\n", report.equation);
        }
    }
    text += &format!("\nnodes on `{}` by the target `{}`\n", args.on, engine.target());
    for line in placed {
        text += &format!("  {line}\n");
    }
    print(&text)
}
