//! `anychip doctor`: what is here and what each missing thing would give.

use anyhow::Result;

use crate::args::Doctor;
use crate::commands::print;

pub(crate) fn execute(args: &Doctor) -> Result<()> {
    let findings = anychip::doctor();
    if args.json {
        let rows: Vec<serde_json::Value> = findings
            .iter()
            .map(|f| serde_json::json!({"what": f.what, "here": f.here, "detail": f.detail, "gives": f.gives}))
            .collect();
        return print(&format!("{}\n", serde_json::Value::Array(rows)));
    }
    let mut text = String::new();
    for finding in &findings {
        let mark = if finding.here { "✓" } else { "·" };
        text += &format!("{mark} {:<22} {}\n", finding.what, finding.detail);
        if !finding.here {
            text += &format!("  {:<22} would give: {}\n", "", finding.gives);
        }
    }
    print(&text)
}
