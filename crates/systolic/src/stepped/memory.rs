//! Main memory as the stepped simulator sees it: one transfer at a time, in order, byte by byte.

use std::collections::VecDeque;

use crate::machine::{Bandwidth, Machine};

/// What is transferred.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// A tile that stays in the cells.
    Stationary,
    /// What streams.
    Moving,
    /// Finished results.
    Written,
}

/// What a transfer can wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    /// A tile is in the cells.
    Loaded,
    /// All rows of a fold have entered the array.
    Streamed,
    /// All its sums have left it.
    Drained,
}

/// One transfer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Job {
    pub(super) part: Part,
    pub(super) tile: usize,
    pub(super) bytes: u64,
    pub(super) after: Option<(Event, usize)>,
}

/// The way to memory, its queue, and what has come over it.
pub(super) struct Channel {
    bandwidth: Option<Bandwidth>,
    overhead: u64,
    latency: u64,
    jobs: VecDeque<Job>,
    /// The transfer under way: cycles before its first byte, and bytes × cycles moved.
    started: bool,
    waited: u64,
    moved: u128,
    /// For each tile: transfers that are not done, and from when they can be used; stationary and moving.
    pending: Vec<[u32; 2]>,
    usable: Vec<[u64; 2]>,
    events: Vec<[u64; 3]>,
}

impl Channel {
    pub(super) fn new(machine: &Machine, tiles: usize) -> Channel {
        Channel {
            bandwidth: machine.memory,
            overhead: machine.transfer_cycles,
            latency: machine.memory_latency,
            jobs: VecDeque::new(),
            started: false,
            waited: 0,
            moved: 0,
            pending: vec![[0; 2]; tiles],
            usable: vec![[0; 2]; tiles],
            events: vec![[u64::MAX; 3]; tiles],
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.jobs.is_empty()
    }

    /// Adds a transfer to the queue. What has no bytes, or takes no time, is done already.
    pub(super) fn queue(&mut self, job: Job) {
        if job.bytes == 0 || (self.bandwidth.is_none() && self.overhead == 0) {
            return;
        }
        if let Some(side) = side(job.part) {
            self.pending[job.tile][side] += 1;
        }
        self.jobs.push_back(job);
    }

    pub(super) fn will_happen(&mut self, event: Event, tile: usize, at: u64) {
        self.events[tile][event as usize] = at;
    }

    /// Whether a tile's operand can be used in this cycle.
    pub(super) fn has(&self, part: Part, tile: usize, now: u64) -> bool {
        side(part)
            .is_none_or(|side| self.pending[tile][side] == 0 && now >= self.usable[tile][side])
    }

    /// One cycle of the transfer at the head of the queue, if it may run.
    pub(super) fn cycle(&mut self, now: u64) {
        let Some(&job) = self.jobs.front() else { return };
        if !self.started {
            let ready =
                job.after.is_none_or(|(event, tile)| now >= self.events[tile][event as usize]);
            if !ready {
                return;
            }
            self.started = true;
        }
        let done = if self.waited < self.overhead {
            self.waited += 1;
            self.waited == self.overhead && self.bandwidth.is_none()
        } else if let Some(Bandwidth { bytes, cycles }) = self.bandwidth {
            self.moved += u128::from(bytes);
            self.moved >= u128::from(job.bytes) * u128::from(cycles)
        } else {
            true
        };
        if done {
            self.jobs.pop_front();
            (self.started, self.waited, self.moved) = (false, 0, 0);
            if let Some(side) = side(job.part) {
                self.pending[job.tile][side] -= 1;
                self.usable[job.tile][side] = now + 1 + self.latency;
            }
        }
    }
}

fn side(part: Part) -> Option<usize> {
    match part {
        Part::Stationary => Some(0),
        Part::Moving => Some(1),
        Part::Written => None,
    }
}
