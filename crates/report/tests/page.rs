//! The HTML page: every figure in it is the record's, no word of a record is markup, nothing is fetched.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use anychip_record::{ChipRow, Field, Key, Layer, Origin, Ownership, Record, Roof};
use anychip_report::{PageError, changes, html_page};
use anychip_units::Figure;

/// A linear congruential generator (Knuth's MMIX constants).
struct Random(u64);

impl Random {
    /// Between 0 and 1.
    fn unit(&mut self) -> f64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }

    /// From `10^-low` to `10^high`.
    fn spread(&mut self, low: f64, high: f64) -> f64 {
        10f64.powf(self.unit() * (high + low) - low)
    }
}

fn record(chip: &str, model: &str, random: &mut Random) -> Record {
    let mut record = Record::new(Key {
        model: model.into(),
        model_sha256: "ab12".into(),
        chip: chip.into(),
        stack: "pytorch-compile".into(),
        target: None,
        batch: 1 + (random.unit() * 8.0) as u64,
        dtype: "f16".into(),
    });
    let seconds = random.spread(5.0, 2.0);
    let measured = random.unit() < 0.3;
    let latency = if measured {
        Figure::measured(seconds, "clock")
    } else {
        Figure::estimated(seconds, 0.71 * seconds, 1.43 * seconds, "predict, not \"validated\" <b>")
    };
    record.set_latency(latency.unwrap()).unwrap();
    record.set_work(random.spread(0.0, 12.0), 0.0).unwrap();
    let peak = Figure::estimated(2e14, 2e14, 2e14, "a data sheet").unwrap();
    record.set_utilization(&peak).unwrap();
    let bandwidth = Figure::estimated(1e12, 1e12, 1e12, "a data sheet").unwrap();
    record.roof = Some(Roof { peak, bandwidth: Some(bandwidth) });
    if random.unit() < 0.7 {
        let watts = random.spread(3.0, 4.0);
        record
            .set_power(Figure::estimated(watts, 0.5 * watts, watts, "design power").unwrap())
            .unwrap();
    }
    let price = random.spread(-1.0, 5.0);
    let price = Figure::estimated(price, price, price, "list price").unwrap();
    record.set_cost(Some(price), None, &Ownership::default()).unwrap();
    record.chip_row = Some(ChipRow {
        name: format!("The {chip}"),
        vendor: "Maker & Sons".into(),
        family: "gpu".into(),
        year: Some(2020),
    });
    record.origin = Some(Origin { software: "anychip 0".into(), machine: "a machine".into() });
    for (name, share) in [("stem", 0.25), ("head", 0.75)] {
        record.layers.push(Layer {
            name: name.into(),
            kernel: "linear".into(),
            seconds: share * seconds,
            operations: 1e9,
            bytes: 1e6,
        });
    }
    let rest = record.unexplained();
    record.mark_absent(rest, "not part of this test");
    record.check().unwrap();
    record
}

fn refused(chip: &str, model: &str, why_not: &str) -> Record {
    let key = Key {
        model: model.into(),
        model_sha256: "ab12".into(),
        chip: chip.into(),
        stack: "anychip".into(),
        target: None,
        batch: 1,
        dtype: "f16".into(),
    };
    Record::refused(key, why_not)
}

/// The text between two marks, and what follows.
fn between<'a>(text: &'a str, start: &str, end: &str) -> Option<(&'a str, &'a str)> {
    text.split_once(start)?.1.split_once(end)
}

/// The text of a piece of markup as a reader sees it.
fn visible(markup: &str) -> String {
    let mut out = String::new();
    let mut inside = false;
    for letter in markup.chars() {
        match letter {
            '<' => inside = true,
            '>' => inside = false,
            other if !inside => out.push(other),
            _ => {}
        }
    }
    for (escaped, plain) in [
        ("&lt;", "<"),
        ("&gt;", ">"),
        ("&quot;", "\""),
        ("&#x27;", "'"),
        ("&#x2f;", "/"),
        ("&amp;", "&"),
    ] {
        out = out.replace(escaped, plain);
    }
    out
}

#[test]
fn every_figure_in_the_page_is_the_records() {
    let seed = 20;
    let mut random = Random(seed);
    let mut records: Vec<Record> =
        (0..60).map(|i| record(&format!("chip-{i}"), "resnet50", &mut random)).collect();
    records.push(refused("other", "resnet50", "no"));
    let page = html_page(&records, None).unwrap();
    let table = between(&page, "<table class=\"sortable\" id=\"table\">", "</table>").unwrap().0;
    let (head, body) = table.split_once("</thead>").unwrap();
    let fields: Vec<Option<Field>> = head
        .split("<th ")
        .skip(1)
        .map(|cell| {
            between(cell, "data-figure=\"", "\"").and_then(|(name, _)| Field::from_name(name))
        })
        .collect();
    let mut seen = 0;
    let mut rows = 0;
    for row in body.split("<tr ").skip(1) {
        let index: usize = between(row, "data-record=\"", "\"").unwrap().0.parse().unwrap();
        let record = &records[index];
        rows += 1;
        // The first cell of a row is a header, the others follow in the order of the columns.
        let cells: Vec<&str> = row.split("<td").skip(1).collect();
        assert_eq!(cells.len() + 1, fields.len());
        for (cell, field) in cells.iter().zip(&fields[1..]) {
            let Some(field) = field else { continue };
            let (attributes, text) = cell.split_once('>').unwrap();
            let text = visible(text.split("</td>").next().unwrap());
            let Some(view) = record.view(*field) else {
                assert_eq!(text.trim(), "", "seed {seed}");
                continue;
            };
            seen += 1;
            let exact: f64 = between(attributes, "data-v=\"", "\"").unwrap().0.parse().unwrap();
            assert_eq!(exact.to_bits(), view.value.to_bits(), "seed {seed}, {}", field.name());
            let expected = format!("{} {}", view.text_with_interval(), view.basis.mark());
            assert_eq!(text, expected, "seed {seed}, {}", field.name());
            assert!(attributes.contains(view.basis.word()));
        }
    }
    let there = |record: &Record| Field::ALL.iter().filter(|f| record.view(**f).is_some()).count();
    assert_eq!(rows, 60);
    assert_eq!(seen, records.iter().map(there).sum::<usize>(), "no figure is left out");
    // And the page carries the records themselves, bit for bit.
    let data = between(&page, "id=\"data\">", "</script>").unwrap().0;
    let data: serde_json::Value = serde_json::from_str(data).unwrap();
    for (index, record) in records.iter().enumerate() {
        let carried = Record::from_json(&data["records"][index].to_string()).unwrap();
        assert_eq!(carried, Record { layers: Vec::new(), ..record.clone() });
    }
}

#[test]
fn no_word_of_a_record_is_markup() {
    let hostile =
        "\"'></script><script>alert(1)</script><img src=x onerror=alert(2)><!-- & {{ 7 }}";
    let mut random = Random(7);
    let mut one = record("chip", hostile, &mut random);
    one.layers[0].name = hostile.into();
    one.stack = hostile.into();
    if let Some(row) = &mut one.chip_row {
        row.name = hostile.into();
        row.family = hostile.into();
    }
    one.origin = Some(Origin { software: hostile.into(), machine: hostile.into() });
    let two = record(hostile, hostile, &mut random);
    let records = [one.clone(), two.clone(), refused("third", hostile, hostile)];
    let since = changes(&records, &[two, refused("third", hostile, "\"<i>"), one]);
    for page in [html_page(&records, None).unwrap(), html_page(&records, Some(&since)).unwrap()] {
        assert!(
            !page.contains("<script>alert") && !page.contains("<img") && !page.contains("<i>\"")
        );
        assert_eq!(page.matches("<script").count(), 2, "the data and the page's own");
        assert_eq!(page.matches("</script").count(), 2);
        assert!(!page.contains("<!--"), "no comment can be opened");
        let title = between(&page, "<h1>", "</h1>").unwrap().0;
        assert!(visible(title).contains(hostile), "{title}");
    }
}

#[test]
fn nothing_is_fetched() {
    let page = html_page(&[record("a", "m", &mut Random(1))], None).unwrap();
    let own = page.replace(between(&page, "id=\"data\">", "</script>").unwrap().0, "");
    for fetching in
        ["src=", "url(", "@import", "fetch(", "XMLHttpRequest", "import(", "http://", "https://"]
    {
        // The name of SVG is written as an address, and is none.
        let count = own.matches(fetching).count();
        let names = own.matches("\"http://www.w3.org/2000/svg\"").count();
        assert_eq!(count, if fetching == "http://" { names } else { 0 }, "{fetching}");
    }
    assert_eq!(own.matches("href=").count(), own.matches("href=\"data:,\"").count());
    assert!(own.contains("default-src 'none'"));
}

#[test]
fn a_page_without_rows_says_why_and_no_records_are_an_error() {
    let page = html_page(&[refused("a", "m", "it is <too> small")], None).unwrap();
    assert!(page.contains("it is &lt;too&gt; small") && page.contains("No chip can run"));
    assert!(matches!(html_page(&[], None), Err(PageError::NoRecords)));
}

/// The relative luminance of `#rrggbb`, as WCAG 2 defines it.
fn luminance(color: &str) -> f64 {
    let channel = |at: usize| {
        let value = f64::from(u8::from_str_radix(&color[at..at + 2], 16).unwrap()) / 255.0;
        if value <= 0.040_45 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
    };
    0.2126 * channel(1) + 0.7152 * channel(3) + 0.0722 * channel(5)
}

#[test]
fn words_stand_out_from_their_background_by_4_5_to_1() {
    let page = html_page(&[record("a", "m", &mut Random(1))], None).unwrap();
    let style = between(&page, "<style>", "</style>").unwrap().0;
    let schemes: Vec<&str> =
        style.split(":root {").skip(1).map(|rest| rest.split('}').next().unwrap()).collect();
    assert_eq!(schemes.len(), 3, "light, dark and print");
    for scheme in schemes {
        let color = |name: &str| {
            let found = between(scheme, &format!("--{name}: "), ";");
            found.map_or_else(
                || panic!("no {name} in {scheme}"),
                |(color, _)| luminance(color.trim()),
            )
        };
        for background in ["page", "panel"] {
            for text in ["text", "quiet", "measured", "simulated", "estimated", "front"] {
                let (a, b) = (color(text), color(background));
                let contrast = (a.max(b) + 0.05) / (a.min(b) + 0.05);
                assert!(contrast >= 4.5, "{text} on {background}: {contrast:.2} in {scheme}");
            }
        }
    }
}
