//! `anychip inspect zoo:`: the built-in architectures with what is published about them.

use anychip::Published;
use anyhow::Result;

use crate::commands::inspect::grouped;
use crate::commands::print;

/// Lists every name.
pub(crate) fn list(json: bool) -> Result<()> {
    let mut text = String::new();
    if json {
        for row in anychip::architectures() {
            let value = serde_json::json!({
                "name": row.name, "aliases": row.aliases, "parameters": number(row.parameters),
                "macs": number(row.macs), "macs_at": row.macs_at, "source": row.source,
            });
            text += &format!("{value}\n");
        }
        return print(&text);
    }
    text += &format!("{:<24} {:>20} {:>20}  also\n", "zoo:", "parameters", "MACs");
    for row in anychip::architectures() {
        let at =
            if row.macs_at.is_empty() { String::new() } else { format!(" at {}", row.macs_at) };
        let names = row.aliases.join(", ");
        text += &format!(
            "{:<24} {:>20} {:>20}  {names}\n",
            row.name,
            shown(row.parameters),
            format!("{}{at}", shown(row.macs)),
        );
    }
    text += "\nparameters and MACs as published; blank where nobody says\nsettings follow after a comma, as in zoo:llama-2-7b,phase=decode,context=2048:\n";
    for (key, meaning) in anychip::ARCHITECTURE_SETTINGS {
        text += &format!("  {key:<10} {meaning}\n");
    }
    print(&text)
}

fn number(count: Published) -> Option<f64> {
    match count {
        Published::Exact(n) => Some(n as f64),
        Published::Rounded(value) => Some(value),
        Published::Unknown => None,
    }
}

fn shown(count: Published) -> String {
    match count {
        Published::Exact(n) => grouped(n as f64),
        Published::Rounded(value) if value >= 1e9 => format!("about {:.2} G", value / 1e9),
        Published::Rounded(value) => format!("about {:.1} M", value / 1e6),
        Published::Unknown => String::new(),
    }
}
