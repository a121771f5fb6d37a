//! SCALE-Sim's files in, its report out: `scale_sim --config a.cfg --topology b.csv [--gemm] [--walk] [--sound]`.
//!
//! One JSON line a layer with both forms' cycles, then one with what the run took. `--walk` also steps through every demand;
//! `--sound` with the arithmetic of stalls as it was meant; `--step` also computes values in the cells.
#![allow(clippy::print_stdout, reason = "a command's output")]

use std::process::ExitCode;
use std::time::Instant;

use anychip_chips::Dataflow;
use anychip_systolic::scale_sim::{Arithmetic, Config, Layer, Topology, closed_form, walk};
use anychip_systolic::stepped::{Values, step};
use anychip_systolic::tiling::{Mapping, Order, Product, Split, Tiling};
use anychip_systolic::{Machine, Rate};
use serde_json::json;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(1)
        }
    }
}

fn run() -> Result<(), String> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let flag = |name: &str| arguments.iter().any(|a| a == name);
    let file = |name: &str| -> Result<String, String> {
        let at =
            arguments.iter().position(|a| a == name).ok_or(format!("{name} FILE is needed"))?;
        let path = arguments.get(at + 1).ok_or(format!("{name} needs a file"))?;
        std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))
    };
    let config = Config::parse(&file("--config")?).map_err(|e| e.to_string())?;
    let text = file("--topology")?;
    let topology = if flag("--gemm") {
        Topology::parse_products(&text)
    } else {
        Topology::parse_convolutions(&text)
    };
    let topology = topology.map_err(|e| e.to_string())?;
    let arithmetic = if flag("--sound") { Arithmetic::Sound } else { Arithmetic::Published };

    let start = Instant::now();
    let rows: Vec<_> = topology.layers.iter().map(|layer| closed_form(layer, &config)).collect();
    let closed_seconds = start.elapsed().as_secs_f64();
    let mut walked_seconds = None;
    let mut stepped_seconds = None;
    for (layer, row) in topology.layers.iter().zip(rows) {
        let mut line = json!({
            "layer": row.name, "cycles": row.cycles, "utilization": row.utilization,
            "mapping_efficiency": row.mapping_efficiency, "compute_utilization": row.compute_utilization,
        });
        if flag("--walk") {
            let start = Instant::now();
            let walked = walk(layer, &config, arithmetic).map_err(|e| e.to_string())?;
            *walked_seconds.get_or_insert(0.0) += start.elapsed().as_secs_f64();
            line["walked_cycles"] = json!(walked.row.cycles);
            line["stalls"] = json!(walked.row.stalls);
            line["prefetched_cycles"] = json!(walked.prefetched);
            line["stalls_by_cause"] = json!(walked.stalls_by_cause);
        }
        if flag("--step") {
            let start = Instant::now();
            line["stepped_cycles"] = json!(stepped(layer, &config));
            *stepped_seconds.get_or_insert(0.0) += start.elapsed().as_secs_f64();
        }
        println!("{line}");
    }
    println!(
        "{}",
        json!({
            "closed_seconds": closed_seconds, "walked_seconds": walked_seconds, "stepped_seconds": stepped_seconds,
            "peak_bytes": peak_bytes(),
        })
    );
    Ok(())
}

/// The largest resident set of this process, where the system tells.
fn peak_bytes() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kibibytes = line.and_then(|rest| rest.split_whitespace().next()?.parse::<f64>().ok());
    kibibytes.unwrap_or(0.0) * 1024.0
}

/// The layer through the cells of our own machine, values and all, with the peer's assumptions: no overlap, memory without
/// limit. The last cycle is counted from 0, as the peer does; and with sums that stay, the peer's are gone when they are finished,
/// where ours move down their column and out, a row a cycle: those cycles of each fold are taken off.
fn stepped(layer: &Layer, config: &Config) -> u64 {
    let mut machine = Machine::ideal(config.rows, config.columns, config.dataflow);
    machine.overlaps_loads = false;
    let (m, n, k) = (layer.places(), layer.filters, layer.depth());
    let product = Product::on_chip(1, m, n, k);
    let mapping = Mapping {
        split: Split::Columns,
        order: Order::StationaryOutside,
        moving_tile: u64::MAX,
        pack: 1,
    };
    let tiling = Tiling::new(&machine, product, mapping, Rate::ONE);
    let (m, n) = if config.dataflow == Dataflow::InputStationary { (n, m) } else { (m, n) };
    let sizes = (m as usize, n as usize, k as usize);
    let numbers =
        |count: u64| -> Vec<i32> { (0..count).map(|i| (i * 37 % 251) as i32 - 125).collect() };
    let (moving, fixed) = (numbers(m * k), numbers(k * n));
    let mut sums = vec![0i32; (m * n) as usize];
    let values = Values { moving: &moving, fixed: &fixed, sizes };
    let cycles = step(&machine, &tiling, Some(values), &mut sums).cycles - 1;
    let (down, across) = layer.folds(config);
    let out = if config.dataflow == Dataflow::OutputStationary { config.rows } else { 0 };
    cycles - out * down * across
}
