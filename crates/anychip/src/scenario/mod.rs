//! How queries arrive in a benchmark: the four scenarios of MLPerf inference, on a clock that is given.
//!
//! What is here reads no clock and runs no model: it drives a [`System`], which has both, so the tests have a made-up one.
//! The rules are those of MLPerf Inference (`inference_rules.adoc` of <https://github.com/mlcommons/inference_policies>, section
//! "Scenarios", read on 2026-11-23); `docs/metrics.md` says what is done differently.

mod arrivals;
mod result;
mod server;

use std::time::Duration;

pub(crate) use result::set;
pub(crate) use server::Found;

use arrivals::Arrivals;

/// How queries arrive.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Scenario {
    /// One sample a query, the next when the last is done: the 90th percentile of latency counts.
    SingleStream,
    /// Eight samples a query, the next when the last is done: the 99th percentile of latency counts.
    MultiStream,
    /// Single samples at random times: the highest rate counts at which 99 of 100 are answered in time.
    Server {
        /// Queries a second; the highest valid rate is looked for where there is none.
        target: Option<f64>,
        /// Seconds in which a query has to be answered.
        bound: f64,
        /// Decides the arrival times.
        seed: u64,
    },
    /// All samples are there from the start: throughput counts.
    Offline,
}

/// Samples in a query of [`Scenario::MultiStream`].
pub const STREAMS: u64 = 8;

/// The shortest duration of a run by MLPerf's rules, in every scenario.
pub const MLPERF_DURATION: Duration = Duration::from_mins(10);

impl Scenario {
    /// The word for commands and Records.
    pub fn word(&self) -> &'static str {
        match self {
            Self::SingleStream => "single-stream",
            Self::MultiStream => "multi-stream",
            Self::Server { .. } => "server",
            Self::Offline => "offline",
        }
    }

    /// The fewest queries whose interesting percentile has an interval: 36 for a p90, 368 for a p99.
    pub fn fewest_queries(&self) -> usize {
        match self {
            Self::SingleStream => 36,
            Self::MultiStream | Self::Server { .. } => 368,
            Self::Offline => 1,
        }
    }
}

/// What is driven: a model that runs, and the clock that goes on meanwhile.
pub(crate) trait System {
    /// Why a run can fail.
    type Error;
    /// Seconds since some fixed moment.
    fn now(&self) -> f64;
    /// Returns once [`System::now`] is `moment` or later.
    fn wait_until(&mut self, moment: f64);
    /// Runs the model once, on as many samples as one run takes.
    fn run(&mut self) -> Result<(), Self::Error>;
}

/// How long a scenario is driven.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Length {
    /// Least seconds in which queries are issued.
    pub(crate) seconds: f64,
    /// Least number of queries.
    pub(crate) queries: usize,
    /// Samples in one run of the system.
    pub(crate) batch: u64,
}

/// What was seen.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Outcome {
    /// The latency of each query in seconds, in the order of completion.
    pub(crate) latencies: Vec<f64>,
    /// Samples answered.
    pub(crate) samples: u64,
    /// Seconds from the first query to the last answer.
    pub(crate) seconds: f64,
    /// Of a server: the rate, whether it was valid, and what was tried.
    pub(crate) server: Option<Found>,
}

/// The most latencies that are kept; a very small model runs no longer than that many queries.
const MOST_QUERIES: usize = 1_000_000;

/// Drives a system through a scenario.
///
/// # Errors
/// When a run of the system fails.
pub(crate) fn drive<S: System>(
    scenario: &Scenario,
    system: &mut S,
    length: &Length,
) -> Result<Outcome, S::Error> {
    match *scenario {
        // Offline, the samples are there at once, and the system takes a run's worth of them at a time.
        Scenario::SingleStream | Scenario::Offline => stream(system, length, length.batch),
        Scenario::MultiStream => stream(system, length, STREAMS.max(length.batch)),
        Scenario::Server { target: Some(target), bound, seed } => {
            server::hold(system, length, target, bound, seed)
        }
        Scenario::Server { target: None, bound, seed } => server::find(system, length, bound, seed),
    }
}

/// One query after another, each of so many samples.
fn stream<S: System>(system: &mut S, length: &Length, samples: u64) -> Result<Outcome, S::Error> {
    let runs = samples.div_ceil(length.batch.max(1));
    let start = system.now();
    let mut latencies = Vec::new();
    let mut before = start;
    while (latencies.len() < length.queries || before - start < length.seconds)
        && latencies.len() < MOST_QUERIES
    {
        for _ in 0..runs {
            system.run()?;
        }
        let now = system.now();
        latencies.push(now - before);
        before = now;
    }
    let samples = samples * latencies.len() as u64;
    Ok(Outcome { latencies, samples, seconds: before - start, server: None })
}

#[cfg(test)]
pub(crate) mod fake {
    //! A system whose clock only runs while it works or waits.

    use super::System;

    pub(crate) struct Fake<F: FnMut(usize) -> f64> {
        pub(crate) clock: f64,
        pub(crate) runs: usize,
        pub(crate) takes: F,
    }

    impl<F: FnMut(usize) -> f64> Fake<F> {
        /// A system whose n-th run takes as many seconds as `takes` says.
        pub(crate) fn new(takes: F) -> Self {
            Self { clock: 100.0, runs: 0, takes }
        }
    }

    impl<F: FnMut(usize) -> f64> System for Fake<F> {
        type Error = std::convert::Infallible;

        fn now(&self) -> f64 {
            self.clock
        }

        fn wait_until(&mut self, moment: f64) {
            self.clock = self.clock.max(moment);
        }

        fn run(&mut self) -> Result<(), Self::Error> {
            self.clock += (self.takes)(self.runs);
            self.runs += 1;
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::fake::Fake;
    use super::*;

    const LENGTH: Length = Length { seconds: 1.0, queries: 36, batch: 1 };

    #[test]
    fn a_stream_is_driven_for_its_time_and_its_queries() {
        let quick = drive(&Scenario::SingleStream, &mut Fake::new(|_| 0.001), &LENGTH).unwrap();
        assert!((1000..=1001).contains(&quick.latencies.len()), "{}", quick.latencies.len());
        assert!(quick.latencies.iter().all(|l| (l - 0.001).abs() < 1e-9));
        let slow = drive(&Scenario::SingleStream, &mut Fake::new(|_| 0.5), &LENGTH).unwrap();
        assert_eq!((slow.latencies.len(), slow.samples), (36, 36));
        assert!((slow.seconds - 18.0).abs() < 1e-9);
    }

    #[test]
    fn a_query_of_many_streams_has_eight_samples() {
        for (batch, runs) in [(1, 8), (2, 4), (8, 1)] {
            let mut system = Fake::new(|_| 0.01);
            let length = Length { seconds: 0.0, queries: 10, batch };
            let found = drive(&Scenario::MultiStream, &mut system, &length).unwrap();
            assert_eq!((system.runs, found.samples), (10 * runs, 80));
            assert!(found.latencies.iter().all(|l| (l - 0.01 * runs as f64).abs() < 1e-9));
        }
    }

    #[test]
    fn offline_counts_samples_by_the_whole_time() {
        // Every tenth run is disturbed: the whole time counts, not the typical run.
        let mut system = Fake::new(|n| if n % 10 == 9 { 0.11 } else { 0.01 });
        let length = Length { seconds: 20.0, queries: 1, batch: 4 };
        let found = drive(&Scenario::Offline, &mut system, &length).unwrap();
        let rate = found.samples as f64 / found.seconds;
        assert!((rate - 4.0 / 0.02).abs() < 2.0, "{rate}");
    }
}
