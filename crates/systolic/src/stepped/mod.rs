//! The stepped form: the machine cycle by cycle, values included.
//!
//! It shares the list of tiles with the closed form and nothing else: memory counts bytes, tiles move into cells a row a
//! cycle, sums meet their products as registers shift, and what a cycle waited for is what the controller found in it.
//! Results are what comes out of the array.

mod array;
mod lanes;
mod memory;

use std::collections::VecDeque;

pub use array::Lane;

use crate::machine::Machine;
use crate::schedule::{Cycles, Pipe};
use crate::tiling::{Tile, Tiling};
use array::{Cells, Streaming};
use memory::{Channel, Event, Job, Part};

/// The operands of a product as the machine turns them: `moving` is `[groups, m, k]`, `fixed` is `[groups, k, n]`.
#[derive(Debug, Clone, Copy)]
pub struct Values<'a, T> {
    /// Rows that stream.
    pub moving: &'a [T],
    /// Columns that stay; they stream from above where sums stay.
    pub fixed: &'a [T],
    /// Rows, columns and summed indices of a group.
    pub sizes: (usize, usize, usize),
}

/// Steps through a product on one array, a row a cycle, and adds the sums to `sums`, `[groups, m, n]`.
///
/// Without `values` only time passes.
pub fn step<T: Lane>(
    machine: &Machine,
    tiling: &Tiling,
    values: Option<Values<'_, T>>,
    sums: &mut [T],
) -> Cycles {
    let tiles = tiling.tiles();
    let mut simulator = Simulator::new(machine, tiling.pipe(machine), &tiles, values);
    while !simulator.is_done() {
        simulator.cycle(sums);
    }
    simulator.found.cycles = simulator.now;
    simulator.found
}

/// How far the stationary tile of the next fold is.
#[derive(Clone, Copy, PartialEq)]
enum Load {
    NotBegun,
    Since(u64),
    Done,
}

struct Simulator<'a, T> {
    pipe: Pipe,
    tiles: &'a [Tile],
    values: Option<Values<'a, T>>,
    now: u64,
    channel: Channel,
    cells: Cells<T>,
    /// The next tile to stream, and its load.
    next: usize,
    load: Load,
    /// Folds whose rows or sums are in the array, the newest last.
    flying: VecDeque<Streaming>,
    /// When rows began, will all have entered, and their sums will all have left.
    began: u64,
    busy_until: u64,
    drained_at: u64,
    found: Cycles,
}

impl<'a, T: Lane> Simulator<'a, T> {
    fn new(
        machine: &Machine,
        pipe: Pipe,
        tiles: &'a [Tile],
        values: Option<Values<'a, T>>,
    ) -> Self {
        let mut simulator = Simulator {
            pipe,
            tiles,
            values,
            now: 0,
            channel: Channel::new(machine, tiles.len()),
            cells: Cells::new(pipe),
            next: 0,
            load: Load::NotBegun,
            flying: VecDeque::new(),
            began: 0,
            busy_until: 0,
            drained_at: 0,
            found: Cycles::default(),
        };
        for tile in 0..tiles.len().min(pipe.ahead as usize) {
            simulator.queue_fetch(tile, None);
        }
        simulator
    }

    fn is_done(&self) -> bool {
        self.next == self.tiles.len() && self.now >= self.drained_at && self.channel.is_idle()
    }

    /// One cycle: the controller decides, registers move, bytes move.
    fn cycle(&mut self, sums: &mut [T]) {
        *self.control() += 1;
        if let Some(values) = self.values
            && (!self.flying.is_empty() || self.cells.is_loading())
        {
            self.cells.cycle(self.now, &self.flying, self.tiles, values, sums);
        }
        self.channel.cycle(self.now);
        self.now += 1;
        let leaves = self.pipe.drain_after();
        while self.flying.front().is_some_and(|f| self.now >= f.start + f.length + leaves) {
            self.flying.pop_front();
        }
    }

    /// What begins in this cycle, and the count that the cycle goes to.
    fn control(&mut self) -> &mut u64 {
        if let Load::Since(begun) = self.load
            && self.now == begun + self.pipe.rows
        {
            self.load = Load::Done;
            self.queue_after_load(self.next);
        }
        if self.now >= self.busy_until {
            self.try_begin();
        }
        self.try_load();
        let free = self.cells_are_free();
        let found = &mut self.found;
        if self.now < self.busy_until {
            &mut found.streaming
        } else if self.next == self.tiles.len() {
            &mut found.tail
        } else if !free {
            &mut found.drain
        } else {
            match self.load {
                Load::Done => &mut found.moving,
                Load::Since(_) => &mut found.load,
                Load::NotBegun => &mut found.fetch,
            }
        }
    }

    /// Whether what the fold before left in the cells is out of the way of the next one.
    fn cells_are_free(&self) -> bool {
        let Some(last) = self.next.checked_sub(1).filter(|_| self.next < self.tiles.len()) else {
            return true;
        };
        if !self.pipe.overlaps {
            return self.now >= self.drained_at;
        }
        if !self.pipe.keeps_sums {
            return true;
        }
        // The last register of a column gives its sum away before the first sum of the next fold comes.
        let (old, new) = (self.tiles[last].stream, self.tiles[self.next].stream);
        self.now + new + 1 >= self.began + old + 2 * self.pipe.rows
    }

    fn try_begin(&mut self) {
        if self.next == self.tiles.len() || !self.channel.has(Part::Moving, self.next, self.now) {
            return;
        }
        let ready =
            if self.pipe.keeps_sums { self.cells_are_free() } else { self.load == Load::Done };
        if !ready {
            return;
        }
        let tile = self.next;
        let length = self.tiles[tile].stream;
        self.flying.push_back(Streaming { tile, start: self.now, length });
        self.began = self.now;
        self.busy_until = self.now + length;
        self.drained_at = self.busy_until + self.pipe.drain_after();
        self.channel.will_happen(Event::Streamed, tile, self.busy_until);
        self.channel.will_happen(Event::Drained, tile, self.drained_at);
        if self.pipe.keeps_sums {
            self.queue_after_load(tile);
        }
        self.load = Load::NotBegun;
        self.next += 1;
    }

    fn try_load(&mut self) {
        let ready = !self.pipe.keeps_sums
            && self.load == Load::NotBegun
            && self.next < self.tiles.len()
            && self.cells_are_free()
            && self.channel.has(Part::Stationary, self.next, self.now);
        if ready {
            self.load = Load::Since(self.now);
            if self.values.is_some() {
                self.cells.begin_load(self.next, self.now);
            }
        }
    }

    /// The tile is in the cells: its buffer is free for a later one, and its results will want to be written.
    fn queue_after_load(&mut self, tile: usize) {
        self.channel.will_happen(Event::Loaded, tile, self.now);
        let later = tile + self.pipe.ahead as usize;
        if later < self.tiles.len() {
            self.queue_fetch(later, Some(tile));
        }
        let bytes = self.tiles[tile].written_bytes;
        self.channel.queue(Job {
            part: Part::Written,
            tile,
            bytes,
            after: Some((Event::Drained, tile)),
        });
    }

    fn queue_fetch(&mut self, tile: usize, gives_way: Option<usize>) {
        let Tile { fixed_bytes, moving_bytes, .. } = self.tiles[tile];
        let streamed = gives_way.map(|tile| (Event::Streamed, tile));
        let loaded = gives_way.map(|tile| (Event::Loaded, tile));
        let (part, after) = if self.pipe.keeps_sums {
            (Part::Moving, streamed)
        } else {
            (Part::Stationary, loaded)
        };
        self.channel.queue(Job { part, tile, bytes: fixed_bytes, after });
        self.channel.queue(Job { part: Part::Moving, tile, bytes: moving_bytes, after: streamed });
    }
}
