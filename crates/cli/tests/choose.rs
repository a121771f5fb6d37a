//! `anychip choose` as a buyer calls it: the front, the reasons, what to relax, and what is wrong with a question.

mod common;

use std::process::Output;

use anychip_record::{Record, Standing};

fn anychip(arguments: &[&str], columns: usize) -> Output {
    common::anychip(&[&["choose"], arguments].concat(), columns)
}

#[track_caller]
fn succeeds(arguments: &[&str], columns: usize) -> String {
    let output = anychip(arguments, columns);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{arguments:?}\n{errors}");
    String::from_utf8(output.stdout).expect("the output is text")
}

#[track_caller]
fn fails(arguments: &[&str], status: i32) -> String {
    let output = anychip(arguments, 80);
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(status), "{arguments:?}\n{errors}");
    assert!(!errors.contains("panicked"), "{errors}");
    errors
}

fn records(arguments: &[&str]) -> Vec<Record> {
    anychip_record::read_json_lines(&succeeds(arguments, 80)).expect("records")
}

fn standing(record: &Record) -> Standing {
    record.verdict.as_ref().expect("every record has a verdict").standing
}

const RESNET: &str = "zoo:resnet50";

#[test]
fn every_chip_is_kept_or_says_why_not() {
    let arguments = [RESNET, "--max-power", "15W", "--max-latency", "50ms", "--json"];
    let found = records(&arguments);
    let catalogue = anychip::Catalog::builtin().expect("built in").chips().count();
    let mut chips: Vec<&str> = found.iter().map(|record| record.chip.as_str()).collect();
    chips.sort_unstable();
    chips.dedup();
    assert_eq!(chips.len(), catalogue + 1, "each chip and this machine's processor");
    for record in &found {
        let verdict = record.verdict.as_ref().expect("every record has a verdict");
        match verdict.standing {
            Standing::Front => {
                let power = record.power_w.as_ref().expect("power is limited, so it is known");
                let latency = record.latency_s.as_ref().expect("latency is limited");
                assert!(power.value() <= 15.0 && latency.value() <= 0.050, "{}", record.chip);
                let unsure = power.high() > 15.0 || latency.high() > 0.050;
                assert_eq!(unsure, !verdict.may_break.is_empty(), "{}", record.chip);
            }
            Standing::Dominated => {
                let winner = verdict.reason.strip_prefix("beaten by ").expect("names the winner");
                let won = found.iter().any(|r| r.chip == winner && standing(r) == Standing::Front);
                assert!(won && verdict.detail.contains(" against "), "{verdict:?}");
            }
            Standing::OverLimit => assert!(verdict.reason.contains("--max-"), "{verdict:?}"),
            Standing::Unknown => assert_eq!(verdict.reason, "no known power"),
            Standing::CannotRun => assert!(record.why_not.is_some(), "{}", record.chip),
        }
    }
    let first_lost = found.iter().position(|r| standing(r) != Standing::Front);
    let last_kept = found.iter().rposition(|r| standing(r) == Standing::Front);
    assert!(last_kept < first_lost, "the front comes first");
}

#[test]
fn a_goal_sorts_the_front_and_names_the_best() {
    let found = records(&[RESNET, "--family", "gpu", "--for", "throughput-per-dollar", "--json"]);
    let front: Vec<&Record> = found.iter().filter(|r| standing(r) == Standing::Front).collect();
    let values: Vec<f64> = front
        .iter()
        .map(|r| r.throughput_per_usd.as_ref().map_or(0.0, anychip_units::Figure::value))
        .collect();
    assert!(values.windows(2).all(|pair| pair[0] >= pair[1]), "{values:?}");
    let best = front[0].throughput_per_usd.as_ref().expect("the best has it");
    for record in &front {
        let ties = record.throughput_per_usd.as_ref().is_some_and(|f| f.high() >= best.low());
        assert_eq!(ties, record.verdict.as_ref().is_some_and(|v| v.best), "{}", record.chip);
    }
    let text = succeeds(&[RESNET, "--family", "gpu", "--for", "throughput-per-dollar"], 100);
    assert!(text.contains("Best for throughput-per-dollar:"), "{text}");
    assert!(text.contains(&front[0].chip) && text.contains("Why not the others:"), "{text}");
}

#[test]
fn tables_fit_the_terminal() {
    for columns in [80, 140] {
        for more in [&["--for", "energy"][..], &["--all"], &["--max-power", "15W", "--verbose"]] {
            let mut arguments = vec![RESNET];
            arguments.extend(more);
            let text = succeeds(&arguments, columns);
            for line in text.lines() {
                // A word longer than the line, such as a source's address, stays whole.
                let wide = line.chars().count() > columns && line.trim().contains(' ');
                let long = line.split(' ').any(|word| word.chars().count() + 8 > columns);
                assert!(!wide || long, "{columns} columns: {line}");
            }
        }
    }
}

#[test]
fn batches_and_formats_are_searched_or_given() {
    let batches = |arguments: &[&str]| -> Vec<u64> {
        let mut all = vec![RESNET, "--chips", "nvidia-rtx-4090", "--json"];
        all.extend(arguments);
        records(&all).iter().map(|record| record.batch).collect()
    };
    let free = batches(&["--for", "throughput"])[0];
    let tight = batches(&["--for", "throughput", "--max-latency", "5ms"])[0];
    assert!(tight < free, "a limit on latency keeps batches small: {tight}, {free}");
    assert_eq!(batches(&["--for", "throughput", "--batch", "2,4"]), [4]);
    let formats =
        |dtype: &str| records(&[RESNET, "--chips", "furiosa-warboy", "--dtype", dtype, "--json"]);
    let int8 = formats("int8");
    assert_eq!((int8[0].dtype.as_str(), standing(&int8[0])), ("int8", Standing::Front));
    let output = anychip(&[RESNET, "--chips", "furiosa-warboy"], 100);
    assert_eq!(output.status.code(), Some(1), "it computes in none of the default formats");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("--dtype int8"), "the way out is named: {text}");
}

#[test]
fn limits_that_no_chip_keeps_say_which_to_relax() {
    let errors = fails(&[RESNET, "--max-power", "1mW"], 1);
    assert!(errors.contains("none of the") && errors.contains("help: --max-power "), "{errors}");
    // What it proposes is enough.
    let options = errors.split("help: ").nth(1).and_then(|rest| rest.split(", which").next());
    let options: Vec<&str> = options.expect("a proposal").split(' ').collect();
    let mut again = vec![RESNET];
    again.extend(options);
    assert!(succeeds(&again, 100).contains("may break a limit"));
    let errors = fails(&[RESNET, "--max-latency", "1us", "--max-price", "1usd"], 1);
    assert!(errors.contains("--max-latency") && errors.contains("--max-price"), "{errors}");
}

#[test]
fn wrong_questions_end_with_status_two_and_how_to_ask() {
    for (arguments, says) in [
        (["--max-latency", "0s"], "write it as 10ms"),
        (["--max-power", "-15W"], "write it as 15W"),
        (["--max-power", "15"], "write it as 15W"),
        (["--max-price", "500W"], "write it as 500usd"),
        (["--max-price-per-hour", "cheap"], "write it as 2usd/h"),
        (["--max-area", "1e999mm2"], "write it as 100mm2"),
        (["--min-throughput", "200"], "write it as 200/s"),
        (["--for", "speed"], "known are latency"),
        (["--dtype", "f31"], "known are f64"),
        (["--batch", "0"], "0"),
    ] {
        let mut all = vec![RESNET];
        all.extend(arguments);
        let errors = fails(&all, 2);
        assert!(errors.contains(says), "{arguments:?}: {errors}");
    }
    let twice = [RESNET, "--min-throughput", "200/s", "--min-throughput", "300/s"];
    assert!(fails(&twice, 2).contains("cannot be used multiple times"));
    fails(&["zoo:none-such"], 1);
    assert!(fails(&[RESNET, "--chips", "nvidia-t5"], 1).contains("nvidia-t4"));
    assert!(fails(&[RESNET, "--vendor", "acme"], 1).contains("no vendor is called `acme`"));
    let none = ["--vendor", "nvidia", "--family", "quantum"];
    assert!(fails(&[&[RESNET], &none[..]].concat(), 1).contains("no chip of the"));
}

#[test]
fn this_machine_is_measured_when_asked() {
    let model = "models/digits-cnn.onnx";
    let found = records(&[model, "--chips", "cpu", "--measure", "--batch", "1", "--json"]);
    let measured = anychip_units::Basis::Measured;
    assert_eq!(found[0].latency_s.as_ref().map(anychip_units::Figure::basis), Some(measured));
    let found = records(&[model, "--chips", "cpu", "--batch", "1", "--json"]);
    assert_ne!(found[0].latency_s.as_ref().map(anychip_units::Figure::basis), Some(measured));
}
