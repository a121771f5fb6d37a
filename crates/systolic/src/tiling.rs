//! How a product is cut into folds: tiles, the order of loops, which array takes what, and what memory brings when.

use anychip_chips::Dataflow;

use crate::machine::{Machine, Rate};
use crate::schedule::{Fold, Folds, Pipe};

/// Bytes of a sum in an accumulator.
const SUM_BYTES: f64 = 4.0;

/// `groups` products of `m × k` by `k × n`; a convolution has its places as `m`, its filters as `n`, its window as `k`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Product {
    /// Independent products.
    pub groups: u64,
    /// Rows of the left operand: places of a result.
    pub m: u64,
    /// Columns of the right operand: filters.
    pub n: u64,
    /// What is summed over.
    pub k: u64,
    /// The left operand (activations), all groups together.
    pub lhs: Operand,
    /// The right operand (weights, as a rule).
    pub rhs: Operand,
    /// The result.
    pub out: Operand,
}

/// An operand or result as memory sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Operand {
    /// Bytes as they are stored: a convolution's image, not its windows.
    pub bytes: u64,
    /// Bytes of one element.
    pub element: u64,
    /// Whether they are in main memory; else they are on the chip already, and stay.
    pub in_memory: bool,
}

impl Product {
    /// Multiply-accumulates.
    pub fn macs(&self) -> u64 {
        self.groups * self.m * self.n * self.k
    }

    /// With nothing to fetch and nowhere to write.
    pub fn on_chip(groups: u64, m: u64, n: u64, k: u64) -> Product {
        let operand = |elements: u64, element: u64| Operand {
            bytes: groups * elements * element,
            element,
            in_memory: false,
        };
        Product {
            groups,
            m,
            n,
            k,
            lhs: operand(m * k, 1),
            rhs: operand(k * n, 1),
            out: operand(m * n, 4),
        }
    }

    /// The same with the operands' roles exchanged: the transposed product.
    fn transposed(self) -> Product {
        Product { m: self.n, n: self.m, lhs: self.rhs, rhs: self.lhs, ..self }
    }
}

/// What several arrays divide among them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Split {
    /// Each has tiles of its own; what streams is broadcast.
    Columns,
    /// All have the same tile; each streams a part of the rows.
    Rows,
    /// Each has a product of its own.
    Groups,
}

/// Which loop is outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Order {
    /// All that streams passes by a stationary tile before the next comes.
    StationaryOutside,
    /// A part of what streams meets all stationary tiles before the next part comes.
    MovingOutside,
}

/// How a product is put on a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mapping {
    /// What arrays divide.
    pub split: Split,
    /// The order of loops; sums are always finished inside.
    pub order: Order,
    /// The most rows of one array's fold that stream before sums must leave.
    pub moving_tile: u64,
    /// Groups that share a stationary tile, block by block along its diagonal.
    pub pack: u64,
}

/// One fold with its place: what the stepped simulator needs to compute values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tile {
    /// The group, counted after packing.
    pub group: u64,
    /// The first row of what streams, and how many.
    pub moving: (u64, u64),
    /// The first column of the stationary operand, and how many.
    pub fixed: (u64, u64),
    /// The first summed index, and how many.
    pub depth: (u64, u64),
    /// Bytes for memory to bring for the stationary tile.
    pub fixed_bytes: u64,
    /// Bytes for memory to bring for what streams.
    pub moving_bytes: u64,
    /// Bytes of finished results for memory to take.
    pub written_bytes: u64,
    /// Cycles in which rows enter.
    pub stream: u64,
}

/// A product on a machine in one way: all that schedule and counts follow from.
#[derive(Debug, Clone, PartialEq)]
#[allow(clippy::struct_excessive_bools, reason = "each says whether one operand stays or moves")]
pub struct Tiling {
    /// The product with roles as the dataflow gives them: `rhs` stays in the cells, `lhs` streams (with sums that stay, both
    /// stream), and groups packed.
    oriented: Product,
    keeps_sums: bool,
    mapping: Mapping,
    rate: Rate,
    /// Extents of a tile, all arrays together.
    moving_tile: u64,
    fixed_tile: u64,
    depth_tile: u64,
    /// Arrays that divide the rows of one tile, and the groups.
    row_arrays: u64,
    group_arrays: u64,
    moving_stays: bool,
    moving_part_stays: bool,
    fixed_stays: bool,
    fixed_part_stays: bool,
}

/// One loop: its length in tiles, a full tile, and the rest that the last one is.
#[derive(Clone, Copy)]
struct Steps {
    total: u64,
    tile: u64,
}

impl Steps {
    fn count(self) -> u64 {
        self.total.div_ceil(self.tile)
    }

    fn at(self, i: u64) -> (u64, u64) {
        let start = i * self.tile;
        (start, self.tile.min(self.total - start))
    }

    /// Kinds of steps in order, each with a step of its kind and how many there are: the first, those between, the last.
    fn kinds(self) -> impl Iterator<Item = (u64, u64)> {
        let count = self.count();
        [(0, 1), (1, count.saturating_sub(2)), (count.saturating_sub(1), u64::from(count > 1))]
            .into_iter()
            .filter(|(_, times)| *times > 0)
    }
}

impl Tiling {
    /// The tiling of a product by a mapping. `rate` is that of the product's format.
    pub fn new(machine: &Machine, product: Product, mapping: Mapping, rate: Rate) -> Tiling {
        let keeps_sums = machine.dataflow == Dataflow::OutputStationary;
        let mut oriented = match machine.dataflow {
            Dataflow::InputStationary => product.transposed(),
            Dataflow::WeightStationary | Dataflow::OutputStationary => product,
        };
        if mapping.pack > 1 {
            oriented.groups = oriented.groups.div_ceil(mapping.pack);
            oriented.k *= mapping.pack;
            oriented.n *= mapping.pack;
        }
        let arrays = |split| if mapping.split == split { machine.arrays } else { 1 };
        let row_arrays = arrays(Split::Rows);
        let group_arrays = arrays(Split::Groups);
        let per_array = if keeps_sums { machine.rows } else { mapping.moving_tile.max(1) };
        let fixed_tile = machine.columns * arrays(Split::Columns);
        let depth_tile = if keeps_sums { oriented.k } else { machine.rows };
        let moving_tile = (per_array * row_arrays).min(oriented.m.max(1));
        let groups = oriented.groups.max(1);
        let room = machine.activation_bytes.map_or(u64::MAX, |bytes| bytes / 2);
        let fits = |operand: Operand, part: u64, whole: u64, role_is_weights: bool| {
            let bytes = (operand.bytes / groups) as u128 * part as u128 / whole.max(1) as u128;
            let limit = if role_is_weights { machine.weight_bytes } else { room };
            bytes <= u128::from(limit)
        };
        let input_stays = machine.dataflow == Dataflow::InputStationary;
        let (m, n) = (oriented.m, oriented.n);
        Tiling {
            moving_stays: fits(oriented.lhs, m, m, input_stays),
            moving_part_stays: fits(oriented.lhs, moving_tile, m, input_stays),
            fixed_stays: fits(oriented.rhs, n, n, !input_stays),
            fixed_part_stays: fits(oriented.rhs, fixed_tile.min(n), n, !input_stays),
            oriented,
            keeps_sums,
            mapping,
            rate,
            moving_tile,
            fixed_tile,
            depth_tile: depth_tile.max(1),
            row_arrays,
            group_arrays,
        }
    }

    /// The timing parameters of the machine's arrays.
    pub fn pipe(&self, machine: &Machine) -> Pipe {
        Pipe {
            rows: machine.rows,
            columns: machine.columns,
            keeps_sums: self.keeps_sums,
            overlaps: machine.overlaps_loads,
            ahead: machine.tiles_ahead,
            latency: machine.memory_latency,
        }
    }

    fn group_steps(&self) -> u64 {
        self.oriented.groups.div_ceil(self.group_arrays)
    }

    fn moving_steps(&self) -> Steps {
        Steps { total: self.oriented.m, tile: self.moving_tile }
    }

    fn fixed_steps(&self) -> Steps {
        Steps { total: self.oriented.n, tile: self.fixed_tile }
    }

    fn depth_steps(&self) -> Steps {
        Steps { total: self.oriented.k, tile: self.depth_tile }
    }

    /// The tile at a place of the three loops.
    fn tile(&self, group: u64, moving: u64, fixed: u64, depth: u64) -> Tile {
        let Product { m, n, k, groups, lhs, rhs, .. } = self.oriented;
        let (moving_range, fixed_range) =
            (self.moving_steps().at(moving), self.fixed_steps().at(fixed));
        let depth_range = self.depth_steps().at(depth);
        let part = |operand: Operand, extent: u64, of: u64| {
            let share =
                u128::from(extent) * u128::from(depth_range.1) * u128::from(self.group_arrays);
            let whole = u128::from(of) * u128::from(k) * u128::from(groups);
            (u128::from(operand.bytes) * share).div_ceil(whole.max(1)) as u64
        };
        let stationary_outside = self.mapping.order == Order::StationaryOutside;
        // Which parts were brought before and are still here.
        let moving_here = fixed > 0
            && if stationary_outside { self.moving_stays } else { self.moving_part_stays };
        let fixed_here =
            moving > 0 && if stationary_outside { self.fixed_part_stays } else { self.fixed_stays };
        let last = depth + 1 == self.depth_steps().count();
        let rows = moving_range.1.div_ceil(self.row_arrays);
        Tile {
            group,
            moving: moving_range,
            fixed: fixed_range,
            depth: depth_range,
            fixed_bytes: if rhs.in_memory && !fixed_here { part(rhs, fixed_range.1, n) } else { 0 },
            moving_bytes: if lhs.in_memory && !moving_here {
                part(lhs, moving_range.1, m)
            } else {
                0
            },
            written_bytes: if last && self.oriented.out.in_memory {
                moving_range.1 * fixed_range.1 * self.oriented.out.element * self.group_arrays
            } else {
                0
            },
            stream: self.rate.cycles_for(if self.keeps_sums { depth_range.1 } else { rows }),
        }
    }

    fn fold(&self, machine: &Machine, tile: Tile) -> Fold {
        let (stationary, moving) = if self.keeps_sums {
            // Both stream, and both give their buffers back when they have.
            (0, machine.transfer(tile.fixed_bytes) + machine.transfer(tile.moving_bytes))
        } else {
            (machine.transfer(tile.fixed_bytes), machine.transfer(tile.moving_bytes))
        };
        Fold {
            stationary,
            moving,
            stream: tile.stream,
            write: machine.transfer(tile.written_bytes),
        }
    }

    /// All folds, in runs of like ones.
    pub fn folds(&self, machine: &Machine) -> Folds {
        let mut folds = Folds::new();
        let Product { m, n, k, groups, .. } = self.oriented;
        if m == 0 || n == 0 || k == 0 || groups == 0 {
            return folds;
        }
        let mut one_group = Vec::new();
        self.panels(|panel, times| one_group.push((panel.to_vec(), times)), machine);
        let groups = self.group_steps();
        if one_group.len() == 1 {
            folds.push(&one_group[0].0, one_group[0].1 * groups);
            return folds;
        }
        // A group is a panel of its own when it is short, so that many groups are one run.
        if groups > 1 {
            let long: Vec<(Fold, u64)> = one_group
                .iter()
                .flat_map(|(panel, times)| (0..*times).flat_map(move |_| panel.iter().copied()))
                .collect();
            folds.push(&long, groups);
            return folds;
        }
        for (panel, times) in &one_group {
            folds.push(panel, *times);
        }
        folds
    }

    /// The panels of one group: for each pair of outer steps, the folds along the summed index.
    fn panels(&self, mut push: impl FnMut(&[(Fold, u64)], u64), machine: &Machine) {
        let (outer, inner) = match self.mapping.order {
            Order::StationaryOutside => (self.fixed_steps(), self.moving_steps()),
            Order::MovingOutside => (self.moving_steps(), self.fixed_steps()),
        };
        for (o, outer_times) in outer.kinds() {
            let row: Vec<(Vec<(Fold, u64)>, u64)> = inner
                .kinds()
                .map(|(i, times)| {
                    let (fixed, moving) = match self.mapping.order {
                        Order::StationaryOutside => (o, i),
                        Order::MovingOutside => (i, o),
                    };
                    let panel = self
                        .depth_steps()
                        .kinds()
                        .map(|(d, count)| {
                            (self.fold(machine, self.tile(0, moving, fixed, d)), count)
                        })
                        .collect();
                    (panel, times)
                })
                .collect();
            if let [(panel, times)] = &row[..] {
                push(panel, times * outer_times);
                continue;
            }
            for _ in 0..outer_times {
                for (panel, times) in &row {
                    push(panel, *times);
                }
            }
        }
    }

    /// Every tile in the order it runs.
    pub fn tiles(&self) -> Vec<Tile> {
        let mut tiles = Vec::new();
        let (moving, fixed, depth) =
            (self.moving_steps().count(), self.fixed_steps().count(), self.depth_steps().count());
        for group in 0..self.group_steps() {
            let (outer, inner) = match self.mapping.order {
                Order::StationaryOutside => (fixed, moving),
                Order::MovingOutside => (moving, fixed),
            };
            for o in 0..outer {
                for i in 0..inner {
                    for d in 0..depth {
                        let (f, m) = match self.mapping.order {
                            Order::StationaryOutside => (o, i),
                            Order::MovingOutside => (i, o),
                        };
                        tiles.push(self.tile(group, m, f, d));
                    }
                }
            }
        }
        tiles
    }

    /// Bytes that cross each level, all folds together.
    pub fn traffic(&self) -> Traffic {
        let Product { m, n, k, groups, .. } = self.oriented;
        let (moving, fixed) = (self.moving_steps().count(), self.fixed_steps().count());
        let (lhs, rhs) = (self.oriented.lhs, self.oriented.rhs);
        let stationary_outside = self.mapping.order == Order::StationaryOutside;
        let moving_kept =
            if stationary_outside { self.moving_stays } else { self.moving_part_stays };
        let fixed_kept = if stationary_outside { self.fixed_part_stays } else { self.fixed_stays };
        let times = |kept: bool, others: u64| if kept { 1 } else { others };
        let read = |operand: Operand, times: u64| {
            if operand.in_memory { operand.bytes * times } else { 0 }
        };
        let lhs_read = read(lhs, times(moving_kept, fixed));
        let rhs_read = read(rhs, times(fixed_kept, moving));
        let written = if self.oriented.out.in_memory { self.oriented.out.bytes } else { 0 };
        // A window's element enters the array once for each tile beside it, a weight once for each part that streams.
        let streamed = (groups * m * k * fixed * lhs.element) as f64;
        let loaded = (groups * k * n * moving * rhs.element) as f64;
        let sums = (groups * m * n) as f64 * SUM_BYTES;
        // Each later part of a sum is added to what is there: read and written.
        let parts = if self.keeps_sums { 1 } else { 2 * self.depth_steps().count() - 1 };
        Traffic {
            memory_read: (lhs_read + rhs_read) as f64,
            memory_written: written as f64,
            buffer_read: streamed + loaded,
            buffer_written: (lhs_read + rhs_read) as f64 + self.oriented.out.bytes as f64,
            accumulators: sums * parts as f64,
        }
    }
}

/// Bytes across each level of memory.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Traffic {
    /// From main memory.
    pub memory_read: f64,
    /// To main memory.
    pub memory_written: f64,
    /// From on-chip buffers into the array.
    pub buffer_read: f64,
    /// Into on-chip buffers.
    pub buffer_written: f64,
    /// To and from accumulators.
    pub accumulators: f64,
}

impl Traffic {
    /// Every figure so many times.
    #[must_use]
    pub fn times(self, factor: f64) -> Traffic {
        Traffic {
            memory_read: self.memory_read * factor,
            memory_written: self.memory_written * factor,
            buffer_read: self.buffer_read * factor,
            buffer_written: self.buffer_written * factor,
            accumulators: self.accumulators * factor,
        }
    }
}

impl std::ops::AddAssign for Traffic {
    fn add_assign(&mut self, other: Traffic) {
        self.memory_read += other.memory_read;
        self.memory_written += other.memory_written;
        self.buffer_read += other.buffer_read;
        self.buffer_written += other.buffer_written;
        self.accumulators += other.accumulators;
    }
}
