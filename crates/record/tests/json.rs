//! The serialized form: what it looks like, that it reads back, and what is refused.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use anychip_record::{
    Field, Key, Ownership, Record, RecordError, percentiles, read_json_lines, write_json_lines,
};
use anychip_units::Figure;
use expect_test::expect;

fn key(chip: &str) -> Key {
    Key {
        model: "resnet50".into(),
        model_sha256: "ab12".into(),
        chip: chip.into(),
        stack: "pytorch-compile".into(),
        target: None,
        batch: 1,
        dtype: "f16".into(),
    }
}

fn estimated() -> Record {
    let mut record = Record::new(key("nvidia-a100-sxm4-80gb"));
    let latency = Figure::estimated(0.00061, 0.0005, 0.00074, "predict/gpu v3").unwrap();
    record.set_latency(latency).unwrap();
    record.set_work(8.2e9, 0.0).unwrap();
    let rent = Figure::stated(3.93, "list").unwrap();
    record.set_cost(None, Some(rent), &Ownership::default()).unwrap();
    record.die_mm2 = Some(Figure::stated(826.0, "sheet").unwrap());
    record.mark_absent([Field::Ips], "no instruction counter on this machine");
    let rest = record.unexplained();
    record.mark_absent(rest, "not part of this test");
    record
}

#[test]
fn the_serialized_form_is_flat_and_stable() {
    let pretty =
        serde_json::to_string_pretty(&Record { absent: [].into(), ..estimated() }).unwrap();
    expect![[r#"
        {
          "schema": 1,
          "model": "resnet50",
          "model_sha256": "ab12",
          "chip": "nvidia-a100-sxm4-80gb",
          "stack": "pytorch-compile",
          "target": null,
          "batch": 1,
          "dtype": "f16",
          "runs": true,
          "latency_s": {
            "value": 0.00061,
            "low": 0.0005,
            "high": 0.00074,
            "basis": "estimated",
            "source": "predict/gpu v3"
          },
          "throughput_per_s": {
            "value": 1639.344262295082,
            "low": 1351.3513513513515,
            "high": 2000.0,
            "basis": "estimated",
            "source": "predict/gpu v3"
          },
          "flops": {
            "value": 13442622950819.672,
            "low": 11081081081081.082,
            "high": 16400000000000.0,
            "basis": "estimated",
            "source": "predict/gpu v3"
          },
          "price_usd_per_hour": {
            "value": 3.93,
            "low": 3.93,
            "high": 3.93,
            "basis": "estimated",
            "source": "list"
          },
          "throughput_per_usd": {
            "value": 1501689.4005756476,
            "low": 1237879.1004745204,
            "high": 1832061.06870229,
            "basis": "estimated",
            "source": "predict/gpu v3; list; rented"
          },
          "die_mm2": {
            "value": 826.0,
            "low": 826.0,
            "high": 826.0,
            "basis": "estimated",
            "source": "sheet"
          },
          "absent": {},
          "why_not": null
        }"#]]
    .assert_eq(&pretty);
}

#[test]
fn records_read_back_bit_for_bit() {
    let mut refused = Record::refused(key("ibm-truenorth"), "conv_1: needs 8-bit weights");
    refused.die_mm2 = Some(Figure::stated(430.0, "paper").unwrap());
    let mut measured = Record::new(Key { target: Some("cpu".into()), ..key("cpu") });
    let samples: Vec<f64> =
        (0..500).map(|i| 0.001 + f64::from(i * 13 % 101) * 1e-6 / 3.0).collect();
    measured.set_percentiles(percentiles(&samples, "clock").unwrap().unwrap()).unwrap();
    (measured.scenario, measured.threads) = (Some("single-stream".into()), Some(2));
    let rest = measured.unexplained();
    measured.mark_absent(rest, "not part of this test");
    let records = vec![estimated(), refused, measured];
    let mut text = Vec::new();
    write_json_lines(&records, &mut text).unwrap();
    let text = String::from_utf8(text).unwrap();
    assert_eq!(text.lines().count(), 3);
    assert_eq!(read_json_lines(&format!("\n{text}\n")).unwrap(), records);
}

#[test]
fn another_schema_is_named() {
    let old = estimated().to_json_line().unwrap().replace("\"schema\":1", "\"schema\":7");
    expect!["line 2: a record of schema 7 was met, this version reads schema 1; run the comparison again to rewrite it"].assert_eq(&read_json_lines(&format!("\n{old}")).unwrap_err().to_string());
    let none = old.replace("\"schema\":7,", "");
    assert!(Record::from_json(&none).unwrap_err().to_string().contains("schema none"));
}

#[test]
fn bad_texts_are_refused_without_a_panic() {
    for bad in ["", "{", "[]", "null", "{\"schema\":1}", "\u{0}", "{\"schema\":1,\"model\":3}"] {
        assert!(Record::from_json(bad).is_err(), "{bad:?}");
    }
    let good = estimated().to_json_line().unwrap();
    for cut in 0..good.len() {
        if let Some(part) = good.get(..cut) {
            assert!(Record::from_json(part).is_err());
        }
    }
    let typo = good.replace("\"die_mm2\"", "\"die_mm\"");
    assert!(matches!(Record::from_json(&typo), Err(RecordError::Json(_))));
    let nan = good.replace("\"value\":826.0", "\"value\":0.0");
    assert_ne!(nan, good);
    assert!(Record::from_json(&nan).is_err(), "zero square millimeters");
}

#[test]
fn a_record_that_contradicts_itself_is_neither_written_nor_read() {
    let faults: Vec<(&str, Record)> = vec![
        ("says why it does not", Record { why_not: Some("x".into()), ..estimated() }),
        ("does not say why", Record { runs: false, ..estimated() }),
        ("has a `latency_s`", Record { runs: false, why_not: Some("x".into()), ..estimated() }),
        ("neither there nor explained: latency_s", Record::new(key("cpu"))),
        ("both there and absent", {
            let mut record = estimated();
            record.absent.insert("latency_s".into(), "x".into());
            record
        }),
        ("absent without a reason", {
            let mut record = estimated();
            record.absent.insert("ips".into(), " ".into());
            record
        }),
        ("which is no figure", {
            let mut record = estimated();
            record.absent.insert("speed".into(), "x".into());
            record
        }),
        ("a batch of 0", Record { batch: 0, ..estimated() }),
    ];
    for (text, record) in faults {
        let error = record.to_json_line().unwrap_err().to_string();
        assert!(error.contains(text), "{error}");
        let written = serde_json::to_string(&record).unwrap();
        assert!(Record::from_json(&written).unwrap_err().to_string().contains(text));
    }
}
