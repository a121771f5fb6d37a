//! The cells of one array and the registers between them.
//!
//! Rows enter at the left, one row of cells a cycle later than the row of cells above it, and move right. With an operand in
//! the cells, sums begin as nothing at the top, take in a product in each cell on their way down and leave at the bottom; a
//! tile comes a row of cells a cycle, and a cell takes its new weight when the first row of the new fold reaches it. With
//! sums in the cells, the other operand comes from above; a sum that is finished goes to a second register, and when the
//! lowest of a column is, the column's registers move down and out.

use std::collections::VecDeque;

use super::Values;
use super::lanes::{Lines, multiply};
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
    #[inline]
    fn add_product(self, a: i32, b: i32) -> i32 {
        self.wrapping_add(a.wrapping_mul(b))
    }
    fn plus(self, other: i32) -> i32 {
        self.wrapping_add(other)
    }
}

impl Lane for i64 {
    const ZERO: i64 = 0;
    #[inline]
    fn add_product(self, a: i64, b: i64) -> i64 {
        self.wrapping_add(a.wrapping_mul(b))
    }
    fn plus(self, other: i64) -> i64 {
        self.wrapping_add(other)
    }
}

impl Lane for f32 {
    const ZERO: f32 = 0.0;
    #[inline]
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
///
/// All registers of a kind move in each cycle, so it is their first one's place that moves, backwards through storage twice as
/// long; what they hold stays where it is.
pub(super) struct Cells<T> {
    rows: usize,
    columns: usize,
    keeps_sums: bool,
    /// What moves right: for each row of cells twice as many as it has, and where its first one is.
    right: Vec<T>,
    first_right: usize,
    /// What moves down, sums or the other operand: twice as many rows of cells, and which is the first.
    down: Vec<T>,
    first_down: usize,
    /// What enters each row of cells in this cycle.
    entering: Vec<T>,
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
            right: vec![T::ZERO; rows * 2 * columns],
            first_right: columns,
            down: vec![T::ZERO; 2 * rows * columns],
            first_down: rows,
            entering: vec![T::ZERO; rows],
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

    /// Registers move right, and at the left enters, with weights in the cells, element `r` of the row that began `r` cycles ago; with
    /// sums in the cells, the next summed index of row `r`.
    fn move_right(
        &mut self,
        now: u64,
        flying: &VecDeque<Streaming>,
        tiles: &[Tile],
        values: Values<'_, T>,
    ) {
        let (rows, width) = (self.rows, 2 * self.columns);
        self.entering.fill(T::ZERO);
        let (m, _, k) = values.sizes;
        for fold in flying {
            let tile = &tiles[fold.tile];
            for (r, step) in passing(now, *fold, rows) {
                let (row, depth) = if self.keeps_sums { (r, step) } else { (step, r) };
                if (row as u64) < tile.moving.1 && (depth as u64) < tile.depth.1 {
                    let row = tile.group as usize * m + tile.moving.0 as usize + row;
                    self.entering[r] = values.moving[row * k + tile.depth.0 as usize + depth];
                }
            }
        }
        if self.first_right == 0 {
            self.first_right = self.columns;
            for line in self.right.chunks_exact_mut(width) {
                line.copy_within(..self.columns, self.columns);
            }
        }
        self.first_right -= 1;
        for (line, &entering) in self.right.chunks_exact_mut(width).zip(&self.entering) {
            line[self.first_right] = entering;
        }
    }

    /// Registers move down; the uppermost row of them, which holds nothing yet.
    fn move_down(&mut self) -> &mut [T] {
        let (rows, columns) = (self.rows, self.columns);
        if self.first_down == 0 {
            self.first_down = rows;
            self.down.copy_within(..rows * columns, rows * columns);
        }
        self.first_down -= 1;
        &mut self.down[self.first_down * columns..][..columns]
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
        self.move_right(now, flying, tiles, values);
        self.move_down().fill(T::ZERO);
        let sums_here = &mut self.down[self.first_down * columns..][..rows * columns];
        let right = Lines { data: &self.right[self.first_right..], stride: 2 * columns };
        multiply(sums_here, right, &self.stays, columns);
        let bottom = &self.down[(self.first_down + rows - 1) * columns..];
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
        self.move_right(now, flying, tiles, values);
        let top = self.move_down();
        top.fill(T::ZERO);
        for fold in flying {
            let tile = &tiles[fold.tile];
            for (c, step) in passing(now, *fold, columns) {
                top[c] = fixed_at(tile, values, step, c);
            }
        }
        let down = &self.down[self.first_down * columns..][..rows * columns];
        let right = Lines { data: &self.right[self.first_right..], stride: 2 * columns };
        multiply(&mut self.stays, right, down, columns);
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
                // It was finished in this row and has moved down since; the next fold's comes into its place when it has left.
                let leaving = self.second[row * columns + c];
                if (row as u64) < tile.moving.1 && (c as u64) < tile.fixed.1 {
                    add(sums, tile, values, row, c, leaving);
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

/// Rows (or columns) of cells whose edge a fold passes in this cycle, each with how far the fold is there.
fn passing(now: u64, fold: Streaming, lines: usize) -> impl Iterator<Item = (usize, usize)> {
    let age = now - fold.start;
    let first = (age + 1).saturating_sub(fold.length);
    (first..(age + 1).min(lines as u64)).map(move |line| (line as usize, (age - line) as usize))
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
