//! Simulated chips beside what was published of the real ones: `cargo run --release --example published_silicon [-- FILE.json]`.
//!
//! Networks are as far as their publishers describe them; nothing is tuned to any of these figures, but that the TPU v6e's time
//! beside a layer's work is that of the smallest products of the same publisher. What is not described is not simulated, and the row
//! says so.
#![allow(clippy::print_stdout, reason = "a command's output")]

use anychip::{Catalog, CompileOptions, Error, Model, Precision, Subject};
use anychip_systolic::Machine;
use anychip_systolic::mapper::{Objective, map};
use anychip_systolic::tiling::{Operand, Product};
use serde_json::{Value, json};

/// A network of the TPU paper: so many equal layers, by the sizes it states, and what its counters said.
struct Published {
    name: &'static str,
    how: &'static str,
    batch: u64,
    layers: u64,
    /// Rows for each inference, filters, summed indices of a layer.
    sizes: (u64, u64, u64),
    tops: f64,
    /// Percent of cycles: array active, waits for weights, weights shift in, none of these.
    active: f64,
    waits: f64,
    shifts: f64,
    other: f64,
}

/// Jouppi et al., In-Datacenter Performance Analysis of a Tensor Processing Unit, ISCA 2017: sizes of table 1 and section 7,
/// counters of table 3 (read in the paper's text, 2026-12). Layers of MLPs and of LSTM0 are taken as equal and square, which the paper
/// does not say.
const TPU_V1: [Published; 5] = [
    Published {
        name: "MLP0",
        how: "5 layers, 20 M weights, square",
        batch: 200,
        layers: 5,
        sizes: (1, 2000, 2000),
        tops: 12.3,
        active: 12.7,
        waits: 53.9,
        shifts: 15.9,
        other: 17.5,
    },
    Published {
        name: "MLP1",
        how: "4 layers, 5 M weights, square",
        batch: 168,
        layers: 4,
        sizes: (1, 1118, 1118),
        tops: 9.7,
        active: 10.6,
        waits: 44.2,
        shifts: 13.4,
        other: 31.9,
    },
    Published {
        name: "LSTM0",
        how: "24 layers, 52 M weights, square",
        batch: 64,
        layers: 24,
        sizes: (1, 1472, 1472),
        tops: 3.7,
        active: 8.2,
        waits: 58.1,
        shifts: 15.8,
        other: 17.9,
    },
    Published {
        name: "LSTM1",
        how: "34 M weights as its 600 × 600 matrices",
        batch: 96,
        layers: 94,
        sizes: (1, 600, 600),
        tops: 2.8,
        active: 10.5,
        waits: 62.1,
        shifts: 17.1,
        other: 10.3,
    },
    Published {
        name: "CNN0",
        how: "16 layers, 3 × 3 × 256 as no cell idles; 361 places, as 2888 operations a weight are of batch 8",
        batch: 8,
        layers: 16,
        sizes: (361, 256, 2304),
        tops: 86.0,
        active: 78.2,
        waits: 0.0,
        shifts: 0.0,
        other: 21.8,
    },
];

/// Milliseconds of one inference on a USB Accelerator (USB 3.0) and on a Dev Board, as coral.ai publishes them (Edge TPU
/// performance benchmarks, table 1, read 2026-12), and the model here, its weights and activations in 8 bits.
const EDGE_TPU: [(&str, &str, f64, f64); 9] = [
    ("MobileNet v1 (224)", "mobilenet-v1", 2.4, 2.4),
    ("MobileNet v2 (224)", "mobilenet-v2", 2.6, 2.6),
    ("ResNet-50 V1 (299)", "resnet50,image=299", 49.0, 56.0),
    ("ResNet-152 V2 (299)", "resnet152,image=299", 128.0, 151.0),
    ("DenseNet (224)", "densenet121", 20.0, 25.0),
    ("SqueezeNet (224)", "squeezenet1-1", 2.1, 2.0),
    ("VGG16 (224)", "vgg16", 296.0, 343.0),
    ("VGG19 (224)", "vgg19", 308.0, 357.0),
    ("Inception v4 (299)", "inception-v4", 85.0, 102.0),
];

/// Rows, columns and summed indices of bfloat16 products, and microseconds of them on a TPU v6e by the device's own trace:
/// `scalesim/calibration_pure/gemm_pure_master_tpuv6e.csv` of scalesim-project/SCALE-Sim, read 2026-12; of the file's first 290 rows
/// every one with no size below 512.
const TPU_V6E: [(u64, u64, u64, f64); 33] = [
    (3074, 4551, 976, 42.0098),
    (2625, 2812, 4004, 139.5715),
    (4175, 2778, 1490, 53.0845),
    (5073, 2038, 4403, 128.1085),
    (5155, 3595, 1853, 107.3496),
    (1953, 3933, 1505, 36.3091),
    (4679, 3062, 831, 39.1343),
    (2254, 3696, 1565, 44.1943),
    (2058, 2825, 5646, 106.5114),
    (3173, 1515, 2036, 28.2353),
    (1241, 1067, 1004, 7.8155),
    (5278, 2631, 3323, 111.9539),
    (696, 805, 4916, 12.8651),
    (5885, 3491, 740, 46.0524),
    (3113, 3487, 1473, 56.1973),
    (5636, 3459, 3351, 182.3618),
    (3513, 1640, 2010, 36.6026),
    (2492, 3846, 717, 23.1931),
    (1149, 5226, 1994, 38.8086),
    (3272, 3713, 4610, 156.5641),
    (2275, 2914, 928, 23.2051),
    (3572, 2021, 689, 21.2558),
    (4913, 4631, 5573, 334.4270),
    (4827, 2802, 721, 31.9264),
    (5257, 3039, 3022, 117.4707),
    (5367, 3951, 1624, 103.4031),
    (3140, 876, 1024, 11.8815),
    (4787, 3094, 576, 39.5726),
    (3996, 3511, 4566, 173.0480),
    (2140, 2189, 819, 18.2429),
    (2101, 3724, 1022, 25.8453),
    (5047, 2390, 557, 28.4677),
    (2895, 2926, 515, 22.0122),
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut rows = Vec::new();
    tpu_v1(&mut rows)?;
    edge_tpu(&mut rows)?;
    tpu_v6e(&mut rows)?;
    if let Some(path) = std::env::args().nth(1) {
        let record = json!({
            "what": "simulated chips beside published figures of the real ones; errors in percent of the published figure",
            "rows": rows,
        });
        std::fs::write(path, format!("{record:#}\n"))?;
    }
    Ok(())
}

fn tpu_v1(rows: &mut Vec<Value>) -> Result<(), Box<dyn std::error::Error>> {
    let catalog = Catalog::builtin()?;
    let machine = Machine::of(catalog.find("google-tpu-v1")?)?;
    println!("Google TPU v1, simulated / published\n");
    println!(
        "{:<6} {:>7} {:>7} {:>8}   {:>13} {:>13} {:>13} {:>13}   taken as",
        "", "TOP/s", "paper", "error", "active %", "waits %", "shifts %", "other %"
    );
    for row in &TPU_V1 {
        let (places, n, k) = row.sizes;
        let m = places * row.batch;
        let operand = |bytes, in_memory| Operand { bytes, element: 1, in_memory };
        let product = Product {
            groups: 1,
            m,
            n,
            k,
            // Activations stay in the unified buffer; weights come from memory for each batch.
            lhs: operand(m * k, false),
            rhs: operand(k * n, true),
            out: operand(m * n, false),
        };
        let mapped = map(&machine, product, Precision::Int8, Objective::Time)
            .ok_or("the TPU v1 multiplies 8-bit integers")?;
        let c = mapped.cycles;
        let seconds = c.cycles as f64 / machine.clock_hz;
        let tops = 2.0 * product.macs() as f64 / seconds * 1e-12;
        let share = |part: u64| 100.0 * part as f64 / c.cycles as f64;
        let other = 100.0 - share(c.streaming) - share(c.fetch) - share(c.load);
        rows.push(json!({
            "chip": "google-tpu-v1", "row": row.name, "unit": "TOP/s", "simulated": tops, "published": row.tops,
            "error_percent": 100.0 * (tops / row.tops - 1.0),
            "active_percent": [share(c.streaming), row.active], "waits_percent": [share(c.fetch), row.waits],
            "shifts_percent": [share(c.load), row.shifts], "other_percent": [other, row.other],
        }));
        println!(
            "{:<6} {:>7.1} {:>7.1} {:>+7.0}%   {:>5.1} / {:>5.1} {:>5.1} / {:>5.1} {:>5.1} / {:>5.1} {:>5.1} / {:>5.1}   {} × {}",
            row.name,
            tops,
            row.tops,
            100.0 * (tops / row.tops - 1.0),
            share(c.streaming),
            row.active,
            share(c.fetch),
            row.waits,
            share(c.load),
            row.shifts,
            other,
            row.other,
            row.layers,
            row.how,
        );
    }
    println!("CNN1   {:>7} {:>7}            its shapes are not published", "", 14.1);
    Ok(())
}

/// A product from main memory to main memory, as one layer.
fn tpu_v6e(rows: &mut Vec<Value>) -> Result<(), Box<dyn std::error::Error>> {
    let catalog = Catalog::builtin()?;
    let machine = Machine::of(catalog.find("google-tpu-v6e")?)?;
    println!("\nGoogle TPU v6e, microseconds of one bfloat16 product\n");
    let mut off = Vec::new();
    for (m, n, k, published) in TPU_V6E {
        let operand = |elements: u64| Operand { bytes: 2 * elements, element: 2, in_memory: true };
        let (lhs, rhs, out) = (operand(m * k), operand(k * n), operand(m * n));
        let product = Product { groups: 1, m, n, k, lhs, rhs, out };
        let mapped = map(&machine, product, Precision::Bf16, Objective::Time)
            .ok_or("the TPU v6e multiplies bfloat16")?;
        let cycles = mapped.cycles.cycles + machine.layer_cycles;
        let simulated = cycles as f64 / machine.clock_hz * 1e6;
        let error = 100.0 * (simulated / published - 1.0);
        println!("{m:>5} × {n:>5} × {k:>5} {simulated:>9.1} {published:>9.1} {error:>+7.0}%");
        rows.push(json!({
            "chip": "google-tpu-v6e", "row": format!("{m}×{n}×{k}"), "unit": "µs", "simulated": simulated,
            "published": published, "error_percent": error,
        }));
        off.push(error.abs());
    }
    off.sort_by(f64::total_cmp);
    println!("median difference {:.0} %", off[off.len() / 2]);
    Ok(())
}

fn edge_tpu(rows: &mut Vec<Value>) -> Result<(), Box<dyn std::error::Error>> {
    let catalog = Catalog::builtin()?;
    let chip = catalog.find("google-edge-tpu")?;
    let options = CompileOptions { precision: Some(Precision::Int8), ..CompileOptions::default() };
    println!("\nGoogle Edge TPU, milliseconds of one inference, 8 bits\n");
    println!(
        "{:<22} {:>10} {:>10} {:>10} {:>12}",
        "", "simulated", "USB", "Dev Board", "error, USB"
    );
    for (name, model, usb, board) in EDGE_TPU {
        let Ok(model) = Model::load(format!("zoo:{model}").as_ref()) else {
            println!("{name:<22} {:>10} {usb:>10} {board:>10}   not in the zoo", "");
            continue;
        };
        let milliseconds = simulated(&model, chip, &options)?;
        let error = 100.0 * (milliseconds / usb - 1.0);
        println!("{name:<22} {milliseconds:>10.2} {usb:>10} {board:>10} {error:>+11.0}%");
        rows.push(json!({
            "chip": "google-edge-tpu", "row": name, "unit": "ms", "simulated": milliseconds,
            "published": usb, "published_dev_board": board, "error_percent": error,
        }));
    }
    Ok(())
}

fn simulated(model: &Model, chip: &anychip::Chip, options: &CompileOptions) -> Result<f64, Error> {
    let sizes = anychip::choose_sizes(
        model.graph(),
        &std::collections::BTreeMap::new(),
        model.usual_sizes(),
        1,
    )?;
    let (graph, _) = anychip::optimize(&anychip::with_sizes(model.graph(), &sizes)?)?;
    let subject = Subject { model: model.name(), model_sha256: "unread", graph: &graph, batch: 1 };
    let found = anychip::simulate(&subject, chip, options, None)?;
    Ok(found.record.latency_s.map_or(f64::NAN, |latency| latency.value() * 1e3))
}
