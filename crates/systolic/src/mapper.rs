//! The mapper: of the ways to put a product on a machine, the one that takes the least time, or the least energy.

use anychip_chips::Precision;

use crate::energy;
use crate::machine::Machine;
use crate::schedule::{Cycles, schedule};
use crate::tiling::{Mapping, Order, Product, Split, Tiling, Traffic};

/// What the mapper looks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Objective {
    /// The fewest cycles; of equals the least energy.
    #[default]
    Time,
    /// The least energy; of equals the fewest cycles.
    Energy,
}

/// A mapping and what it costs.
#[derive(Debug, Clone, PartialEq)]
pub struct Mapped {
    /// How.
    pub mapping: Mapping,
    /// The time.
    pub cycles: Cycles,
    /// Bytes across each level.
    pub traffic: Traffic,
    /// Joules, where the machine's process is known.
    pub joules: Option<f64>,
}

/// The best mapping of a product in a format that the machine has; of equals the first in the order of the search.
/// `None` where the arrays do not multiply the format.
pub fn map(
    machine: &Machine,
    product: Product,
    format: Precision,
    objective: Objective,
) -> Option<Mapped> {
    machine.formats.get(&format)?;
    candidates(machine, &product)
        .into_iter()
        .filter_map(|mapping| cost(machine, product, format, mapping))
        .min_by(|a, b| {
            let joules = |m: &Mapped| m.joules.unwrap_or(m.traffic.memory_read);
            let time = a.cycles.cycles.cmp(&b.cycles.cycles);
            let energy = joules(a).total_cmp(&joules(b));
            match objective {
                Objective::Time => time.then(energy),
                Objective::Energy => energy.then(time),
            }
        })
}

/// What one mapping costs.
pub fn cost(
    machine: &Machine,
    product: Product,
    format: Precision,
    mapping: Mapping,
) -> Option<Mapped> {
    let rate = *machine.formats.get(&format)?;
    let tiling = Tiling::new(machine, product, mapping, rate);
    let cycles = schedule(tiling.pipe(machine), &tiling.folds(machine));
    let traffic = tiling.traffic();
    let joules = machine
        .process_nm
        .and_then(energy::process)
        .map(|process| process.products(product.macs() as f64, format) + process.traffic(&traffic));
    Some(Mapped { mapping, cycles, traffic, joules })
}

/// The mappings worth looking at: what arrays divide, the order of loops, some sizes of what streams, and whether groups
/// share a tile.
fn candidates(machine: &Machine, product: &Product) -> Vec<Mapping> {
    let splits: &[Split] = match (machine.arrays, product.groups) {
        (1, _) => &[Split::Columns],
        (_, 1) => &[Split::Columns, Split::Rows],
        _ => &[Split::Columns, Split::Rows, Split::Groups],
    };
    let streaming = match machine.dataflow {
        anychip_chips::Dataflow::InputStationary => product.n,
        anychip_chips::Dataflow::WeightStationary | anychip_chips::Dataflow::OutputStationary => {
            product.m
        }
    };
    let most = machine.accumulator_rows.unwrap_or(u64::MAX).min(streaming).max(1);
    let mut tiles = vec![most];
    if machine.dataflow != anychip_chips::Dataflow::OutputStationary {
        tiles.extend([most / 4, most / 16].into_iter().filter(|&tile| tile >= machine.rows));
    }
    // Blocks along the diagonal of a tile: for convolutions of many small groups, with weights that stay.
    let fits = (machine.rows / product.k.max(1)).min(machine.columns / product.n.max(1));
    let packs: &[u64] = if machine.dataflow == anychip_chips::Dataflow::WeightStationary
        && product.groups > 1
        && fits > 1
    {
        &[fits.min(product.groups)]
    } else {
        &[1]
    };
    let mut all = Vec::new();
    for &split in splits {
        for order in [Order::StationaryOutside, Order::MovingOutside] {
            for &moving_tile in &tiles {
                for &pack in packs {
                    all.push(Mapping { split, order, moving_tile, pack });
                }
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Bandwidth;
    use anychip_chips::Dataflow;

    #[test]
    fn nothing_tried_by_hand_is_better() {
        let mut machine = Machine::ideal(16, 16, Dataflow::WeightStationary);
        machine.arrays = 4;
        machine.memory = Some(Bandwidth { bytes: 3, cycles: 1 });
        machine.activation_bytes = Some(20_000);
        machine.weight_bytes = 2_000;
        let mut product = Product::on_chip(1, 700, 100, 90);
        product.lhs.in_memory = true;
        product.rhs.in_memory = true;
        let best = map(&machine, product, Precision::Int8, Objective::Time).unwrap();
        for split in [Split::Columns, Split::Rows, Split::Groups] {
            for order in [Order::StationaryOutside, Order::MovingOutside] {
                let mapping = Mapping { split, order, moving_tile: 700, pack: 1 };
                let other = cost(&machine, product, Precision::Int8, mapping).unwrap();
                assert!(best.cycles.cycles <= other.cycles.cycles, "{mapping:?}");
            }
        }
    }

    #[test]
    fn groups_share_a_tile() {
        // A depthwise 3 × 3 convolution: fourteen channels fit along the diagonal of 128 rows.
        let machine = Machine::ideal(128, 128, Dataflow::WeightStationary);
        let product = Product::on_chip(64, 3136, 1, 9);
        let best = map(&machine, product, Precision::Int8, Objective::Time).unwrap();
        assert_eq!(best.mapping.pack, 14);
        let alone = Mapping { pack: 1, ..best.mapping };
        let alone = cost(&machine, product, Precision::Int8, alone).unwrap();
        assert!(best.cycles.cycles * 10 < alone.cycles.cycles);
    }
}
