//! What SCALE-Sim 3.0.0 found, beside what its mode here finds: figures of runs of the peer (`cargo xtask peers systolic`).
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use anychip_systolic::scale_sim::{Arithmetic, Config, Topology, closed_form, total, walk};

fn config(side: u64, dataflow: &str, kilobytes: [u64; 3], words: Option<u64>) -> Config {
    let [input, filter, output] = kilobytes;
    let interface = if words.is_some() { "USER" } else { "CALC" };
    let words = words.unwrap_or(10);
    Config::parse(&format!(
        "[architecture_presets]\nArrayHeight : {side}\nArrayWidth : {side}\nIfmapSramSzkB : {input}\nFilterSramSzkB : {filter}\n\
         OfmapSramSzkB : {output}\nDataflow : {dataflow}\nBandwidth : {words}\n[layout]\nIfmapSRAMBankBandwidth : {words}\n\
         FilterSRAMBankBandwidth : {words}\n[run_presets]\nInterfaceBandwidth : {interface}\n"
    ))
    .unwrap()
}

/// Whole ResNet-50 on 128 × 128 cells with weights that stay: 11 minutes of the peer.
#[test]
fn a_whole_network_takes_the_peers_cycles() {
    let topology =
        Topology::parse_convolutions(include_str!("../../../tools/scale-sim/resnet50.csv"));
    let topology = topology.unwrap();
    assert_eq!(topology.layers.len(), 54);
    let config = config(128, "ws", [6144, 6144, 2048], None);
    assert_eq!(total(&topology, &config), 876_832);
}

/// Layers of the small topology where memory limits: as published, double counts of waits included.
#[test]
fn stalls_are_the_peers() {
    let topology = Topology::parse_convolutions(include_str!("../../../tools/scale-sim/small.csv"));
    let topology = topology.unwrap();
    for (dataflow, expected) in
        [("ws", [6_282, 12_283, 6_133, 549_560]), ("os", [14_266, 11_531, 4_455, 19_199])]
    {
        let config = config(16, dataflow, [1; 3], Some(4));
        let found: Vec<u64> = topology
            .layers
            .iter()
            .map(|layer| walk(layer, &config, Arithmetic::Published).unwrap().row.cycles)
            .collect();
        assert_eq!(found, expected, "{dataflow}");
    }
}

/// Without limits nothing stalls, and both forms agree.
#[test]
fn the_walk_without_limits_is_the_closed_form() {
    let topology = Topology::parse_convolutions(include_str!("../../../tools/scale-sim/small.csv"));
    for dataflow in ["ws", "os", "is"] {
        let config = config(16, dataflow, [64; 3], None);
        for layer in &topology.as_ref().unwrap().layers {
            let walked = walk(layer, &config, Arithmetic::Published).unwrap();
            assert_eq!(walked.row.cycles, closed_form(layer, &config).cycles, "{}", layer.name);
            assert!(walked.prefetched.unwrap() > walked.row.cycles);
        }
    }
}
