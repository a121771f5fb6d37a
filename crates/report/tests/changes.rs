//! What changed between two runs: who came and went, which figures moved, and whether intervals had allowed for it.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use anychip_record::{Key, Record};
use anychip_report::{Agreement, Change, changes, changes_table};
use anychip_units::Figure;
use expect_test::expect;

fn record(chip: &str, stack: &str, [low, value, high]: [f64; 3]) -> Record {
    let mut record = Record::new(Key {
        model: "resnet50".into(),
        model_sha256: "ab12".into(),
        chip: chip.into(),
        stack: stack.into(),
        target: None,
        batch: 1,
        dtype: "f16".into(),
    });
    record.set_latency(Figure::estimated(value, low, high, "predict").unwrap()).unwrap();
    let rest = record.unexplained();
    record.mark_absent(rest, "not part of this test");
    record
}

fn refused(chip: &str, why_not: &str) -> Record {
    let Record { model, model_sha256, chip, batch, dtype, .. } = record(chip, "x", [1.0; 3]);
    let key = Key { model, model_sha256, chip, stack: "x".into(), target: None, batch, dtype };
    Record::refused(key, why_not)
}

fn runs() -> (Vec<Record>, Vec<Record>) {
    let old = vec![
        record("same", "s", [1.0, 2.0, 3.0]),
        record("within", "s", [1.0, 2.0, 3.0]),
        record("outside", "s", [1.0, 2.0, 3.0]),
        record("apart", "s", [1.0, 2.0, 3.0]),
        record("narrower", "s", [1.0, 2.0, 3.0]),
        record("renamed", "eager", [1.0, 2.0, 3.0]),
        record("gone", "s", [1.0, 2.0, 3.0]),
        refused("runs-now", "too small"),
        record("fails-now", "x", [1.0, 2.0, 3.0]),
    ];
    let new = vec![
        record("new", "s", [1.0, 2.0, 3.0]),
        record("apart", "s", [4.0, 5.0, 6.0]),
        record("same", "s", [1.0, 2.0, 3.0]),
        record("within", "s", [1.1, 2.1, 3.1]),
        record("outside", "s", [2.1, 2.9, 4.0]),
        record("narrower", "s", [1.9, 2.0, 2.1]),
        record("renamed", "compiled", [1.0, 2.0, 3.0]),
        record("runs-now", "x", [1.0, 2.0, 3.0]),
        refused("fails-now", "no peak"),
    ];
    (old, new)
}

#[test]
fn figures_move_within_outside_or_apart() {
    let (old, new) = runs();
    let found = changes(&old, &new);
    let latency = |chip: &str| {
        found.list.iter().find_map(|of| match &of.change {
            Change::Figure { figure: "latency_s", percent, agreement, .. } if of.chip == chip => {
                Some((percent.unwrap().round(), *agreement))
            }
            _ => None,
        })
    };
    assert_eq!(latency("same"), None);
    assert_eq!(latency("within"), Some((5.0, Agreement::Within)));
    assert_eq!(latency("outside"), Some((45.0, Agreement::Outside)));
    assert_eq!(latency("apart"), Some((150.0, Agreement::Apart)));
    assert_eq!(latency("narrower"), Some((0.0, Agreement::Within)), "its interval moved");
    assert_eq!((found.shared, found.same), (8, 1));
    assert_eq!(changes(&old, &old).list, []);
    assert_eq!(changes(&old, &old).same, old.len());
    let lines: Vec<String> =
        found.list.iter().map(|of| serde_json::to_string(of).unwrap()).collect();
    assert!(lines[0].contains("\"change\":\"added\"") && lines[0].contains("\"chip\":\"new\""));
}

#[test]
fn the_table_at_100_columns() {
    let (old, new) = runs();
    let text = changes_table(&changes(&old, &new), 100);
    for line in text.lines() {
        assert!(line.chars().count() <= 100, "{line}");
    }
    expect![[r"
        8 in both runs, 1 of them the same; 1 added, 1 removed. 4 latencies changed: 1 outside of the
        other's interval, 1 with intervals apart.

        chip      old latency         new latency    latency       inf/s  stack
        ───────────────────────────────────────────────────────────────────────
        apart       2 [1–3] s           5 [4–6] s  +150 % !!  −60.0 % !!  s
        outside     2 [1–3] s     2.90 [2.10–4] s  +45.0 % !   −31.0 % !  s
        within      2 [1–3] s  2.10 [1.10–3.10] s    +5.00 %     −4.76 %  s
        narrower    2 [1–3] s     2 [1.90–2.10] s       ±0 %        ±0 %  s

        ! a value lies outside of the other's interval   !! the intervals do not meet

        Added: new
        Removed: gone
        renamed with compiled; before with eager
        runs-now runs now; before: too small
        fails-now runs no longer: no peak
    "]].assert_eq(&text);
}

#[test]
fn two_runs_of_different_models_are_compared_and_said_to_be() {
    let (old, mut new) = runs();
    for record in &mut new {
        record.model = "resnet50-pruned".into();
    }
    let found = changes(&old, &new);
    assert_eq!(found.shared, 8);
    assert!(found.summary().starts_with("Different models: resnet50, now resnet50-pruned."));
}
