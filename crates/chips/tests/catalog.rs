//! The catalog as a user meets it: every row loads, every figure is listed, bad rows are refused with all faults.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::{fs, path::Path};

use anychip_chips::{
    Body, Catalog, Chip, ChipError, Compute, Family, Memory, Peak, Precision, Spec,
};
use anychip_units::Basis;

fn good() -> String {
    r#"
id = "acme-one"
aliases = ["one"]
name = "Acme One"
vendor = "Acme"
family = "asic"
stacks = ["acme"]
power_w = { value = 10, low = 8, high = 12, source = "sheet", note = "typical" }
price_usd = [{ value = 99, source = "sheet", date = "2026-11" }]

[sources]
sheet = { text = "Acme One data sheet, revision 2", date = "2026-03" }

[compute]
unit = "core"
units = { value = 4, source = "sheet" }
clock_hz = { value = 1e9, source = "sheet" }

[compute.peaks.int8]
dense = { value = 8.192e12, source = "sheet" }
lanes = { value = 1024, source = "sheet" }

[[compute.memory]]
name = "SRAM"
bytes = { value = 8e6, source = "sheet" }
bytes_per_second = { value = 1e12, source = "sheet" }

[[compute.memory]]
name = "LPDDR4"
off_chip = true
bytes = { value = 4e9, source = "sheet" }
bytes_per_second = { value = 34e9, source = "sheet" }
"#
    .to_owned()
}

fn problems(text: &str) -> Vec<String> {
    match Chip::from_toml(text, "test") {
        Err(ChipError::Check { problems, .. }) => {
            problems.iter().map(ToString::to_string).collect()
        }
        other => panic!("a check error was expected, this came: {other:?}"),
    }
}

#[test]
fn every_row_loads_and_is_named_after_its_file() {
    let catalog = Catalog::builtin().unwrap_or_else(|error| panic!("{error}"));
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("data");
    let mut files = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let id = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let chip =
            catalog.get(&id).unwrap_or_else(|| panic!("{} holds another id", path.display()));
        // What comes with anychip is not checked when a command starts, so it is here, as a user's file is.
        let text = fs::read_to_string(&path).unwrap();
        let checked = Chip::from_toml(&text, &path.display().to_string());
        assert_eq!(*chip, checked.unwrap_or_else(|error| panic!("{error}")), "{id}");
        // Every figure of the file is in the listing: a field the walk forgets would be listed nowhere.
        assert_eq!(chip.entries().len(), text.matches("value =").count(), "{id}");
        for entry in chip.entries() {
            assert!(!entry.source.trim().is_empty(), "{id} {}", entry.path);
            assert_eq!(entry.basis, Basis::Estimated, "a file cannot claim to have measured: {id}");
        }
        files += 1;
    }
    assert_eq!(catalog.chips().count(), files);
}

#[test]
fn the_first_rows_of_the_project_are_here() {
    let catalog = Catalog::builtin().unwrap();
    for id in [
        "nvidia-v100-sxm2-16gb",
        "nvidia-a100-sxm4-80gb",
        "nvidia-h100-sxm5-80gb",
        "nvidia-t4",
        "google-tpu-v3",
        "google-tpu-v4",
        "google-edge-tpu",
        "nvidia-jetson-agx-orin-64gb",
        "intel-agilex-7-agi-027",
        "amd-alveo-u250",
        "lattice-ecp5-85k",
        "ibm-truenorth",
        "manchester-spinnaker",
    ] {
        assert!(catalog.find(id).is_ok(), "{id}");
    }
}

#[test]
fn a_good_row_reads_as_written() {
    let chip = Chip::from_toml(&good(), "test").unwrap();
    assert_eq!((chip.id.as_str(), chip.family), ("acme-one", Family::Asic));
    let power = chip.power_w.as_ref().unwrap().figure().unwrap();
    assert_eq!((power.low(), power.value(), power.high()), (8.0, 10.0, 12.0));
    assert_eq!(power.source(), "Acme One data sheet, revision 2, 2026-03");
    assert_eq!(chip.year, None, "what is not stated is absent");
    let body = chip.compute().unwrap();
    assert_eq!(body.peak(Precision::Int8).unwrap().value, 8.192e12);
    assert_eq!(body.peak(Precision::F32), None);
    assert_eq!(body.main_memory().unwrap().name, "LPDDR4");
    assert_eq!(chip.purchase_price().unwrap().unwrap().value(), 99.0);
    assert!(chip.rental_price().is_none());
}

#[test]
fn a_number_without_a_source_is_refused() {
    let bare = good().replace(r#"{ value = 4, source = "sheet" }"#, "4");
    let error = Chip::from_toml(&bare, "test").unwrap_err().to_string();
    assert!(error.contains("units = 4"), "{error}");
    let missing = good().replace(r#"{ value = 4, source = "sheet" }"#, "{ value = 4 }");
    let error = Chip::from_toml(&missing, "test").unwrap_err().to_string();
    assert!(error.contains("source"), "{error}");
    let unknown =
        good().replace(r#"{ value = 4, source = "sheet" }"#, r#"{ value = 4, source = "rumor" }"#);
    assert_eq!(
        problems(&unknown),
        ["`compute.units`: `[sources]` has no `rumor`; add it there or use a key that is"]
    );
    let empty = good().replace("Acme One data sheet, revision 2", " ");
    assert_eq!(problems(&empty), ["`sources.sheet`: is empty"]);
    for (dates, fault) in [
        (
            "",
            "needs one of `date` (when it was made) and `seen` (when it was read, where it bears no date)",
        ),
        (
            r#", date = "2026-03", seen = "2026-04""#,
            "needs one of `date` (when it was made) and `seen` (when it was read, where it bears no date)",
        ),
        (r#", date = "March""#, "the date `March` is not written 2026, 2026-11 or 2026-11-22"),
    ] {
        let undated = good().replace(r#", date = "2026-03" }"#, &format!("{dates} }}"));
        assert_eq!(problems(&undated), [format!("`sources.sheet`: {fault}")]);
    }
}

#[test]
fn contradictions_are_refused_together() {
    let text = good()
        .replace("8.192e12", "9e12")
        .replace(r#"date = "2026-11""#, r#"date = "last week""#)
        .replace("bytes_per_second = { value = 34e9", "bytes_per_second = { value = 2e12")
        .replace("low = 8,", "low = 11,")
        .replace("[compute]", "[unused]\n[compute]")
        .replace("[unused]\n", "")
        .replace("[sources]", "[sources]\nother = { text = \"unused\", date = \"2026\" }");
    let found = problems(&text);
    assert_eq!(
        found,
        [
            "`sources`: no figure uses `other`; leave it out",
            "`power_w`: the interval [11, 12] does not contain 10",
            "`price_usd`: the date `last week` is not written 2026, 2026-11 or 2026-11-22",
            "`peaks.int8`: 9.0000e12 is not 2 × 1024 lanes × 4 units × 1.0000e9 Hz = 8.1920e12; correct one of the \
             four, or give this peak the `clock_hz` at which it holds",
            "`compute.memory.LPDDR4`: is faster than SRAM, which is nearer",
        ]
    );
}

#[test]
fn unknown_keys_families_bodies_and_ids_are_refused() {
    let typo = good().replace("power_w", "power_watts");
    assert!(Chip::from_toml(&typo, "test").unwrap_err().to_string().contains("power_watts"));
    let family = good().replace("\"asic\"", "\"quantum\"");
    assert_eq!(problems(&family), ["`family`: a quantum has another body than this"]);
    let two = good() + "\n[fabric]\n";
    assert!(problems(&two)[0].contains("exactly one of"));
    let id = good().replace("\"acme-one\"", "\"Acme One\"");
    assert!(problems(&id)[0].contains("lower-case"));
    let zero = good().replace("value = 4,", "value = 0,");
    assert!(!problems(&zero).is_empty(), "zero is not a way to say unknown");
    for broken in ["", "id = 3", "id = \"x\"\nfamily = [", "\u{0}"] {
        assert!(
            matches!(Chip::from_toml(broken, "test"), Err(ChipError::Parse { .. })),
            "{broken:?}"
        );
    }
}

/// Each way to get a file wrong, with what its message must say: the file, the key, what was met, what to try.
#[test]
fn each_fault_is_named_with_what_to_try() {
    let die = "die_mm2 = { value = 900, source = \"sheet\" }\npower_w";
    let base = "base_clock_hz = { value = 2e9, source = \"sheet\" }\nclock_hz";
    let bus = "bus_bits = { value = 32, source = \"sheet\" }\ntransfers_per_second = { value = 4e9, source = \"sheet\" }\nbytes_per_second";
    let int16 =
        "[compute.peaks.int16]\ndense = { value = 9e12, source = \"sheet\" }\n[compute.peaks.int8]";
    let sparse = "sparse = { value = 8e12, source = \"sheet\" }\ndense";
    let link = "[[compute.links]]\nname = \"PCIe\"\n[[compute.memory]]\nname = \"SRAM\"";
    let cases: &[(&str, &str, &[&str])] = &[
        ("power_w", "power_watts", &["`power_watts`", "did you mean `power_w`?"]),
        ("clock_hz", "clock_mhz", &["`clock_mhz`", "did you mean `clock_hz`?"]),
        ("peaks.int8", "peaks.int88", &["`int88`", "did you mean `int8`?"]),
        ("\"asic\"", "\"asics\"", &["`asics`", "did you mean `asic`?"]),
        ("value = 10, ", "value = \"10 W\", ", &["power_w", "10 W", "the unit is in the key"]),
        ("{ value = 4, source = \"sheet\" }", "4", &["units", "`4`", "a figure, { value = NUMBER"]),
        ("value = 4, source = \"sheet\"", "value = 4", &["units", "`source`", "who states it"]),
        (
            "{ text = \"Acme One data sheet, revision 2\", date = \"2026-03\" }",
            "\"a sheet\"",
            &["sheet", "a source, { text ="],
        ),
        ("value = 4, ", "value = -4, ", &["`compute.units`", "negative", "-4"]),
        ("value = 4, ", "value = nan, ", &["`compute.units`", "finite"]),
        ("value = 4, ", "value = 4e30, ", &["`compute.units`", "4e30", "beyond anything built"]),
        ("value = 1e9, ", "value = 1e18, ", &["`compute.clock_hz`", "1e18 Hz", "unit of the key"]),
        (
            "value = 10, low = 8, high = 12,",
            "value = 1e9,",
            &["`power_w`", "1e9 W is beyond anything built"],
        ),
        (", date = \"2026-11\" }]", " }]", &["`price_usd`", "a price needs its date"]),
        ("power_w", die, &["`die_mm2`", "900 mm²", "858", "say in `dies`"]),
        ("clock_hz", base, &["`compute.base_clock_hz`", "2e9", "1e9"]),
        (
            "[compute.peaks.int8]",
            int16,
            &["`peaks.int8`", "below the int16 rate", "say in its `note`"],
        ),
        ("dense", sparse, &["`peaks.int8`", "the dense rate is above the sparse one"]),
        (
            "bytes_per_second = { value = 34e9",
            &format!("{bus} = {{ value = 34e9"),
            &["`compute.memory.LPDDR4`", "32 bits / 8"],
        ),
        (
            "name = \"LPDDR4\"",
            "name = \"SRAM\"",
            &["`compute.memory.SRAM`", "two levels of this name"],
        ),
        ("[[compute.memory]]\nname = \"SRAM\"", link, &["`to`", "say where the link leads"]),
        ("[sources]", "[source]", &["`source`", "did you mean `sources`?"]),
    ];
    for (old, new, expected) in cases {
        let text = good().replacen(old, new, 1);
        assert_ne!(text, good(), "{old} is not in the good file");
        let message = match Chip::from_toml(&text, "my-chip.toml") {
            Err(error) => error.to_string(),
            Ok(_) => panic!("{new} was let through"),
        };
        assert!(message.starts_with("my-chip.toml: "), "{message}");
        for part in *expected {
            assert!(message.contains(part), "no `{part}` in: {message}");
        }
    }
}

#[test]
fn names_may_not_be_taken_twice() {
    let mut catalog = Catalog::builtin().unwrap();
    catalog.add(Chip::from_toml(&good(), "test").unwrap()).unwrap();
    let again = catalog.add(Chip::from_toml(&good(), "test").unwrap()).unwrap_err().to_string();
    assert!(again.contains("`acme-one` is in the catalogue already"), "{again}");
    let other = good().replace("id = \"acme-one\"", "id = \"acme-two\"");
    let alias = catalog.add(Chip::from_toml(&other, "test").unwrap()).unwrap_err().to_string();
    assert!(alias.contains("`one`") && alias.contains("`acme-two` claims it"), "{alias}");
}

#[test]
fn names_are_found_as_others_write_them() {
    let catalog = Catalog::builtin().unwrap();
    for (name, id) in [
        ("rtx3090", "nvidia-rtx-3090"),
        ("i9_10940x", "intel-core-i9-10940x"),
        ("NVIDIA_A100-SXM4-40GB", "nvidia-a100-sxm4-40gb"),
        ("Tesla V100-PCIE-32GB", "nvidia-v100-pcie-32gb"),
        ("AMD Instinct MI100", "amd-mi100"),
        ("h100_sxm", "nvidia-h100-sxm5-80gb"),
        ("Intel(R) Xeon(R) Platinum 8380 CPU @ 2.30GHz", "intel-xeon-platinum-8380"),
        ("QUALCOMM Cloud AI 100 PCIe/HHHL Pro", "qualcomm-ai-100-pro"),
        ("NUCLEO-L4R5ZI", "st-stm32l4r5zi"),
    ] {
        assert_eq!(catalog.find(name).unwrap().id, id, "{name}");
    }
    // A slice of a chip is not the chip.
    assert!(catalog.get("NVIDIA A100-SXM-80GB (1x1g.10gb MIG)").is_none());
}

#[test]
fn a_damaged_file_is_an_error_and_never_a_panic() {
    let good = good();
    for cut in (0..good.len()).filter(|cut| good.is_char_boundary(*cut)) {
        let read = Chip::from_toml(&good[..cut], "test");
        // A cut after a whole figure leaves a smaller but sound row.
        assert!(read.is_err() || cut > good.find("[compute]").unwrap(), "{cut}");
    }
    for (at, _) in good.char_indices() {
        for letter in ["", "\"", "-", "9", "e", "=", "[", "}", "\u{0}", "é"] {
            let mut text = good.clone();
            text.replace_range(at..=at, letter);
            if let Ok(chip) = Chip::from_toml(&text, "test") {
                assert_eq!(chip.problems(), [], "what loads is sound: {text}");
            }
        }
    }
    for number in ["nan", "inf", "-1", "1e400"] {
        let text = good.replace("value = 4,", &format!("value = {number},"));
        assert!(Chip::from_toml(&text, "test").is_err(), "{number}");
    }
}

#[test]
fn a_users_file_joins_the_catalog() {
    let path = std::env::temp_dir().join(format!("anychip-chip-{}.toml", std::process::id()));
    fs::write(&path, good()).unwrap();
    let mut catalog = Catalog::builtin().unwrap();
    assert_eq!(catalog.load(&path).unwrap().id, "acme-one");
    assert!(catalog.find("one").is_ok(), "its alias works");
    assert!(matches!(catalog.load(&path), Err(ChipError::Duplicate { .. })));
    fs::remove_file(&path).unwrap();
    assert!(matches!(catalog.load(&path), Err(ChipError::Read { .. })));
}

#[test]
fn a_wrong_name_gets_the_close_ones() {
    let catalog = Catalog::builtin().unwrap();
    let error = catalog.find("nvidia-a100-smx4-80gb").unwrap_err().to_string();
    assert!(error.contains("nvidia-a100-sxm4-80gb"), "{error}");
    let error = catalog.find("zzzzzzzzzzzz").unwrap_err().to_string();
    assert_eq!(error, "no chip is called `zzzzzzzzzzzz`; `anychip chips` lists them");
}

#[test]
fn this_machine_can_be_described_from_code() {
    let mut compute = Compute { unit: Some("core".to_owned()), ..Compute::default() };
    compute.units = Some(Spec::measured(2.0, "counted on this machine"));
    let dense = Some(Spec::measured(1.1e11, "FMA loop on this machine").between(1.0e11, 1.2e11));
    compute.peaks.insert(Precision::F32, Peak { dense, ..Peak::default() });
    compute.memory.push(Memory {
        name: "DRAM".to_owned(),
        off_chip: true,
        bytes_per_second: Some(Spec::measured(2e10, "triad on this machine")),
        ..Memory::default()
    });
    let body = Body::Compute(compute);
    let mut chip = Chip::new("cpu", "this machine", "unknown", Family::Cpu, "anychip", body);
    chip.target = Some("cpu".to_owned());
    assert_eq!(chip.problems(), []);
    let peak = chip.compute().unwrap().peak(Precision::F32).unwrap().figure().unwrap();
    assert_eq!(peak.basis(), Basis::Measured);
    let mut catalog = Catalog::builtin().unwrap();
    catalog.add(chip).unwrap();
    assert!(catalog.find("cpu").is_ok());
}
