//! A layer line by line: what the array asks of the three buffers in each cycle, and how late they are.

use anychip_chips::Dataflow;

use super::memory::{ReadBuffer, WriteBuffer};
use super::report::{Row, row};
use super::{Arithmetic, Config, Interface, Layer, ScaleSimError};

/// What a walk found.
#[derive(Debug, Clone, PartialEq)]
pub struct Walked {
    /// The row of the report.
    pub row: Row,
    /// Stalls whose line waited longest for inputs, for filters, for room for results.
    pub stalls_by_cause: [u64; 3],
    /// From the first word prefetched to the last result in memory, where the interface has no limit.
    pub prefetched: Option<u64>,
}

/// Walks a layer through its demands.
pub fn walk(
    layer: &Layer,
    config: &Config,
    arithmetic: Arithmetic,
) -> Result<Walked, ScaleSimError> {
    let demands = Demands { layer, config };
    let (input_bytes, filter_bytes, output_bytes) =
        (config.buffers[0], config.buffers[1], config.buffers[2]);
    let limits = match config.interface {
        Interface::Unlimited => None,
        Interface::Limited { input, filter, output } => Some((input, filter, output)),
    };
    let elements = layer.input.0 * layer.input.1 * layer.channels;
    let mut readers = limits.map(|(input, filter, _)| {
        (
            ReadBuffer::new(demands.input_order(), elements, input_bytes, input, arithmetic),
            ReadBuffer::new(
                demands.filter_order(),
                layer.depth() * layer.filters,
                filter_bytes,
                filter,
                arithmetic,
            ),
        )
    });
    let mut writer =
        WriteBuffer::new(output_bytes, limits.map_or(config.columns, |(_, _, output)| output));
    let (mut line, mut stalls, mut last, mut last_line) = (0i64, 0i64, 0i64, 0i64);
    let mut causes = [0u64; 3];
    let starved = |buffer| ScaleSimError::Starved { layer: layer.name.clone(), buffer };
    let (down, across) = layer.folds(config);
    for fold in 0..down * across {
        let (fr, fc) = (fold % down, fold / down);
        let tile = demands.tile(fr, fc);
        for step in 0..layer.fold(config) {
            let cycle = line + stalls;
            let (input, filter) = match &mut readers {
                None => (0, 0),
                Some((inputs, filters)) => (
                    inputs
                        .serve(cycle, demands.inputs(&tile, step))
                        .ok_or_else(|| starved("input"))?,
                    filters
                        .serve(cycle, demands.filters(&tile, step))
                        .ok_or_else(|| starved("filter"))?,
                ),
            };
            let output = writer.take(cycle, demands.results(&tile, step));
            last_line = cycle + output;
            last = last.max(last_line);
            let late = input.max(filter).max(output);
            // As the peer: a cycle that all buffers serve early is on time, for results never are.
            stalls += late;
            let cause = if late == input {
                0
            } else if late == filter {
                1
            } else {
                2
            };
            causes[cause] += late as u64;
            line += 1;
        }
    }
    // The peer empties its buffer from the cycle that served the last line, which without limits is that line's own.
    let prefetched = match config.interface {
        Interface::Unlimited => {
            writer.finish(last_line).map(|end| (end - first_fetch(&demands)) as u64)
        }
        Interface::Limited { .. } => None,
    };
    let row = row(layer, config, last as u64, stalls as u64);
    Ok(Walked { row, stalls_by_cause: causes, prefetched })
}

/// Words a cycle of a prefetch that nothing limits.
const UNLIMITED_WORDS: u64 = 10;

/// Parts of a buffer; the peer fetches half of them before the first demand.
const PARTS: u64 = 100;

/// The cycle of the first word that is fetched, for either operand: as long before the first demand as half the buffer takes, or
/// before cycle 0 where all there is fills less.
fn first_fetch(demands: &Demands<'_>) -> i64 {
    let Demands { layer, config } = *demands;
    let rows = config.rows;
    let used = layer.spread(config.dataflow).rows.min(rows);
    // When a stationary tile's first row enters, which is its last; what streams follows the tile.
    let (loads, streams) = ((rows - used) as i64, rows as i64);
    let (input, filter) = match config.dataflow {
        Dataflow::WeightStationary => (streams, loads),
        Dataflow::InputStationary => (loads, streams),
        Dataflow::OutputStationary => (0, 0),
    };
    let start = |distinct: u64, bytes: u64, first: i64| {
        let part = (bytes / PARTS).max(1);
        let cycles = |parts: u64| (parts * part).div_ceil(UNLIMITED_WORDS) as i64;
        if distinct >= PARTS / 2 * part {
            first - cycles(PARTS / 2)
        } else {
            -cycles(distinct.div_ceil(part))
        }
    };
    let inputs = start(layer.distinct_inputs(), config.buffers[0], input);
    inputs.min(start(layer.depth() * layer.filters, config.buffers[1], filter))
}

/// A fold: first rows and columns of its extents, and how many.
struct Tile {
    rows: (u64, u64),
    columns: (u64, u64),
}

/// The demands of a layer on an array.
struct Demands<'a> {
    layer: &'a Layer,
    config: &'a Config,
}

impl Demands<'_> {
    fn tile(&self, fr: u64, fc: u64) -> Tile {
        let spread = self.layer.spread(self.config.dataflow);
        let part = |i: u64, tile: u64, total: u64| (i * tile, tile.min(total - i * tile));
        Tile {
            rows: part(fr, self.config.rows, spread.rows),
            columns: part(fc, self.config.columns, spread.columns),
        }
    }

    fn filter_address(&self, element: u64, filter: u64) -> u64 {
        self.layer.filters * element + filter
    }

    /// A stationary tile enters from its last row to its first, one a cycle: the row of this cycle.
    fn loading(&self, tile: &Tile, step: u64) -> Option<u64> {
        let row = (self.config.rows - 1).checked_sub(step)?;
        (row < tile.rows.1).then_some(tile.rows.0 + row)
    }

    /// Rows of cells into which something streams in a cycle, with its place in time; `start` cycles after the fold's start.
    fn skewed(&self, step: u64, start: u64, lanes: u64) -> impl Iterator<Item = (u64, u64)> {
        let time = self.layer.spread(self.config.dataflow).time;
        let now = step.checked_sub(start);
        let first = now.map_or(1, |now| now.saturating_sub(time - 1));
        let last = now.map_or(0, |now| now.min(lanes.saturating_sub(1)));
        (first..=last).filter_map(move |lane| Some((lane, now?.checked_sub(lane)?)))
    }

    fn inputs<'s>(&'s self, tile: &Tile, step: u64) -> Box<dyn Iterator<Item = u64> + 's> {
        let (rows, columns, layer) = (tile.rows, tile.columns, self.layer);
        match self.config.dataflow {
            Dataflow::WeightStationary => Box::new(
                self.skewed(step, self.config.rows, rows.1)
                    .filter_map(move |(lane, place)| layer.address(place, rows.0 + lane)),
            ),
            Dataflow::InputStationary => {
                let row = self.loading(tile, step);
                Box::new(row.into_iter().flat_map(move |element| {
                    (0..columns.1).filter_map(move |c| layer.address(columns.0 + c, element))
                }))
            }
            Dataflow::OutputStationary => Box::new(
                self.skewed(step, 0, rows.1)
                    .filter_map(move |(lane, element)| layer.address(rows.0 + lane, element)),
            ),
        }
    }

    fn filters<'s>(&'s self, tile: &Tile, step: u64) -> Box<dyn Iterator<Item = u64> + 's> {
        let (rows, columns) = (tile.rows, tile.columns);
        match self.config.dataflow {
            Dataflow::WeightStationary => {
                let row = self.loading(tile, step);
                Box::new(row.into_iter().flat_map(move |element| {
                    (0..columns.1).map(move |c| self.filter_address(element, columns.0 + c))
                }))
            }
            Dataflow::InputStationary => Box::new(
                self.skewed(step, self.config.rows, rows.1)
                    .map(move |(lane, filter)| self.filter_address(rows.0 + lane, filter)),
            ),
            Dataflow::OutputStationary => Box::new(
                self.skewed(step, 0, columns.1)
                    .map(move |(lane, element)| self.filter_address(element, columns.0 + lane)),
            ),
        }
    }

    /// Results that leave in a cycle.
    fn results(&self, tile: &Tile, step: u64) -> u64 {
        let time = self.layer.spread(self.config.dataflow).time;
        let rows = self.config.rows;
        // Results of a column leave from `start` on, a column later for each to the left, one a cycle while there are some.
        let (start, length, skip) = match self.config.dataflow {
            // The lowest rows of cells come first, used or not.
            Dataflow::OutputStationary => (time - 1, rows, rows - tile.rows.1),
            Dataflow::WeightStationary | Dataflow::InputStationary => (2 * rows - 1, time, 0),
        };
        let Some(now) = step.checked_sub(start) else { return 0 };
        // Column c gives result now − c, which must lie in skip..length.
        let first = (now + 1).saturating_sub(length);
        let Some(most) = now.checked_sub(skip) else { return 0 };
        (most.min(tile.columns.1 - 1) + 1).saturating_sub(first)
    }

    fn input_order(&self) -> Vec<u32> {
        let layer = self.layer;
        let spread = layer.spread(self.config.dataflow);
        let (rows, columns) = (self.config.rows, self.config.columns);
        match self.config.dataflow {
            Dataflow::WeightStationary => {
                diagonals(spread.rows.div_ceil(rows) * spread.time, rows, |i, r| {
                    let element = i / spread.time * rows + r;
                    (element < spread.rows)
                        .then(|| layer.address(i % spread.time, element))
                        .flatten()
                })
            }
            Dataflow::InputStationary => {
                lines(spread.columns.div_ceil(columns) * spread.rows, columns, |i, c| {
                    let place = i / spread.rows * columns + c;
                    (place < spread.columns)
                        .then(|| layer.address(place, i % spread.rows))
                        .flatten()
                })
            }
            Dataflow::OutputStationary => {
                diagonals(spread.rows.div_ceil(rows) * spread.time, rows, |i, r| {
                    let place = i / spread.time * rows + r;
                    (place < spread.rows).then(|| layer.address(place, i % spread.time)).flatten()
                })
            }
        }
    }

    fn filter_order(&self) -> Vec<u32> {
        let spread = self.layer.spread(self.config.dataflow);
        let (rows, columns) = (self.config.rows, self.config.columns);
        let column_blocks = |depth: u64| move |i: u64, c: u64| (i / depth * columns + c, i % depth);
        match self.config.dataflow {
            Dataflow::WeightStationary => {
                let at = column_blocks(spread.rows);
                lines(spread.columns.div_ceil(columns) * spread.rows, columns, |i, c| {
                    let (filter, element) = at(i, c);
                    (filter < spread.columns).then(|| self.filter_address(element, filter))
                })
            }
            Dataflow::OutputStationary => {
                let at = column_blocks(spread.time);
                diagonals(spread.columns.div_ceil(columns) * spread.time, columns, |i, c| {
                    let (filter, element) = at(i, c);
                    (filter < spread.columns).then(|| self.filter_address(element, filter))
                })
            }
            Dataflow::InputStationary => {
                diagonals(spread.rows.div_ceil(rows) * spread.time, rows, |i, r| {
                    let element = i / spread.time * rows + r;
                    (element < spread.rows).then(|| self.filter_address(element, i % spread.time))
                })
            }
        }
    }
}

/// A matrix row by row, gaps left out.
fn lines(rows: u64, columns: u64, at: impl Fn(u64, u64) -> Option<u64>) -> Vec<u32> {
    (0..rows)
        .flat_map(|i| (0..columns).map(move |c| (i, c)))
        .filter_map(|(i, c)| at(i, c))
        .map(|address| address as u32)
        .collect()
}

/// A matrix diagonal by diagonal, each from its lowest row up, gaps left out.
fn diagonals(rows: u64, columns: u64, at: impl Fn(u64, u64) -> Option<u64>) -> Vec<u32> {
    let mut order = Vec::new();
    for diagonal in 0..rows + columns {
        let highest = (diagonal + 1).saturating_sub(columns);
        for row in (highest..=diagonal.min(rows - 1)).rev() {
            order.extend(at(row, diagonal - row).map(|address| address as u32));
        }
    }
    order
}
