//! Simulated chips beside what was published of the real ones: `cargo run --release --example published_silicon`.
//!
//! Networks are as far as their publishers describe them; nothing is tuned, for no row and for none. What is not described is
//! not simulated, and the row says so.
#![allow(clippy::print_stdout, reason = "a command's output")]

use anychip::{Catalog, CompileOptions, Error, Model, Precision, Subject};
use anychip_systolic::Machine;
use anychip_systolic::mapper::{Objective, map};
use anychip_systolic::tiling::{Operand, Product};

/// A network of the TPU paper: so many equal layers, by the sizes it states, and what its counters said.
struct Published {
    name: &'static str,
    how: &'static str,
    batch: u64,
    layers: u64,
    /// Rows for each inference, filters, summed indices of a layer.
    sizes: (u64, u64, u64),
    tops: f64,
    /// Percent of cycles: array active, waits for weights, weights shift in.
    active: f64,
    waits: f64,
    shifts: f64,
}

/// Jouppi et al., In-Datacenter Performance Analysis of a Tensor Processing Unit, ISCA 2017: sizes of table 1 and section 7,
/// counters of table 3; written down from memory of the document.
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
    },
    Published {
        name: "CNN0",
        how: "16 layers of 3 × 3 × 256, as no cell idles; 361 places",
        batch: 8,
        layers: 16,
        sizes: (361, 256, 2304),
        tops: 86.0,
        active: 78.2,
        waits: 0.0,
        shifts: 0.0,
    },
];

/// Milliseconds of one inference on a USB Accelerator (USB 3.0) and on a Dev Board, as coral.ai publishes them (Edge TPU
/// performance benchmarks, table 1, seen 2026-12), and the model here, its weights and activations in 8 bits.
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

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let catalog = Catalog::builtin()?;
    let machine = Machine::of(catalog.find("google-tpu-v1")?)?;
    println!("Google TPU v1, simulated / published\n");
    println!(
        "{:<6} {:>7} {:>7} {:>8}   {:>13} {:>13} {:>13}   taken as",
        "", "TOP/s", "paper", "error", "active %", "waits %", "shifts %"
    );
    for row in &TPU_V1 {
        let (rows, n, k) = row.sizes;
        let m = rows * row.batch;
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
        println!(
            "{:<6} {:>7.1} {:>7.1} {:>+7.0}%   {:>5.1} / {:>5.1} {:>5.1} / {:>5.1} {:>5.1} / {:>5.1}   {} × {}",
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
            row.layers,
            row.how,
        );
    }
    println!("CNN1   {:>7} {:>7}            its shapes are not published", "", 14.1);
    edge_tpu(&catalog)
}

fn edge_tpu(catalog: &Catalog) -> Result<(), Box<dyn std::error::Error>> {
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
