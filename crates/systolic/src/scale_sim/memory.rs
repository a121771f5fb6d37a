//! SCALE-Sim's buffers: one that is read and prefetched in a fixed order, one that results drain from.

use super::Arithmetic;

/// Cycles from a hit to its data.
const HIT: i64 = 1;

/// Cycles of the port behind a read buffer.
const PORT: i64 = 1;

/// A buffer for inputs or filters: a window of lines over the order of prefetches, half of it active.
pub(super) struct ReadBuffer {
    /// Addresses in the order of prefetches, cut into lines.
    order: Vec<u32>,
    line: usize,
    lines: usize,
    active: usize,
    prefetched: usize,
    start: usize,
    /// How often each address is in the active lines.
    held: Vec<u32>,
    /// Cycles of one prefetch, and the cycle of the last one.
    fetch: i64,
    last: i64,
    arithmetic: Arithmetic,
}

impl ReadBuffer {
    /// A buffer that is filled with `order`, addresses below `addresses`, at `bandwidth` words a cycle.
    pub(super) fn new(
        order: Vec<u32>,
        addresses: u64,
        bytes: u64,
        bandwidth: u64,
        arithmetic: Arithmetic,
    ) -> ReadBuffer {
        let line = bytes.div_ceil(100) as usize;
        let lines = order.len() / line + 1;
        let half = bytes.div_ceil(2);
        let active = (half as usize).div_ceil(line).min(lines);
        let rest = bytes - half;
        let prefetched = (rest as usize).div_ceil(line).min(lines - active);
        let mut buffer = ReadBuffer {
            order,
            line,
            lines,
            active,
            prefetched,
            start: 0,
            held: vec![0; addresses as usize],
            fetch: rest.div_ceil(bandwidth) as i64 + PORT,
            // The first fill ends before the first demand.
            last: -1,
            arithmetic,
        };
        for index in 0..active {
            buffer.change(index, 1);
        }
        buffer
    }

    fn change(&mut self, line: usize, by: i32) {
        let start = line * self.line;
        let end = (start + self.line).min(self.order.len());
        for i in start..end.max(start) {
            let held = &mut self.held[self.order[i] as usize];
            *held = held.wrapping_add_signed(by);
        }
    }

    /// The window moves on by what was prefetched.
    fn advance(&mut self) {
        for i in 0..self.prefetched {
            self.change((self.start + i) % self.lines, -1);
        }
        for i in 0..self.prefetched {
            self.change((self.start + self.active + i) % self.lines, 1);
        }
        self.start = (self.start + self.prefetched) % self.lines;
        self.last += self.fetch;
    }

    /// The demands of one cycle: by how much it is late. `None` where the window never holds an address.
    pub(super) fn serve(&mut self, cycle: i64, demands: impl Iterator<Item = u64>) -> Option<i64> {
        let mut offset = HIT;
        for address in demands {
            let mut turns = 0;
            while self.held[address as usize] == 0 {
                self.advance();
                turns += 1;
                if self.prefetched == 0 || turns > 2 * self.lines {
                    return None;
                }
                let wait = self.last - (cycle + offset);
                match self.arithmetic {
                    Arithmetic::Published => offset += wait + wait.max(0),
                    Arithmetic::Sound => offset += wait.max(0),
                }
            }
        }
        Some(offset - HIT)
    }
}

/// The buffer for results: half of it drains when half is full.
pub(super) struct WriteBuffer {
    free: i64,
    total: i64,
    drain: i64,
    width: i64,
    /// Elements in the line that is being filled.
    filled: i64,
    /// Lines that wait, with their elements.
    lines: std::collections::VecDeque<i64>,
    drained_at: i64,
}

impl WriteBuffer {
    pub(super) fn new(bytes: u64, bandwidth: u64) -> WriteBuffer {
        let total = bytes as i64;
        WriteBuffer {
            free: total,
            total,
            drain: total - (total + 1) / 2,
            width: bandwidth as i64,
            filled: 0,
            lines: std::collections::VecDeque::new(),
            drained_at: 0,
        }
    }

    /// So many results in one cycle: by how much it is late.
    pub(super) fn take(&mut self, cycle: i64, elements: u64) -> i64 {
        let (mut now, mut late) = (cycle, 0);
        for _ in 0..elements {
            self.filled += 1;
            self.free -= 1;
            if self.filled == self.width {
                self.lines.push_back(self.filled);
                self.filled = 0;
            }
            if now < self.drained_at {
                if self.free <= 0 {
                    late += self.drained_at - now;
                    now = self.drained_at;
                }
            } else if self.free < self.total - self.drain {
                if self.filled > 0 {
                    self.lines.push_back(self.filled);
                    self.filled = 0;
                }
                self.empty(now);
            }
        }
        late
    }

    /// Everything that is left leaves after the last line of demands, a line a cycle: the cycle of the last line to leave, the
    /// drain under way included. Absent where there was nothing to write.
    pub(super) fn finish(mut self, now: i64) -> Option<i64> {
        if self.filled > 0 {
            self.lines.push_back(self.filled);
        }
        let drained = (self.drained_at > 0).then_some(self.drained_at);
        let left = self.lines.len() as i64;
        drained.max((left > 0).then_some(now + left - 1))
    }

    /// A drain begins: whole lines leave, one a cycle. Of what leaves, gaps in the last line alone are left out.
    fn empty(&mut self, now: i64) {
        let lines = ((self.drain + self.width - 1) / self.width).min(self.lines.len() as i64);
        let mut last = self.width;
        for _ in 0..lines {
            last = self.lines.pop_front().unwrap_or(self.width);
        }
        self.free += lines * self.width - (self.width - last);
        self.drained_at = now + lines - 1;
    }
}
