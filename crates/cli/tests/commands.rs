//! The commands as a user calls them: what they print, and with which status they end.

mod common;

use std::process::Output;

use common::{Folder, text};

fn anychip(arguments: &[&str]) -> Output {
    common::anychip(arguments, 140)
}

#[track_caller]
fn succeeds(arguments: &[&str]) -> String {
    let output = anychip(arguments);
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{arguments:?}\n{out}\n{err}");
    out
}

#[track_caller]
fn fails(arguments: &[&str], status: i32) -> String {
    let output = anychip(arguments);
    let err = text(&output.stderr);
    assert_eq!(
        output.status.code(),
        Some(status),
        "{arguments:?}\n{}\n{err}",
        text(&output.stdout)
    );
    assert!(!err.contains("panicked"), "{err}");
    err
}

#[test]
fn the_digits_models_are_as_accurate_as_their_training_said() {
    for (model, least) in [("digits-cnn", 95.0), ("digits-transformer", 93.0), ("digits-rnn", 93.0)]
    {
        let (onnx, npz) = (format!("models/{model}.onnx"), format!("models/{model}.npz"));
        let out = succeeds(&["run", &onnx, "--input", &npz]);
        let line = out.lines().find(|l| l.starts_with("accuracy ")).expect("an accuracy");
        let percent: f64 =
            line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("a number");
        assert!(percent >= least, "{model}: {line}");
        let plain = succeeds(&["run", &onnx, "--input", &npz, "--no-optimize"]);
        assert!(plain.contains(line), "the passes changed the accuracy of {model}: {plain}");
    }
}

#[test]
fn compare_measures_what_is_here_and_estimates_or_refuses_the_rest() {
    let out = succeeds(&["compare", "models/digits-cnn.onnx", "--json"]);
    let records = anychip_record::read_json_lines(&out).expect("records");
    let find =
        |chip: &str| records.iter().find(|r| r.chip == chip).unwrap_or_else(|| panic!("no {chip}"));
    let basis = |chip: &str| find(chip).latency_s.as_ref().map(anychip_units::Figure::basis);
    assert_eq!(basis("cpu"), Some(anychip_units::Basis::Measured));
    assert_eq!(basis("nvidia-a100-sxm4-80gb"), Some(anychip_units::Basis::Estimated));
    // So small a model is all launches. Where what one costs is stated the simulator counts it, elsewhere the estimate stands.
    assert_eq!(basis("google-tpu-v4"), Some(anychip_units::Basis::Simulated));
    assert_eq!(basis("google-tpu-v5e"), Some(anychip_units::Basis::Estimated));
    assert!(find("ibm-truenorth").why_not.as_ref().is_some_and(|why| why.contains("spik")));
    let table = succeeds(&[
        "compare",
        "models/digits-cnn.onnx",
        "--estimate",
        "--chips",
        "nvidia-t4,google-tpu-v4",
    ]);
    assert!(table.contains("nvidia-t4") && table.contains("google-tpu-v4"), "{table}");
}

#[test]
fn optimize_writes_a_model_that_runs_the_same() {
    let folder = Folder::new("optimize");
    let out = folder.path("out.onnx");
    succeeds(&["optimize", "models/digits-transformer.onnx", "-o", &out]);
    let before = succeeds(&[
        "run",
        "models/digits-transformer.onnx",
        "--input",
        "models/digits-transformer.npz",
    ]);
    let after = succeeds(&["run", &out, "--input", "models/digits-transformer.npz"]);
    let accuracy =
        |text: &str| text.lines().find(|l| l.starts_with("accuracy")).map(str::to_string);
    assert_eq!(accuracy(&before), accuracy(&after));
}

#[test]
fn inspect_and_explain_tell_about_a_model() {
    let out = succeeds(&["inspect", "models/digits-cnn.onnx", "--layers"]);
    for word in ["parameters", "MACs", "cpu: all of it", "convolution"] {
        assert!(out.contains(word), "no {word} in {out}");
    }
    let out = succeeds(&["explain", "models/digits-cnn.onnx", "--equations"]);
    assert!(out.contains("fold-batch-norm") && out.contains("nodes on `cpu`"), "{out}");
}

const ACME: &str = r#"
id = "acme-one"
name = "Acme One"
vendor = "Acme"
family = "asic"
stacks = ["acme"]

[sources]
sheet = { text = "a data sheet made up for this test", date = "2026-11" }

[compute.peaks.f32]
dense = { value = 1e12, source = "sheet" }

[[compute.memory]]
name = "DRAM"
off_chip = true
bytes = { value = 8e9, source = "sheet" }
bytes_per_second = { value = 50e9, source = "sheet" }
"#;

#[test]
fn a_chip_is_added_by_one_file() {
    let folder = Folder::new("chip");
    let file = folder.file("acme-one.toml", ACME.as_bytes());
    let page = succeeds(&["chips", "acme-one", "--catalog", &file]);
    assert!(page.contains("Acme One") && page.contains("a data sheet made up"), "{page}");
    let table =
        succeeds(&["compare", "models/digits-cnn.onnx", "--chips", "acme-one", "--catalog", &file]);
    assert!(table.contains("acme-one"), "{table}");
}

#[test]
fn chips_are_filtered_sorted_and_checked() {
    let table = succeeds(&[
        "chips",
        "--family",
        "gpu,asic",
        "--vendor",
        "nvidia",
        "--min-memory",
        "80GB",
        "--sort",
        "memory",
    ]);
    assert!(table.contains("nvidia-b300") && table.contains("nvidia-a100-sxm4-80gb"), "{table}");
    assert!(!table.contains("nvidia-t4") && !table.contains("amd-"), "{table}");
    let place = |id: &str| table.find(id).unwrap();
    assert!(
        place("nvidia-b300") < place("nvidia-h200")
            && place("nvidia-h200") < place("nvidia-h100-nvl")
    );
    let frugal = succeeds(&[
        "chips",
        "--max-power",
        "5W",
        "--dtype",
        "int8",
        "--year",
        "2018..",
        "--sort",
        "power",
        "--reverse",
    ]);
    assert!(frugal.contains("google-edge-tpu") && !frugal.contains("nvidia-"), "{frugal}");
    for wrong in [
        ["--min-memory", "40"],
        ["--max-power", "75GB"],
        ["--family", "gpus"],
        ["--dtype", "f31"],
        ["--year", "2022..2020"],
        ["--sort", "speed"],
    ] {
        fails(&["chips", wrong[0], wrong[1]], 2);
    }
    assert!(fails(&["chips", "--min-memory", "40"], 2).contains("write it as 40GB"));
    assert!(fails(&["chips", "--vendor", "acme"], 1).contains("known are"));
    assert!(fails(&["chips", "--min-memory", "900TB"], 1).contains("take a limit away"));

    let folder = Folder::new("check");
    let good = folder.file("good.toml", ACME.as_bytes());
    let bad = folder.file(
        "bad.toml",
        ACME.replace("value = 1e12,", "value = 1e30,").replace("acme-one", "acme-two").as_bytes(),
    );
    let taken = folder.file("taken.toml", ACME.replace("acme-one", "nvidia-t4").as_bytes());
    assert!(succeeds(&["chips", "--check", &good]).contains("no fault found"));
    let errors = fails(&["chips", "--check", &good, &bad, &taken], 1);
    assert!(errors.contains("bad.toml: `compute.peaks.f32.dense`: 1e30"), "{errors}");
    assert!(
        errors.contains("taken.toml") && errors.contains("give the new chip another `id`"),
        "{errors}"
    );
    assert!(errors.contains("2 of 3 files"), "{errors}");
}

#[test]
fn files_that_are_no_models_are_named_for_what_they_are() {
    let folder = Folder::new("bad");
    let empty = folder.file("empty.onnx", b"");
    let jpeg = folder.file("photo.onnx", b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01\x01");
    let text_file = folder.file("notes.onnx", b"this is not a model at all, only some words\n");
    for file in [&empty, &jpeg, &text_file] {
        let err = fails(&["inspect", file], 1);
        assert!(err.contains(file.as_str()), "{err}");
    }
    assert!(fails(&["inspect", &empty], 1).contains("empty"), "an empty file is called empty");
    assert!(fails(&["inspect", &jpeg], 1).to_lowercase().contains("jpeg"));
    assert!(fails(&["inspect", "models/none.onnx"], 1).contains("models/none.onnx"));
}

#[test]
fn arrays_that_do_not_fit_are_told_apart() {
    let err = fails(&["run", "models/digits-cnn.onnx", "--input", "models/digits-cnn.onnx"], 1);
    assert!(err.contains("expected a NumPy archive"), "{err}");
    let err = fails(&["run", "models/digits-transformer.onnx", "--input", "models/missing.npz"], 1);
    assert!(err.contains("models/missing.npz"), "{err}");
}

#[test]
fn bench_drives_the_scenarios_and_says_how_short_they_are() {
    let model = "models/digits-cnn.onnx";
    let bench = |arguments: &[&str]| {
        let mut all = vec!["bench", model, "--min-duration", "0.2s", "--json"];
        all.extend(arguments);
        let output = anychip(&all);
        let errors = text(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}\n{errors}");
        if arguments.contains(&"--scenario") {
            assert!(errors.contains("not a valid MLPerf duration: 0.2 s of 600 s"), "{errors}");
        }
        anychip_record::Record::from_json(&text(&output.stdout)).expect("a record")
    };
    let single = bench(&["--scenario", "single-stream"]);
    assert!(single.latency_p90_s.is_some_and(|f| f.source().contains("of 600 s")));
    let multi = bench(&["--scenario", "multi-stream", "--batch", "4"]);
    assert_eq!((multi.batch, multi.scenario.as_deref()), (8, Some("multi-stream")));
    assert!(multi.latency_p99_s.is_some());
    let offline = bench(&["--scenario", "offline", "--batch", "8"]);
    assert!(offline.throughput_per_s.is_some() && offline.latency_p90_s.is_none());
    let server = ["--scenario", "server", "--latency-bound", "2s", "--target-qps"];
    let held = bench(&[&server[..], &["2000"]].concat());
    let source = held.throughput_per_s.as_ref().map_or("", anychip_units::Figure::source);
    assert!(source.contains("server at 2 k/s") && source.contains(": valid"), "{source}");
    let rushed =
        bench(&["--scenario", "server", "--latency-bound", "1us", "--target-qps", "100/s"]);
    assert_eq!(rushed.throughput_per_s, None);
    assert!(rushed.absent["throughput_per_s"].contains("not valid"), "{:?}", rushed.absent);
    assert_eq!(bench(&[]).scenario.as_deref(), Some("single-stream"));
    // No bound, a bound without a server, no such rate, samples that runs do not make up.
    fails(&["bench", model, "--scenario", "server"], 2);
    fails(&["bench", model, "--target-qps", "100"], 2);
    fails(&["bench", model, "--scenario", "server", "--latency-bound", "0s"], 2);
    fails(
        &["bench", model, "--scenario", "server", "--latency-bound", "1s", "--target-qps", "-1"],
        2,
    );
    fails(&["bench", model, "--scenario", "offline", "--latency-bound", "1s"], 1);
    fails(&["bench", model, "--scenario", "multi-stream", "--batch", "3"], 1);
}

#[test]
fn wrong_usage_ends_with_status_two() {
    fails(&["compare"], 2);
    fails(&["frobnicate"], 2);
    fails(&["bench", "models/digits-cnn.onnx", "--threads", "0"], 2);
    fails(&["inspect", "models/digits-cnn.onnx", "--dim", "sequence"], 2);
}

#[test]
fn an_unknown_chip_gets_a_suggestion() {
    let err = fails(&["compare", "models/digits-cnn.onnx", "--chips", "nvidia-t5"], 1);
    assert!(err.contains("nvidia-t4"), "{err}");
    let err = fails(
        &["run", "models/digits-cnn.onnx", "--input", "models/digits-cnn.npz", "--on", "nvidia-t4"],
        1,
    );
    assert!(err.contains("only be estimated"), "{err}");
}

#[test]
fn doctor_chips_and_completions_answer() {
    assert!(succeeds(&["doctor"]).contains("chip `cpu`"));
    assert!(succeeds(&["chips", "--family", "neuromorphic"]).contains("truenorth"));
    assert!(succeeds(&["completions", "bash"]).contains("_anychip"));
    for line in succeeds(&["chips", "--json"]).lines() {
        assert!(line.starts_with('{'), "{line}");
    }
}
