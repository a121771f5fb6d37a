//! The report as a user asks for it: `compare --html`, old runs drawn again, two runs compared, and what goes wrong.

mod common;

use std::path::Path;

use common::{Folder, text};

fn anychip(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = common::anychip(arguments, 120);
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[track_caller]
fn succeeds(arguments: &[&str]) -> String {
    let (status, out, err) = anychip(arguments);
    assert_eq!(status, Some(0), "{arguments:?}\n{out}\n{err}");
    out
}

#[track_caller]
fn fails(arguments: &[&str], status: i32, parts: &[&str]) {
    let (found, out, err) = anychip(arguments);
    assert_eq!(found, Some(status), "{arguments:?}\n{out}\n{err}");
    for part in parts {
        assert!(err.contains(part), "`{part}` is not in: {err}");
    }
    assert!(!err.contains("panicked"), "{err}");
}

const MODEL: &str = "models/digits-cnn.onnx";
const CHIPS: &str = "nvidia-a100-sxm4-80gb,nvidia-t4,ibm-truenorth";

#[test]
fn a_report_is_written_and_a_run_of_before_gives_the_same() {
    let folder = Folder::new("report");
    let (page, again) = (folder.path("page.html"), folder.path("again.html"));
    let compare = ["compare", MODEL, "--estimate", "--chips", CHIPS, "--json", "--layers"];
    let lines = succeeds(&[&compare[..], &["--html", &page]].concat());
    assert_eq!(lines.lines().count(), 3);
    assert!(lines.contains("\"layers\":[") && lines.contains("\"roof\":{"));
    let records = folder.file("records.jsonl", &lines);
    let table = succeeds(&["compare", &records, "--html", &again]);
    assert!(table.contains("nvidia-t4") && table.contains("Cannot run it"), "{table}");
    let read = |path: &str| std::fs::read_to_string(path).expect("was written");
    assert_eq!(read(&page), read(&again), "a page knows nothing but its records");
    assert!(read(&page).contains("<html lang=\"en\">"));
}

#[test]
fn layers_are_in_the_lines_only_where_they_are_asked_for() {
    let folder = Folder::new("report-layers");
    let page = folder.path("page.html");
    let compare =
        ["compare", MODEL, "--estimate", "--chips", "nvidia-t4", "--json", "--html", &page];
    assert!(!succeeds(&compare).contains("\"layers\""));
    fails(&["compare", MODEL, "--layers"], 2, &["--json"]);
}

#[test]
fn two_runs_are_compared() {
    let folder = Folder::new("report-changes");
    let run = |name: &str, chips: &str, more: &[&str]| {
        let compare = ["compare", MODEL, "--estimate", "--json", "--chips", chips];
        folder.file(name, succeeds(&[&compare[..], more].concat()))
    };
    let old = run("old.json", "nvidia-a100-sxm4-80gb,nvidia-t4", &[]);
    let same = run("same.json", "nvidia-a100-sxm4-80gb,nvidia-t4", &[]);
    let new = run("new.json", "nvidia-t4,nvidia-v100-sxm2-16gb", &[]);
    let text = succeeds(&["compare", &old, &same]);
    assert!(text.starts_with("2 in both runs, 2 of them the same; 0 added, 0 removed."), "{text}");
    let text = succeeds(&["compare", &old, &new]);
    assert!(text.contains("Added: nvidia-v100-sxm2-16gb"), "{text}");
    assert!(text.contains("Removed: nvidia-a100-sxm4-80gb"), "{text}");
    // A latency that is twice what it was, in the text of the run.
    let lines = std::fs::read_to_string(&old).expect("was written");
    let mut moved = String::new();
    for line in lines.lines() {
        let mut record: serde_json::Value = serde_json::from_str(line).expect("JSON");
        for part in ["value", "low", "high"] {
            let number = record["latency_s"][part].as_f64().expect("a number");
            record["latency_s"][part] = (2.0 * number).into();
        }
        moved += &format!("{record}\n");
    }
    let moved = folder.file("moved.json", &moved);
    let page = folder.path("changes.html");
    let text = succeeds(&["compare", &old, &moved, "--html", &page]);
    assert!(text.contains("+100 %") && text.contains("2 latencies changed"), "{text}");
    let page = std::fs::read_to_string(page).expect("was written");
    assert!(page.contains("What changed") && page.contains("+100 %"));
    let lines = succeeds(&["compare", &old, &moved, "--json"]);
    assert!(
        lines.contains("\"change\":\"figure\"") && lines.contains("\"percent\":100.0"),
        "{lines}"
    );
}

#[test]
fn what_cannot_be_read_or_written_is_said_with_its_line_and_a_way_out() {
    let folder = Folder::new("report-errors");
    let compare = ["compare", MODEL, "--estimate", "--chips", "nvidia-t4"];
    let good = folder.file("good.jsonl", succeeds(&[&compare[..], &["--json"]].concat()));
    let line = std::fs::read_to_string(&good).expect("was written");

    let nowhere = folder.path("no/such/folder/page.html");
    fails(
        &[&compare[..], &["--html", &nowhere]].concat(),
        1,
        &["cannot write the report", &nowhere],
    );
    fails(&[&compare[..], &["--html", &folder.path("")]].concat(), 1, &["cannot write the report"]);
    // Nothing is left where there is nothing to report.
    let page = folder.path("page.html");
    fails(&["compare", "no-such-model.onnx", "--html", &page], 1, &["no-such-model.onnx"]);
    assert!(!Path::new(&page).exists());

    let way_out = "anychip compare MODEL --json";
    let schema = folder.file("schema.jsonl", line.replace("\"schema\":1", "\"schema\":7"));
    fails(&["compare", &schema], 1, &["line 1", "schema 7", way_out]);
    fails(&["compare", &good, &schema], 1, &["line 1", "schema 7", "schema.jsonl"]);
    let cut = folder.file("cut.jsonl", format!("{line}{}", &line[..line.len() / 2]));
    fails(&["compare", &cut], 1, &["line 2", way_out]);
    let empty = folder.file("empty.jsonl", "\n");
    fails(&["compare", &empty], 1, &["holds no records", way_out]);
    let blank = folder.file("blank.json", "");
    fails(&["compare", &good, &blank], 1, &["holds no records"]);
    fails(&["compare", &good, MODEL], 1, &[MODEL]);
    fails(&["compare", &good, &folder.path("missing.jsonl")], 1, &["missing.jsonl"]);
    fails(&["compare", &good, &good, "--estimate"], 2, &["--estimate"]);
}
