//! What a scenario's outcome says in a Record.

use anychip_record::{Field, Record, percentiles};
use anychip_units::{Figure, FigureError, PerSecond, Seconds, format};

use super::{MLPERF_DURATION, Outcome, Scenario};

/// Sets latency, percentiles and throughput. A scenario that was asked for by name is held against MLPerf's rules in the
/// figures' sources.
pub(crate) fn set(
    record: &mut Record,
    scenario: Option<&Scenario>,
    outcome: &Outcome,
) -> Result<(), FigureError> {
    let source = match scenario {
        None => "clock".to_string(),
        Some(scenario) => format!("clock, {}", rules(scenario, outcome)),
    };
    if let Some(found) = percentiles(&outcome.latencies, &source) {
        record.set_percentiles(found?)?;
    } else {
        let mut sorted = outcome.latencies.clone();
        sorted.sort_by(f64::total_cmp);
        record.set_latency(Figure::measured(sorted[sorted.len() / 2], source.clone())?)?;
        record.mark_absent(
            [Field::LatencyP50, Field::LatencyP90, Field::LatencyP99],
            "fewer than six runs",
        );
    }
    let Some(scenario) = scenario else { return Ok(()) };
    record.scenario = Some(scenario.word().to_string());
    let completed = || Figure::measured(outcome.samples as f64 / outcome.seconds, source.clone());
    match scenario {
        Scenario::SingleStream => {}
        Scenario::MultiStream => record.set_throughput(completed()?),
        Scenario::Offline => {
            record.set_throughput(completed()?);
            // All queries are there at once: only the rate means anything.
            (record.latency_p50_s, record.latency_p90_s, record.latency_p99_s) = (None, None, None);
            let reason = "offline: queries do not arrive one by one";
            record.mark_absent([Field::LatencyP50, Field::LatencyP90, Field::LatencyP99], reason);
        }
        Scenario::Server { .. } => match outcome.server {
            Some(found) if found.valid => record.set_throughput(completed()?),
            Some(_) | None => {
                record.throughput_per_s = None;
                record.mark_absent([Field::Throughput], rules(scenario, outcome));
            }
        },
    }
    Ok(())
}

/// The scenario with its parameters and what MLPerf would say of the run: `offline, not a valid MLPerf duration: 10 s of 600 s`.
fn rules(scenario: &Scenario, outcome: &Outcome) -> String {
    let mut text = scenario.word().to_string();
    if let Some(found) = &outcome.server {
        let (valid, why) = if found.valid {
            ("valid", if found.searched { ", the highest such rate found" } else { "" })
        } else if found.searched {
            ("not valid", ", and no higher rate is")
        } else {
            ("not valid", "")
        };
        text += &format!(
            " at {} of random arrivals, {} answered later than {}: {valid}{why}",
            format::quantity::<PerSecond>(found.rate),
            format::quantity::<anychip_units::Ratio>(found.late),
            format::quantity::<Seconds>(found.bound),
        );
    }
    let least = MLPERF_DURATION.as_secs_f64();
    if outcome.seconds < least {
        text += &format!(
            ", not a valid MLPerf duration: {} s of {least} s",
            format::significant(outcome.seconds, 3)
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::server::Found;
    use super::*;
    use anychip_record::Key;

    fn record(batch: u64) -> Record {
        Record::new(Key {
            model: "m".into(),
            model_sha256: "0".into(),
            chip: "c".into(),
            stack: "s".into(),
            target: None,
            batch,
            dtype: "f32".into(),
        })
    }

    fn outcome(count: usize, server: Option<Found>) -> Outcome {
        Outcome { latencies: vec![0.010; count], samples: 800, seconds: 10.0, server }
    }

    #[test]
    fn each_scenario_sets_what_it_is_about() {
        let mut single = record(1);
        set(&mut single, Some(&Scenario::SingleStream), &outcome(100, None)).unwrap();
        assert_eq!(single.latency_p90_s.as_ref().map(Figure::value), Some(0.010));
        let source = single.latency_p90_s.as_ref().map_or("", Figure::source);
        assert!(source.contains("not a valid MLPerf duration: 10.0 s of 600 s"), "{source}");
        assert!(single.absent["latency_p99_s"].contains("too few"), "a p99 takes 368 queries");

        let mut multi = record(8);
        set(&mut multi, Some(&Scenario::MultiStream), &outcome(400, None)).unwrap();
        assert_eq!(multi.throughput_per_s.as_ref().map(Figure::value), Some(80.0));
        assert!(multi.latency_p99_s.is_some());

        let mut offline = record(1);
        set(&mut offline, Some(&Scenario::Offline), &outcome(800, None)).unwrap();
        assert_eq!(offline.throughput_per_s.as_ref().map(Figure::value), Some(80.0));
        assert_eq!(offline.latency_p99_s, None);
    }

    #[test]
    fn a_rate_that_is_not_valid_is_no_throughput() {
        let scenario = Scenario::Server { target: Some(80.0), bound: 0.005, seed: 1 };
        let found = Found { rate: 80.0, bound: 0.005, late: 0.25, valid: false, searched: false };
        let mut failed = record(1);
        set(&mut failed, Some(&scenario), &outcome(400, Some(found))).unwrap();
        assert_eq!(failed.throughput_per_s, None);
        assert!(
            failed.absent["throughput_per_s"]
                .contains("25.0 % answered later than 5 ms: not valid")
        );
        let mut held = record(1);
        let found = Found { late: 0.0, valid: true, ..found };
        set(&mut held, Some(&scenario), &outcome(400, Some(found))).unwrap();
        assert_eq!(held.throughput_per_s.as_ref().map(Figure::value), Some(80.0));
    }

    #[test]
    fn a_run_without_a_scenario_names_none() {
        let mut plain = record(1);
        set(&mut plain, None, &outcome(100, None)).unwrap();
        assert_eq!(plain.scenario, None);
        assert_eq!(plain.latency_s.as_ref().map(Figure::source), Some("clock, 100 runs"));
    }
}
