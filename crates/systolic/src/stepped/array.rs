//! The cells of one array and the registers between them.
//!
//! Rows enter at the left, one row of cells a cycle later than the row of cells above it, and move right. With an operand in
//! the cells, sums begin as nothing at the top, take in a product in each cell on their way down and leave at the bottom; a
//! tile comes a row of cells a cycle, and a cell takes its new weight when the first row of the new fold reaches it. With
//! sums in the cells, the other operand comes from above; a sum that is finished goes to a second register, and when the
//! lowest of a column is, the column's registers move down and out.

use std::collections::VecDeque;

use super::Values;
use crate::schedule::Pipe;
use crate::tiling::Tile;

/// A number that cells multiply and add.
pub trait Lane: Copy + Send + Sync {
    /// Nothing.
    const ZERO: Self;
    /// `self + a · b` as the cells compute it.
    #[must_use]
    fn add_product(self, a: Self, b: Self) -> Self;
    /// The sum of two partial sums, in the accumulators.
    #[must_use]
    fn plus(self, other: Self) -> Self;
}

impl Lane for i32 {
    const ZERO: i32 = 0;
    fn add_product(self, a: i32, b: i32) -> i32 {
        self.wrapping_add(a.wrapping_mul(b))
    }
    fn plus(self, other: i32) -> i32 {
        self.wrapping_add(other)
    }
}

impl Lane for i64 {
    const ZERO: i64 = 0;
    fn add_product(self, a: i64, b: i64) -> i64 {
        self.wrapping_add(a.wrapping_mul(b))
    }
    fn plus(self, other: i64) -> i64 {
        self.wrapping_add(other)
    }
}

impl Lane for f32 {
    const ZERO: f32 = 0.0;
    fn add_product(self, a: f32, b: f32) -> f32 {
        self + a * b
    }
    fn plus(self, other: f32) -> f32 {
        self + other
    }
}

/// A fold whose rows or sums are in the array.
#[derive(Debug, Clone, Copy)]
pub(super) struct Streaming {
    pub(super) tile: usize,
    pub(super) start: u64,
    pub(super) length: u64,
}

/// The registers of all cells, a row of cells after the other.
pub(super) struct Cells<T> {
    rows: usize,
    columns: usize,
    keeps_sums: bool,
    /// What moves right.
    right: Vec<T>,
    /// What moves down: sums, or the other operand.
    down: Vec<T>,
    /// What stays: weights, or sums.
    stays: Vec<T>,
    /// The next weights, or finished sums on their way out.
    second: Vec<T>,
    /// Loads that have not reached every column.
    loads: VecDeque<(usize, u64)>,
}

impl<T: Lane> Cells<T> {
    pub(super) fn new(pipe: Pipe) -> Cells<T> {
        let (rows, columns) = (pipe.rows as usize, pipe.columns as usize);
        let registers = || vec![T::ZERO; rows * columns];
        Cells {
            rows,
            columns,
            keeps_sums: pipe.keeps_sums,
            right: registers(),
            down: registers(),
            stays: registers(),
            second: registers(),
            loads: VecDeque::new(),
        }
    }

    /// A tile begins to move in: its row `r` reaches column `c` in cycle `now + r + c`.
    pub(super) fn begin_load(&mut self, tile: usize, now: u64) {
        self.loads.push_back((tile, now));
    }

    /// Whether a tile is on its way into some column.
    pub(super) fn is_loading(&self) -> bool {
        !self.loads.is_empty()
    }

    /// One cycle of all cells.
    pub(super) fn cycle(
        &mut self,
        now: u64,
        flying: &VecDeque<Streaming>,
        tiles: &[Tile],
        values: Values<'_, T>,
        sums: &mut [T],
    ) {
        if self.keeps_sums {
            self.cycle_keeping_sums(now, flying, tiles, values, sums);
        } else {
            self.cycle_keeping_weights(now, flying, tiles, values, sums);
        }
    }

    fn cycle_keeping_weights(
        &mut self,
        now: u64,
        flying: &VecDeque<Streaming>,
        tiles: &[Tile],
        values: Values<'_, T>,
        sums: &mut [T],
    ) {
        let (rows, columns) = (self.rows, self.columns);
        for fold in flying {
            // The first row of a fold brings its weights into use, diagonal by diagonal.
            for (r, c) in diagonal(now - fold.start, rows, columns) {
                self.stays[r * columns + c] = self.second[r * columns + c];
            }
        }
        for r in (0..rows).rev() {
            let line = r * columns..(r + 1) * columns;
            self.right.copy_within(line.start..line.end - 1, line.start + 1);
            self.right[line.start] = entering((now, r, self.keeps_sums), flying, tiles, values);
            let (above, here) = self.down.split_at_mut(line.start);
            let here = &mut here[..columns];
            let (x, w) = (&self.right[line.clone()], &self.stays[line]);
            if r == 0 {
                for ((sum, &x), &w) in here.iter_mut().zip(x).zip(w) {
                    *sum = T::ZERO.add_product(x, w);
                }
            } else {
                let above = &above[(r - 1) * columns..];
                for (((sum, &above), &x), &w) in here.iter_mut().zip(above).zip(x).zip(w) {
                    *sum = above.add_product(x, w);
                }
            }
        }
        let bottom = &self.down[(rows - 1) * columns..];
        for fold in flying {
            let tile = &tiles[fold.tile];
            // The sum of row i leaves column c in cycle start + i + rows − 1 + c.
            let Some(age) = (now - fold.start).checked_sub(rows as u64 - 1) else { continue };
            let first = (age + 1).saturating_sub(fold.length);
            for c in first..=age.min(tile.fixed.1.saturating_sub(1)) {
                add(sums, tile, values, (age - c) as usize, c as usize, bottom[c as usize]);
            }
        }
        // What loads in this cycle is there for the next one.
        let mut loads = std::mem::take(&mut self.loads);
        for &(tile, begun) in &loads {
            for (r, c) in diagonal(now - begun, rows, columns) {
                self.second[r * columns + c] = fixed_at(&tiles[tile], values, r, c);
            }
        }
        loads.retain(|&(_, begun)| now - begun < (rows + columns) as u64);
        self.loads = loads;
    }

    fn cycle_keeping_sums(
        &mut self,
        now: u64,
        flying: &VecDeque<Streaming>,
        tiles: &[Tile],
        values: Values<'_, T>,
        sums: &mut [T],
    ) {
        let (rows, columns) = (self.rows, self.columns);
        for r in (0..rows).rev() {
            let line = r * columns..(r + 1) * columns;
            self.right.copy_within(line.start..line.end - 1, line.start + 1);
            self.right[line.start] = entering((now, r, self.keeps_sums), flying, tiles, values);
            if r == 0 {
                for c in 0..columns {
                    self.down[c] = entering_above(now, c, flying, tiles, values);
                }
            } else {
                self.down.copy_within((r - 1) * columns..r * columns, line.start);
            }
            let operands = self.right[line.clone()].iter().zip(&self.down[line.clone()]);
            for (sum, (&a, &b)) in self.stays[line].iter_mut().zip(operands) {
                *sum = sum.add_product(a, b);
            }
        }
        for fold in flying {
            let tile = &tiles[fold.tile];
            // Columns whose lowest sum was finished in a cycle before this one move down.
            let age = now - fold.start;
            for c in 0..columns {
                let Some(turn) = age.checked_sub(fold.length + rows as u64 - 1 + c as u64) else {
                    break;
                };
                if turn >= rows as u64 {
                    continue;
                }
                let row = rows - 1 - turn as usize;
                let leaving = self.second[(rows - 1) * columns + c];
                if (row as u64) < tile.moving.1 && (c as u64) < tile.fixed.1 {
                    add(sums, tile, values, row, c, leaving);
                }
                for r in (1..rows).rev() {
                    self.second[r * columns + c] = self.second[(r - 1) * columns + c];
                }
            }
        }
        for fold in flying {
            // Sums that took in their last product in this cycle.
            let Some(age) = (now - fold.start + 1).checked_sub(fold.length) else { continue };
            for (r, c) in diagonal(age, rows, columns) {
                let at = r * columns + c;
                self.second[at] = self.stays[at];
                self.stays[at] = T::ZERO;
            }
        }
    }
}

/// The cells whose row and column add up to `age`.
fn diagonal(age: u64, rows: usize, columns: usize) -> impl Iterator<Item = (usize, usize)> {
    let age = usize::try_from(age).unwrap_or(usize::MAX);
    let first = age.saturating_sub(columns - 1);
    let end = if age >= rows + columns { first } else { rows.min(age + 1) };
    (first..end).map(move |r| (r, age - r))
}

/// What enters a row of cells at the left: with weights in the cells, element `r` of the row that began `r` cycles ago;
/// with sums in the cells, the next summed index of row `r`.
fn entering<T: Lane>(
    (now, r, keeps_sums): (u64, usize, bool),
    flying: &VecDeque<Streaming>,
    tiles: &[Tile],
    values: Values<'_, T>,
) -> T {
    let Some((fold, step)) = passing(now, r as u64, flying) else { return T::ZERO };
    let tile = &tiles[fold.tile];
    let (row, depth) = if keeps_sums { (r as u64, step) } else { (step, r as u64) };
    if row >= tile.moving.1 || depth >= tile.depth.1 {
        return T::ZERO;
    }
    let (m, _, k) = values.sizes;
    let (row, depth) = ((tile.moving.0 + row) as usize, (tile.depth.0 + depth) as usize);
    values.moving[(tile.group as usize * m + row) * k + depth]
}

/// What enters a column of cells from above, where sums stay.
fn entering_above<T: Lane>(
    now: u64,
    c: usize,
    flying: &VecDeque<Streaming>,
    tiles: &[Tile],
    values: Values<'_, T>,
) -> T {
    passing(now, c as u64, flying)
        .map_or(T::ZERO, |(fold, step)| fixed_at(&tiles[fold.tile], values, step as usize, c))
}

/// The fold that passes the edge `late` cycles after it began there, and how far it is.
fn passing(now: u64, late: u64, flying: &VecDeque<Streaming>) -> Option<(&Streaming, u64)> {
    flying.iter().find_map(|fold| {
        let step = (now - fold.start).checked_sub(late)?;
        (step < fold.length).then_some((fold, step))
    })
}

/// An element of the operand that stays, by its place in the tile.
fn fixed_at<T: Lane>(tile: &Tile, values: Values<'_, T>, depth: usize, column: usize) -> T {
    if depth as u64 >= tile.depth.1 || column as u64 >= tile.fixed.1 {
        return T::ZERO;
    }
    let (_, n, k) = values.sizes;
    let (depth, column) = (tile.depth.0 as usize + depth, tile.fixed.0 as usize + column);
    values.fixed[(tile.group as usize * k + depth) * n + column]
}

/// A sum leaves the array: it joins what the accumulators have of it.
fn add<T: Lane>(
    sums: &mut [T],
    tile: &Tile,
    values: Values<'_, T>,
    row: usize,
    column: usize,
    sum: T,
) {
    let (m, n, _) = values.sizes;
    let (row, column) = (tile.moving.0 as usize + row, tile.fixed.0 as usize + column);
    let at = (tile.group as usize * m + row) * n + column;
    sums[at] = sums[at].plus(sum);
}
