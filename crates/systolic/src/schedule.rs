//! The closed form: when each fold of a product begins and ends on a machine, without a step for each cycle.
//!
//! A product that is larger than the array is cut into *folds*: one stationary tile in the cells, rows streaming by. Four
//! things follow one another for each fold, and each waits for the latest of a few others:
//!
//! - **fetch**: memory brings the stationary tile, then what streams, in the order of folds, so many folds ahead;
//! - **load**: the tile moves into the cells, a row a cycle;
//! - **stream**: the rows go in, one after the other (or several, or each several times: see [`Rate`](crate::Rate));
//! - **drain**: the last sums leave, and what is finished goes to memory.
//!
//! So the state after a fold is a handful of moments, each the largest of some of the moments before plus constants. Where a
//! fold like the last one shifted all of them alike, every further fold of its kind does too, and they are taken in one
//! stride; likewise whole panels of folds. That is exact, and the stepped simulator, which knows none of this, agrees on
//! every cycle and every cause of a stall (`tests/oracle.rs`).

/// One stationary tile and what streams by it. Durations are in cycles; 0 where nothing is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Fold {
    /// Memory's time for the stationary tile.
    pub stationary: u64,
    /// Memory's time for what streams.
    pub moving: u64,
    /// Cycles in which rows enter the array.
    pub stream: u64,
    /// Memory's time for finished results.
    pub write: u64,
}

/// What the timing of folds depends on beside the folds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pipe {
    /// Cells from top to bottom.
    pub rows: u64,
    /// Cells from left to right.
    pub columns: u64,
    /// Whether sums stay in the cells, and not an operand.
    pub keeps_sums: bool,
    /// Whether a tile may move in while the last is used (or sums out while the next are made).
    pub overlaps: bool,
    /// Folds that memory may run ahead.
    pub ahead: u64,
    /// Cycles from the end of a transfer to its use.
    pub latency: u64,
}

impl Pipe {
    /// Cycles from the last row's entry until the last sum has left.
    pub fn drain_after(self) -> u64 {
        // Where sums stay, a column's move out when the lowest is finished.
        let out = if self.keeps_sums { self.rows } else { 0 };
        out + self.rows + self.columns - 2
    }
}

/// Panels of folds that follow one another: each panel so often, each of its folds so often.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Folds {
    runs: Vec<Run>,
    count: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Run {
    start: u64,
    panel: Vec<(Fold, u64)>,
    length: u64,
    times: u64,
}

impl Run {
    fn end(&self) -> u64 {
        self.start + self.length * self.times
    }
}

impl Folds {
    /// None yet.
    pub fn new() -> Folds {
        Folds::default()
    }

    /// Adds a panel, so many times.
    pub fn push(&mut self, panel: &[(Fold, u64)], times: u64) {
        let mut joined: Vec<(Fold, u64)> = Vec::with_capacity(panel.len());
        for &(fold, count) in panel.iter().filter(|(_, count)| *count > 0) {
            match joined.last_mut() {
                Some((last, n)) if *last == fold => *n += count,
                _ => joined.push((fold, count)),
            }
        }
        let length: u64 = joined.iter().map(|(_, count)| count).sum();
        if length == 0 || times == 0 {
            return;
        }
        match self.runs.last_mut() {
            Some(last) if last.panel == joined => last.times += times,
            _ => self.runs.push(Run { start: self.count, panel: joined, length, times }),
        }
        self.count += length * times;
    }

    /// How many folds there are.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The sum of a figure over all folds.
    pub fn sum(&self, figure: impl Fn(&Fold) -> u64) -> u64 {
        let of_panel = |run: &Run| run.panel.iter().map(|(fold, n)| figure(fold) * n).sum::<u64>();
        self.runs.iter().map(|run| of_panel(run) * run.times).sum()
    }

    /// Every fold in order: what the stepped simulator takes.
    pub fn iter(&self) -> impl Iterator<Item = Fold> {
        self.runs.iter().flat_map(|run| {
            (0..run.times).flat_map(|_| {
                run.panel.iter().flat_map(|&(fold, n)| std::iter::repeat_n(fold, n as usize))
            })
        })
    }
}

/// What came of a schedule, in cycles. `streaming`, the stalls and `tail` add up to `cycles`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cycles {
    /// All of them.
    pub cycles: u64,
    /// Rows entered the array.
    pub streaming: u64,
    /// The array waited for a stationary tile from memory (or, where sums stay, for either operand).
    pub fetch: u64,
    /// It waited for the tile to move into the cells.
    pub load: u64,
    /// It waited for what streams.
    pub moving: u64,
    /// It waited for sums of the fold before to leave.
    pub drain: u64,
    /// After the last row: the last sums left and went to memory.
    pub tail: u64,
}

impl std::ops::AddAssign for Cycles {
    fn add_assign(&mut self, other: Cycles) {
        self.cycles += other.cycles;
        self.streaming += other.streaming;
        self.fetch += other.fetch;
        self.load += other.load;
        self.moving += other.moving;
        self.drain += other.drain;
        self.tail += other.tail;
    }
}

/// The moments that later folds can still ask about.
#[derive(Debug, Clone, PartialEq, Eq)]
struct State {
    /// Memory is free from here.
    channel: u64,
    load_end: u64,
    /// Where the last fold's rows began, and had all entered.
    stream: u64,
    stream_end: u64,
    drain_end: u64,
    write_end: u64,
    last_stream: u64,
    /// When the operands of the next folds are here: stationary, moving.
    arrivals: std::collections::VecDeque<(u64, u64)>,
}

/// Runs the folds.
pub fn schedule(pipe: Pipe, folds: &Folds) -> Cycles {
    let mut run = Scheduler::new(pipe, folds);
    let mut next = 0;
    while next < folds.count {
        next = run.advance(next);
    }
    let state = run.state;
    let mut found = run.found;
    found.cycles = state.drain_end.max(state.write_end);
    found.tail = found.cycles - state.stream_end;
    found
}

struct Scheduler<'a> {
    pipe: Pipe,
    folds: &'a Folds,
    state: State,
    found: Cycles,
    /// Cursors to the runs that hold the fold at hand and the fold that is fetched.
    here: Cursor,
    ahead: Cursor,
    /// The state at the beginning of the last panel, and which one that was.
    panel: Option<(u64, State, Cycles)>,
}

#[derive(Clone, Copy, Default)]
struct Cursor {
    run: usize,
}

impl Cursor {
    /// The run of a fold; folds are asked for in order.
    fn run<'f>(&mut self, folds: &'f Folds, at: u64) -> Option<&'f Run> {
        while self.run < folds.runs.len() && folds.runs[self.run].end() <= at {
            self.run += 1;
        }
        folds.runs.get(self.run)
    }

    /// The fold, and how many from it on are its like.
    fn fold(&mut self, folds: &Folds, at: u64) -> Option<(Fold, u64)> {
        let run = self.run(folds, at)?;
        let mut place = (at - run.start) % run.length;
        for &(fold, count) in &run.panel {
            if place < count {
                let rest_of_run = if run.panel.len() == 1 { run.end() - at } else { count - place };
                return Some((fold, rest_of_run));
            }
            place -= count;
        }
        None
    }
}

impl<'a> Scheduler<'a> {
    fn new(pipe: Pipe, folds: &'a Folds) -> Self {
        let state = State {
            channel: 0,
            load_end: 0,
            stream: 0,
            stream_end: 0,
            drain_end: 0,
            write_end: 0,
            last_stream: 0,
            arrivals: std::collections::VecDeque::new(),
        };
        let mut scheduler = Scheduler {
            pipe,
            folds,
            state,
            found: Cycles::default(),
            here: Cursor::default(),
            ahead: Cursor::default(),
            panel: None,
        };
        for at in 0..pipe.ahead.min(folds.count) {
            if let Some((fold, _)) = scheduler.ahead.fold(folds, at) {
                scheduler.fetch(fold, 0, 0);
            }
        }
        scheduler
    }

    /// Does the fold at `at` and as many after it as follow from it; the next one to do.
    fn advance(&mut self, at: u64) -> u64 {
        if let Some(further) = self.stride_over_panels(at) {
            return further;
        }
        let folds = self.folds;
        let Some((fold, alike)) = self.here.fold(folds, at) else { return folds.count };
        let far = at + self.pipe.ahead;
        let fetched = if far < folds.count { self.ahead.fold(folds, far) } else { None };
        let (before, found_before) = (self.state.clone(), self.found);
        self.step(fold, fetched.map(|(fold, _)| fold));
        self.normalize();
        // The same again, for as long as this fold and the one it fetches have their like after them.
        let ahead_alike = match fetched {
            Some((_, alike)) => alike,
            None => u64::MAX,
        };
        let more = (alike - 1).min(ahead_alike - 1);
        let Some(shift) = shift(&before, &self.state).filter(|_| at > 0 && more > 0) else {
            return at + 1;
        };
        self.repeat(shift, found_before, more);
        at + 1 + more
    }

    /// At the beginning of a panel like the one before: whether both took the state the same way, and then so many more.
    fn stride_over_panels(&mut self, at: u64) -> Option<u64> {
        let folds = self.folds;
        let run = self.here.run(folds, at)?;
        if run.times < 3 || run.panel.len() == 1 || !(at - run.start).is_multiple_of(run.length) {
            return None;
        }
        let (end, length) = (run.end(), run.length);
        let last = self.panel.replace((at, self.state.clone(), self.found));
        let (last_at, before, found_before) = last?;
        // The panel before must have been of this run, and must have fetched of this run alone.
        if last_at < run.start || last_at + length != at || at + self.pipe.ahead > end {
            return None;
        }
        let shift = shift(&before, &self.state)?;
        let panels = (end.saturating_sub(self.pipe.ahead).saturating_sub(at)) / length;
        if panels == 0 {
            return None;
        }
        self.repeat(shift, found_before, panels);
        self.panel = None;
        Some(at + panels * length)
    }

    fn repeat(&mut self, shift: u64, before: Cycles, times: u64) {
        let by = shift * times;
        let state = &mut self.state;
        for moment in [
            &mut state.channel,
            &mut state.load_end,
            &mut state.stream,
            &mut state.stream_end,
            &mut state.drain_end,
            &mut state.write_end,
        ] {
            *moment += by;
        }
        state.arrivals.iter_mut().for_each(|(a, b)| {
            *a += by;
            *b += by;
        });
        let found = &mut self.found;
        found.streaming += (found.streaming - before.streaming) * times;
        found.fetch += (found.fetch - before.fetch) * times;
        found.load += (found.load - before.load) * times;
        found.moving += (found.moving - before.moving) * times;
        found.drain += (found.drain - before.drain) * times;
    }

    /// One transfer: when its bytes can be used. None asked for: at once.
    fn transfer(&mut self, duration: u64, ready: u64) -> u64 {
        if duration == 0 {
            return 0;
        }
        self.state.channel = self.state.channel.max(ready) + duration;
        self.state.channel + self.pipe.latency
    }

    fn fetch(&mut self, fold: Fold, stationary_ready: u64, moving_ready: u64) {
        let stationary = self.transfer(fold.stationary, stationary_ready);
        let moving = self.transfer(fold.moving, moving_ready);
        self.state.arrivals.push_back((stationary, moving));
    }

    fn step(&mut self, fold: Fold, fetched: Option<Fold>) {
        let Pipe { rows, keeps_sums, overlaps, .. } = self.pipe;
        let (stationary, moving) = self.state.arrivals.pop_front().unwrap_or_default();
        let state = &self.state;
        let base = state.stream_end;
        // The moment from which the cells are free for this fold.
        let free = match (keeps_sums, overlaps) {
            (false, true) => state.stream,
            (_, false) => state.drain_end,
            // Sums wait in a second set of registers, which the fold before must have left.
            (true, true) => {
                let leaves =
                    (state.stream + state.last_stream + 2 * rows).saturating_sub(1 + fold.stream);
                if state.last_stream == 0 { 0 } else { base.max(leaves) }
            }
        };
        let stall = |from: u64, to: u64| to.max(base).saturating_sub(from.max(base));
        let drained = if overlaps && !keeps_sums { base } else { free.max(base) };
        let (load_start, load_end) = if keeps_sums {
            let here = free.max(stationary).max(moving).max(base);
            (here, here)
        } else {
            let start = free.max(stationary).max(state.load_end);
            (start, start + rows)
        };
        let stream = load_end.max(base).max(moving);
        let found = &mut self.found;
        found.drain += stall(base, drained);
        found.fetch += stall(drained, load_start);
        found.load += stall(load_start.max(drained), load_end);
        found.moving += stall(load_end, stream);
        found.streaming += fold.stream;
        let state = &mut self.state;
        state.load_end = load_end;
        state.stream = stream;
        state.last_stream = fold.stream;
        state.stream_end = stream + fold.stream;
        state.drain_end = state.stream_end + self.pipe.drain_after();
        let (loaded, streamed, drained) = (load_end, state.stream_end, state.drain_end);
        if let Some(fetched) = fetched {
            self.fetch(fetched, loaded, streamed);
        }
        if fold.write > 0 {
            self.state.write_end = self.transfer(fold.write, drained) - self.pipe.latency;
        }
    }

    /// Raises what is too early to matter to the earliest that does, so that only what matters is compared. Whatever comes
    /// next waits for the last load at least.
    fn normalize(&mut self) {
        let least = self.state.load_end;
        let state = &mut self.state;
        state.channel = state.channel.max(least);
        state.write_end = state.write_end.max(least);
        for (stationary, moving) in &mut state.arrivals {
            *stationary = (*stationary).max(least);
            *moving = (*moving).max(least);
        }
    }
}

/// By how much every moment moved, where all moved alike.
fn shift(before: &State, after: &State) -> Option<u64> {
    if before.arrivals.len() != after.arrivals.len() || before.last_stream != after.last_stream {
        return None;
    }
    let by = after.load_end - before.load_end;
    let alike = [
        (before.channel, after.channel),
        (before.stream, after.stream),
        (before.stream_end, after.stream_end),
        (before.drain_end, after.drain_end),
        (before.write_end, after.write_end),
    ]
    .into_iter()
    .chain(before.arrivals.iter().zip(&after.arrivals).flat_map(|(b, a)| [(b.0, a.0), (b.1, a.1)]))
    .all(|(before, after)| before + by == after);
    alike.then_some(by)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PIPE: Pipe =
        Pipe { rows: 4, columns: 3, keeps_sums: false, overlaps: false, ahead: 2, latency: 0 };

    fn folds(panels: &[(&[(Fold, u64)], u64)]) -> Folds {
        let mut folds = Folds::new();
        for (panel, times) in panels {
            folds.push(panel, *times);
        }
        folds
    }

    #[test]
    fn one_after_the_other_is_the_textbook_formula() {
        let fold = Fold { stream: 10, ..Fold::default() };
        for n in [1, 2, 1000] {
            let found = schedule(PIPE, &folds(&[(&[(fold, n)], 1)]));
            // 2 × rows + columns + stream − 2 for each.
            assert_eq!(found.cycles, n * (2 * 4 + 3 + 10 - 2));
            assert_eq!(found.load, n * 4);
            assert_eq!(found.drain, (n - 1) * (4 + 3 - 2));
        }
    }

    #[test]
    fn overlapped_loads_hide_behind_long_streams() {
        let pipe = Pipe { overlaps: true, ..PIPE };
        let fold = Fold { stream: 10, ..Fold::default() };
        let found = schedule(pipe, &folds(&[(&[(fold, 100)], 1)]));
        assert_eq!(found.cycles, 4 + 100 * 10 + 4 + 3 - 2);
        let short = Fold { stream: 1, ..Fold::default() };
        let found = schedule(pipe, &folds(&[(&[(short, 100)], 1)]));
        assert_eq!(found.cycles, 100 * 4 + 1 + 4 + 3 - 2, "loads follow each other");
    }

    #[test]
    fn memory_that_is_slower_than_the_array_sets_the_pace() {
        let pipe = Pipe { overlaps: true, latency: 7, ..PIPE };
        let fold = Fold { stationary: 50, stream: 10, ..Fold::default() };
        let found = schedule(pipe, &folds(&[(&[(fold, 1000)], 1)]));
        assert_eq!(found.cycles, 1000 * 50 + 7 + 4 + 10 + 4 + 3 - 2);
        assert_eq!(
            found.streaming + found.fetch + found.load + found.moving + found.drain + found.tail,
            found.cycles
        );
    }

    #[test]
    fn strides_are_what_single_folds_are() {
        let a = Fold { stationary: 9, moving: 3, stream: 10, write: 0 };
        let b = Fold { stationary: 5, moving: 0, stream: 7, write: 21 };
        for overlaps in [false, true] {
            for keeps_sums in [false, true] {
                let pipe = Pipe { overlaps, keeps_sums, ahead: 3, latency: 2, ..PIPE };
                let short = folds(&[(&[(a, 5), (b, 1)], 40), (&[(b, 2), (a, 1)], 9)]);
                // Panels that differ in nothing but a fold that is never reached keep the strides from applying.
                let mut single = Folds::new();
                for fold in short.iter() {
                    single.runs.push(Run {
                        start: single.count,
                        panel: vec![(fold, 1)],
                        length: 1,
                        times: 1,
                    });
                    single.count += 1;
                }
                assert_eq!(schedule(pipe, &short), schedule(pipe, &single));
            }
        }
    }
}
