//! Where the time of a run goes, a layer a row.

use anychip_record::Record;
use anychip_units::format::{quantity, significant};
use anychip_units::{FlopsPerSecond, Seconds};

use crate::grid::{Column, Grid, elide, width};

/// Layers in the order they run, each with its share of their time and the rates it reaches; empty when the record
/// has none.
pub fn layers_table(record: &Record, width_limit: usize) -> String {
    let layers = &record.layers;
    if layers.is_empty() {
        return String::new();
    }
    let total: f64 = layers.iter().map(|layer| layer.seconds).sum();
    let cells = |cell: &dyn Fn(&anychip_record::Layer) -> String| -> Vec<String> {
        layers.iter().map(cell).collect()
    };
    let times = cells(&|l| quantity::<Seconds>(l.seconds));
    let shares = cells(&|l| format!("{} %", significant(100.0 * l.seconds / total.max(1e-12), 3)));
    let rates = cells(&|l| {
        if l.operations > 0.0 {
            quantity::<FlopsPerSecond>(l.operations / l.seconds)
        } else {
            String::new()
        }
    });
    let bandwidths = cells(&|l| significant(l.bytes / l.seconds / 1e9, 3));
    let widest = |title: &str, cells: &[String]| {
        cells.iter().map(|c| width(c)).max().unwrap_or(0).max(width(title)) + 2
    };
    let numbers = widest("time", &times)
        + widest("share", &shares)
        + widest("operations", &rates)
        + widest("GB/s", &bandwidths);
    // Names and kernels share what the numbers leave.
    let left = width_limit.saturating_sub(numbers + 2).max(24);
    let longest = layers.iter().map(|l| width(&l.name)).max().unwrap_or(0).max(5);
    let name = longest.min(left / 2);
    let grid = Grid::new(vec![
        Column::words("layer", cells(&|l| elide(&l.name, name))),
        Column::words("kernel", cells(&|l| elide(&l.kernel, left - name))),
        Column::numbers("time", times),
        Column::numbers("share", shares),
        Column::numbers("operations", rates),
        Column::numbers("GB/s", bandwidths),
    ]);
    let wishes = ["time", "layer", "kernel", "share", "operations", "GB/s"].map(|title| (title, 0));
    format!("\n{}", grid.draw(&wishes, width_limit.max(60)).text)
}
