//! The server scenario: queries at random times, answered in time or not, and the highest rate at which they are.

use std::collections::VecDeque;

use super::{Arrivals, Length, MOST_QUERIES, Outcome, System};

/// A rate that was held, or not.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Found {
    /// Queries a second that arrived, on average.
    pub(crate) rate: f64,
    /// Seconds in which a query had to be answered.
    pub(crate) bound: f64,
    /// The share of queries that were answered later.
    pub(crate) late: f64,
    /// At most one query in a hundred was late.
    pub(crate) valid: bool,
    /// No rate was asked for: this is the highest valid one that was found.
    pub(crate) searched: bool,
}

/// The share of queries that may be late.
const MAY_BE_LATE: f64 = 0.01;

/// Halvings of the range in which the highest rate is looked for.
const HALVINGS: usize = 7;

/// The share of the whole time that each of them is tried for.
const TRIAL: f64 = 0.2;

/// By what a rate that fails over the whole time is lowered.
const STEP_DOWN: f64 = 0.95;

/// How often.
const MOST_STEPS: usize = 10;

/// Queries at a given rate. Those that wait are taken together, as many as one run has room for, the oldest first. Latency
/// counts from the moment a query is due. Ends early once more queries are late than may be.
pub(super) fn hold<S: System>(
    system: &mut S,
    length: &Length,
    rate: f64,
    bound: f64,
    seed: u64,
) -> Result<Outcome, S::Error> {
    let planned =
        (rate * length.seconds).ceil().max(length.queries as f64).min(MOST_QUERIES as f64);
    let most_late = (planned * MAY_BE_LATE).floor();
    let start = system.now();
    // On the system's clock, so that a moment waited for has come: a difference from the start may round below it.
    let moments = Arrivals::new(rate, seed).map(|moment| start + moment);
    let mut due = moments.take(planned as usize).peekable();
    let mut waiting: VecDeque<f64> = VecDeque::new();
    let mut latencies = Vec::new();
    let mut late = 0.0;
    loop {
        let now = system.now();
        while let Some(moment) = due.next_if(|moment| *moment <= now) {
            waiting.push_back(moment);
        }
        if waiting.is_empty() {
            let Some(&moment) = due.peek() else { break };
            system.wait_until(moment);
            continue;
        }
        system.run()?;
        let now = system.now();
        let taken = waiting.len().min(usize::try_from(length.batch).unwrap_or(usize::MAX).max(1));
        for moment in waiting.drain(..taken) {
            latencies.push(now - moment);
            late += f64::from(u8::from(now - moment > bound));
        }
        if late > most_late {
            break;
        }
    }
    let late = late / latencies.len().max(1) as f64;
    let found = Found { rate, bound, late, valid: late <= MAY_BE_LATE, searched: false };
    Ok(Outcome {
        samples: latencies.len() as u64,
        seconds: system.now() - start,
        latencies,
        server: Some(found),
    })
}

/// The highest rate that is valid: by halving the range up to what runs without a pause would answer, in short trials, then
/// for the whole time, lowered as long as it fails.
pub(super) fn find<S: System>(
    system: &mut S,
    length: &Length,
    bound: f64,
    seed: u64,
) -> Result<Outcome, S::Error> {
    let before = system.now();
    system.run()?;
    system.run()?;
    let seconds = ((system.now() - before) / 2.0).max(1e-9);
    // No rate is answered for long that is above this.
    let capacity = length.batch.max(1) as f64 / seconds;
    let trial = Length { seconds: length.seconds * TRIAL, ..*length };
    let (mut low, mut high) = (0.0, capacity);
    for step in 0..HALVINGS {
        let rate = f64::midpoint(low, high);
        // Each on a schedule of its own, so that none is tuned to.
        let outcome = hold(system, &trial, rate, bound, seed.wrapping_add(1 + step as u64))?;
        if outcome.server.is_some_and(|found| found.valid) { low = rate } else { high = rate }
    }
    let mut rate = if low > 0.0 { low } else { high };
    for _ in 0..MOST_STEPS {
        let outcome = hold(system, length, rate, bound, seed)?;
        if outcome.server.is_some_and(|found| found.valid) {
            return Ok(searched(outcome));
        }
        rate *= STEP_DOWN;
    }
    // Nothing near it is valid; the last one says by how much not.
    Ok(searched(hold(system, length, rate, bound, seed)?))
}

fn searched(outcome: Outcome) -> Outcome {
    let server = outcome.server.map(|found| Found { searched: true, ..found });
    Outcome { server, ..outcome }
}

#[cfg(test)]
mod tests {
    use super::super::{Scenario, drive, fake::Fake};
    use super::*;

    const LENGTH: Length = Length { seconds: 60.0, queries: 368, batch: 1 };

    fn serve(target: Option<f64>, bound: f64, length: &Length, takes: f64) -> Outcome {
        let scenario = Scenario::Server { target, bound, seed: 3 };
        drive(&scenario, &mut Fake::new(|_| takes), length).unwrap()
    }

    #[test]
    fn few_queries_are_answered_at_once_and_too_many_are_not() {
        // 10 ms each: 100 a second are all there is.
        let calm = serve(Some(5.0), 0.050, &LENGTH, 0.010).server.unwrap();
        assert!(calm.valid && !calm.searched && calm.late <= 0.01, "{calm:?}");
        let rushed = serve(Some(150.0), 0.050, &LENGTH, 0.010);
        let found = rushed.server.unwrap();
        assert!(!found.valid && found.late > 0.01, "{found:?}");
        assert!(rushed.seconds < 10.0, "it does not go on to the end: {}", rushed.seconds);
        let impossible = serve(Some(1.0), 0.005, &LENGTH, 0.010).server.unwrap();
        assert!(!impossible.valid, "the model alone takes longer than the bound");
    }

    #[test]
    fn waiting_times_are_those_of_queuing_theory() {
        // One server, deterministic service, load 0.5: the mean wait is load / (2 (1 - load)) services (Pollaczek, Khinchine).
        let length = Length { seconds: 2000.0, ..LENGTH };
        let outcome = serve(Some(50.0), 10.0, &length, 0.010);
        let mean = outcome.latencies.iter().sum::<f64>() / outcome.latencies.len() as f64;
        assert!((mean / 0.015 - 1.0).abs() < 0.03, "{mean}");
    }

    #[test]
    fn queries_that_wait_share_a_run() {
        let length = Length { batch: 8, ..LENGTH };
        let alone = serve(Some(200.0), 0.100, &LENGTH, 0.010).server.unwrap();
        let shared = serve(Some(200.0), 0.100, &length, 0.010).server.unwrap();
        assert!(!alone.valid && shared.valid, "{alone:?} {shared:?}");
    }

    #[test]
    fn the_highest_valid_rate_is_found() {
        let found = serve(None, 0.050, &LENGTH, 0.010).server.unwrap();
        assert!(found.valid && found.searched, "{found:?}");
        assert!(found.rate < 100.0, "no more than runs without a pause: {}", found.rate);
        let next = serve(Some(found.rate * 1.25), 0.050, &LENGTH, 0.010).server.unwrap();
        assert!(!next.valid, "{} is valid, and so is a quarter more", found.rate);
        let never = serve(None, 0.005, &LENGTH, 0.010).server.unwrap();
        assert!(!never.valid && never.searched, "{never:?}");
    }
}
