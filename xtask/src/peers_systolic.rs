//! The systolic simulator beside SCALE-Sim: the same configurations and topologies, layer by layer, cycle for cycle.
//!
//! What the peer found is kept in `target/peers/scale-sim/`, as its runs take minutes; delete the folder to run it again. A network
//! repeats its layers, and the peer takes as long for each of them, so each is given to it once, unless `--full` asks for all.

use crate::{process, python, workspace};
use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Cells along a side of the array for networks.
const SIDE: u64 = 128;

/// Kilobytes of the buffers for inputs, filters and results of networks, as the peer's own configuration of a large array has them.
const BUFFERS: [u64; 3] = [6144, 6144, 2048];

#[derive(clap::Args)]
pub(crate) struct Options {
    /// All layers of ResNet-50 where weights stay, repeated ones too: eleven minutes and nine gigabytes of the peer's
    #[arg(long)]
    full: bool,
    /// Topologies (resnet50, alexnet, transformer, small) [default: all]
    #[arg(long, value_delimiter = ',')]
    topologies: Vec<String>,
    /// Cells along a side of the array for whole networks
    #[arg(long, default_value_t = SIDE)]
    side: u64,
    /// Take the example that is in target/release as it is
    #[arg(long)]
    built: bool,
    /// Where to write the figures
    #[arg(long, value_name = "FILE.json", default_value = "measurements/peers-systolic.json")]
    out: PathBuf,
}

/// One comparison: a topology on an array.
struct Case {
    topology: &'static str,
    gemm: bool,
    side: u64,
    dataflow: &'static str,
    /// Kilobytes of the buffers, and words a cycle to and from them; no limit when absent.
    kilobytes: [u64; 3],
    bandwidth: Option<u64>,
    /// Repeated layers too.
    whole: bool,
}

impl Case {
    fn name(&self) -> String {
        let limit = self.bandwidth.map_or(String::new(), |words| format!("-{words}-words"));
        let whole = if self.whole { "-whole" } else { "" };
        format!("{}{whole}-{}x{}-{}{limit}", self.topology, self.side, self.side, self.dataflow)
    }

    fn config(&self) -> String {
        let Case { side, dataflow, kilobytes: [input, filter, output], .. } = self;
        let words = self.bandwidth.unwrap_or(10);
        let mode = if self.bandwidth.is_some() { "USER" } else { "CALC" };
        format!(
            "[general]\nrun_name = peer\n\n[architecture_presets]\nArrayHeight : {side}\nArrayWidth : {side}\n\
             IfmapSramSzkB : {input}\nFilterSramSzkB : {filter}\nOfmapSramSzkB : {output}\nIfmapOffset : 0\n\
             FilterOffset : 10000000\nOfmapOffset : 20000000\nDataflow : {dataflow}\nBandwidth : {words}\n\
             ReadRequestBuffer : 32\nWriteRequestBuffer : 32\n\n[layout]\nIfmapCustomLayout : False\n\
             IfmapSRAMBankBandwidth : {words}\nIfmapSRAMBankNum : 1\nIfmapSRAMBankPort : 2\n\
             FilterCustomLayout : False\nFilterSRAMBankBandwidth : {words}\nFilterSRAMBankNum : 1\n\
             FilterSRAMBankPort : 2\n\n[sparsity]\nSparsitySupport : false\nSparseRep : ellpack_block\n\
             OptimizedMapping : false\nBlockSize : 8\nRandomNumberGeneratorSeed : 40\n\n[run_presets]\n\
             InterfaceBandwidth : {mode}\nUseRamulatorTrace : False\n"
        )
    }
}

/// A layer as the peer or we report it.
#[derive(Deserialize, Serialize, Clone)]
struct Layer {
    #[serde(rename = "layer")]
    name: String,
    cycles: u64,
    /// With the prefetch before the first demand and the results' way to memory.
    #[serde(default)]
    prefetched_cycles: Option<u64>,
    #[serde(default)]
    stalls: u64,
    #[serde(default)]
    walked_cycles: Option<u64>,
    #[serde(default)]
    stepped_cycles: Option<u64>,
}

/// What a run took: the processor's seconds of the peer, the clock's of ours.
#[derive(Deserialize, Serialize, Clone, Default)]
struct Took {
    #[serde(default)]
    seconds: f64,
    #[serde(default)]
    peak_bytes: f64,
    #[serde(default)]
    closed_seconds: f64,
    #[serde(default)]
    walked_seconds: Option<f64>,
    #[serde(default)]
    stepped_seconds: Option<f64>,
}

/// What came of a case.
#[derive(Serialize)]
struct Compared {
    case: String,
    layers: usize,
    /// Layers with the peer's cycles exactly: in closed form where nothing stalls, walked otherwise.
    equal: usize,
    worst_percent: f64,
    peer_cycles: u64,
    our_cycles: u64,
    /// Prefetch and the way to memory included, where the interface has no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    peer_prefetched_cycles: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    our_prefetched_cycles: Option<u64>,
    /// Without the peer's double count of stalls, where there are stalls.
    sound_cycles: Option<u64>,
    peer: Took,
    ours: Took,
}

/// Compare; an error when a layer without stalls differs, or one with them by more than one percent.
pub(crate) fn run(options: &Options) -> Result<()> {
    let scratch = workspace::path("target/peers/scale-sim");
    std::fs::create_dir_all(&scratch)?;
    if !options.built {
        let mut build = process::cargo();
        build.args(["build", "--release", "--package", "anychip-systolic"]);
        process::run(build.args(["--example", "scale_sim"]))?;
    }
    let ours = workspace::path("target/release/examples")
        .join(format!("scale_sim{}", std::env::consts::EXE_SUFFIX));
    let mut found = Vec::new();
    let mut faults = 0;
    println!(
        "{:<40} {:>6} {:>6} {:>9} {:>12} {:>12} {:>12} {:>9} {:>10} {:>8} {:>8}",
        "case",
        "layers",
        "equal",
        "worst %",
        "peer cycles",
        "our cycles",
        "sound",
        "peer s",
        "closed",
        "walked",
        "stepped"
    );
    for case in cases(options) {
        let compared = compare(&case, &scratch, &ours)?;
        let ok = if case.bandwidth.is_some() {
            compared.worst_percent <= 1.0
        } else {
            compared.equal == compared.layers
        };
        faults += usize::from(!ok);
        let times = |seconds: f64| format!("{:.0} ×", compared.peer.seconds / seconds.max(1e-9));
        println!(
            "{:<40} {:>6} {:>6} {:>9.3} {:>12} {:>12} {:>12} {:>9.1} {:>10} {:>8} {:>8}",
            compared.case,
            compared.layers,
            compared.equal,
            compared.worst_percent,
            compared.peer_cycles,
            compared.our_cycles,
            compared.sound_cycles.map_or(String::new(), |cycles| cycles.to_string()),
            compared.peer.seconds,
            times(compared.ours.closed_seconds),
            compared.ours.walked_seconds.map_or(String::new(), times),
            compared.ours.stepped_seconds.map_or(String::new(), times),
        );
        found.push(compared);
    }
    if let Some(folder) = options.out.parent().filter(|f| !f.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::write(&options.out, serde_json::to_string_pretty(&found)? + "\n")?;
    if faults > 0 {
        bail!("{faults} cases differ from the peer");
    }
    Ok(())
}

fn cases(options: &Options) -> Vec<Case> {
    let mut cases = Vec::new();
    let wanted = |name: &str| {
        options.topologies.is_empty() || options.topologies.iter().any(|asked| asked == name)
    };
    for dataflow in ["ws", "os", "is"] {
        for (topology, gemm) in [("transformer", true), ("alexnet", false), ("resnet50", false)] {
            if wanted(topology) {
                let whole = options.full && topology == "resnet50" && dataflow == "ws";
                let (side, kilobytes, bandwidth) = (options.side, BUFFERS, None);
                cases.push(Case { topology, gemm, side, dataflow, kilobytes, bandwidth, whole });
            }
        }
        if wanted("small") {
            for (kilobytes, words) in [(1, 4), (2, 10), (8, 3)] {
                let (topology, side, bandwidth) = ("small", 16, Some(words));
                let (gemm, whole, kilobytes) = (false, false, [kilobytes; 3]);
                cases.push(Case { topology, gemm, side, dataflow, kilobytes, bandwidth, whole });
            }
        }
    }
    cases
}

fn compare(case: &Case, scratch: &Path, ours: &Path) -> Result<Compared> {
    let name = case.name();
    let config = scratch.join(format!("{name}.cfg"));
    std::fs::write(&config, case.config())?;
    let topology = scratch.join(format!("{name}.csv"));
    let all = workspace::path("tools/scale-sim").join(format!("{}.csv", case.topology));
    let all =
        std::fs::read_to_string(&all).with_context(|| format!("reading {}", all.display()))?;
    std::fs::write(&topology, if case.whole { all } else { distinct(&all) })?;
    let kept = scratch.join(format!("{name}.jsonl"));
    if !kept.exists() {
        let mut command = python::script(&python::scale_sim()?, "tools/peer_scale_sim.py");
        command.arg(&config).arg(&topology).arg(if case.gemm { "gemm" } else { "conv" });
        let printed = process::printed(command.arg(scratch.join(&name)))?;
        std::fs::write(&kept, printed)?;
    }
    let (peer_layers, peer) = read(&std::fs::read_to_string(&kept)?)?;
    let mine = |flags: &[&str]| -> Result<(Vec<Layer>, Took)> {
        let mut command = process::command(ours);
        command.arg("--config").arg(&config).arg("--topology").arg(&topology).args(flags);
        if case.gemm {
            command.arg("--gemm");
        }
        read(&process::printed(&mut command)?)
    };
    let flags: &[&str] = if case.bandwidth.is_some() { &["--walk"] } else { &["--walk", "--step"] };
    let (our_layers, took) = mine(flags)?;
    let sound = match case.bandwidth {
        Some(_) => Some(mine(&["--walk", "--sound"])?.0),
        None => None,
    };
    if our_layers.len() != peer_layers.len() {
        bail!("{name}: {} layers here, {} there", our_layers.len(), peer_layers.len());
    }
    let figure = |layer: &Layer| layer.walked_cycles.unwrap_or(layer.cycles);
    let (mut equal, mut worst) = (0, 0.0f64);
    for (ours, peer) in our_layers.iter().zip(&peer_layers) {
        // Without stalls all of our forms must say the same.
        let all = [Some(ours.cycles), ours.walked_cycles, ours.stepped_cycles];
        let same = if case.bandwidth.is_some() {
            figure(ours) == peer.cycles
        } else {
            all.into_iter().flatten().all(|cycles| cycles == peer.cycles)
        };
        let same =
            same && (case.bandwidth.is_some() || ours.prefetched_cycles == peer.prefetched_cycles);
        equal += usize::from(same);
        let off = 100.0 * (figure(ours) as f64 / peer.cycles as f64 - 1.0).abs();
        worst = worst.max(off);
        if !same {
            println!(
                "  {name} {}: {all:?} here, {} there; with prefetch {:?} and {:?}",
                ours.name, peer.cycles, ours.prefetched_cycles, peer.prefetched_cycles
            );
        }
    }
    let prefetched = |layers: &[Layer]| {
        let unlimited = case.bandwidth.is_none();
        unlimited.then(|| layers.iter().map(|layer| layer.prefetched_cycles).sum()).flatten()
    };
    Ok(Compared {
        peer_prefetched_cycles: prefetched(&peer_layers),
        our_prefetched_cycles: prefetched(&our_layers),
        case: name,
        layers: our_layers.len(),
        equal,
        worst_percent: worst,
        peer_cycles: peer_layers.iter().map(|layer| layer.cycles).sum(),
        our_cycles: our_layers.iter().map(figure).sum(),
        sound_cycles: sound.map(|layers| layers.iter().map(figure).sum()),
        peer,
        ours: took,
    })
}

/// A topology with each layer once, whatever it is called.
fn distinct(topology: &str) -> String {
    let mut seen = std::collections::BTreeSet::new();
    let sizes = |line: &str| -> String {
        line.split(',').skip(1).map(|cell| format!("{},", cell.trim())).collect()
    };
    topology
        .lines()
        .enumerate()
        .filter(|(i, line)| *i == 0 || seen.insert(sizes(line)))
        .map(|(_, line)| format!("{line}\n"))
        .collect()
}

/// Lines of layers, and the last one, of what it took.
fn read(text: &str) -> Result<(Vec<Layer>, Took)> {
    let lines: Vec<&str> = text.lines().filter(|line| line.starts_with('{')).collect();
    let (took, layers) = lines.split_last().context("nothing was printed")?;
    let layers =
        layers.iter().map(|line| Ok(serde_json::from_str(line)?)).collect::<Result<_>>()?;
    Ok((layers, serde_json::from_str(took)?))
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_layer_of_the_same_sizes_is_the_same() {
        let all = "Layer, M,\na, 1, 2,\nb, 1,2,\nc, 1, 3,\n";
        assert_eq!(super::distinct(all), "Layer, M,\na, 1, 2,\nc, 1, 3,\n");
    }
}
