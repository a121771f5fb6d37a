//! The closed form of SCALE-Sim's folds, and its report of computing.

use anychip_chips::Dataflow;

use super::{Config, Layer, Topology};

/// A layer's row of the report.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// The layer.
    pub name: String,
    /// From the first demand to the last result.
    pub cycles: u64,
    /// Of those, waiting for memory.
    pub stalls: u64,
    /// Multiply-accumulates over what all cells could do, percent.
    pub utilization: f64,
    /// Cells that folds use, percent.
    pub mapping_efficiency: f64,
    /// What the peer calls compute utilization, percent.
    pub compute_utilization: f64,
}

impl Layer {
    /// Cycles of one fold: a tile moves in, rows stream, sums leave; with sums that stay, rows stream and sums leave.
    pub fn fold(&self, config: &Config) -> u64 {
        let time = self.spread(config.dataflow).time;
        let loads = match config.dataflow {
            Dataflow::OutputStationary => 0,
            Dataflow::WeightStationary | Dataflow::InputStationary => config.rows,
        };
        loads + config.rows + config.columns + time - 2
    }

    /// Folds along rows and along columns of cells.
    pub fn folds(&self, config: &Config) -> (u64, u64) {
        let spread = self.spread(config.dataflow);
        (spread.rows.div_ceil(config.rows), spread.columns.div_ceil(config.columns))
    }
}

/// A layer without stalls. The peer counts from cycle 0, so that its total is one less than the cycles there are.
pub fn closed_form(layer: &Layer, config: &Config) -> Row {
    let (down, across) = layer.folds(config);
    let cycles = down * across * layer.fold(config) - 1;
    row(layer, config, cycles, 0)
}

pub(super) fn row(layer: &Layer, config: &Config, cycles: u64, stalls: u64) -> Row {
    let spread = layer.spread(config.dataflow);
    let (down, across) = layer.folds(config);
    let cells = (config.rows * config.columns) as f64;
    // Over all folds the used rows and columns add up to the extents.
    let used = (spread.rows * spread.columns) as f64 / (down * across) as f64 / cells;
    // The peer's own count for this figure: where an operand stays, a load and a skew more than the fold takes.
    let fold = match config.dataflow {
        Dataflow::OutputStationary => layer.fold(config),
        Dataflow::WeightStationary | Dataflow::InputStationary => {
            layer.fold(config) + config.columns - 1
        }
    };
    Row {
        name: layer.name.clone(),
        cycles,
        stalls,
        utilization: 100.0 * layer.macs() as f64 / (cycles.max(1) as f64 * cells),
        mapping_efficiency: 100.0 * used,
        compute_utilization: 100.0 * used * spread.time as f64 / fold as f64,
    }
}

/// The report as the peer writes it, without its column of cycles with prefetch.
pub fn csv(rows: &[Row]) -> String {
    let mut text =
        "LayerID, Total Cycles, Stall Cycles, Overall Util %, Mapping Efficiency %, Compute Util %,\n".to_owned();
    for (i, row) in rows.iter().enumerate() {
        text += &format!(
            "{i}, {}, {}, {}, {}, {},\n",
            row.cycles,
            row.stalls,
            row.utilization,
            row.mapping_efficiency,
            row.compute_utilization
        );
    }
    text
}

/// All cycles of a topology in closed form.
pub fn total(topology: &Topology, config: &Config) -> u64 {
    topology.layers.iter().map(|layer| closed_form(layer, config).cycles).sum()
}
