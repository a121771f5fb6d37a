//! What was decided, in words: the machine, and where each layer went.

use anychip_chips::Dataflow;

use crate::machine::Machine;
use crate::plan::{Layer, Plan, Unit};
use crate::tiling::{Order, Split};

/// The machine in a few lines, assumptions included.
pub(crate) fn machine(machine: &Machine) -> Vec<String> {
    let formats: Vec<&str> = machine.formats.keys().map(|f| f.word()).collect();
    let mut lines = vec![format!(
        "{} × {} × {} cells, {}, {:.3} GHz, {}; vector unit of {} operations a cycle",
        machine.arrays,
        machine.rows,
        machine.columns,
        machine.dataflow,
        machine.clock_hz * 1e-9,
        formats.join(" "),
        machine.vector_lanes,
    )];
    if let Some(memory) = machine.memory {
        let rate = memory.bytes as f64 / memory.cycles as f64;
        lines.push(format!("memory: {rate:.1} bytes a cycle, {} tiles ahead", machine.tiles_ahead));
    }
    lines.extend(machine.assumptions.iter().map(|assumed| format!("taken: {assumed}")));
    lines
}

/// The operators and the unit of a layer: the `kernel` of tables.
pub(crate) fn kernel(layer: &Layer) -> String {
    match &layer.unit {
        Unit::Array { product, format, .. } => {
            let groups =
                if product.groups > 1 { format!("{} × ", product.groups) } else { String::new() };
            format!(
                "{} [array {format}, {groups}{}×{}×{}]",
                layer.operators, product.m, product.n, product.k
            )
        }
        Unit::Vector => format!("{} [vector unit]", layer.operators),
        Unit::Region { times } => format!("{} [{times} times its body]", layer.operators),
    }
}

/// Each layer: where it went, its tile, its cycles and what they went to.
pub(crate) fn layers(plan: &Plan, machine: &Machine) -> Vec<String> {
    plan.layers.iter().map(|layer| line(layer, machine)).collect()
}

fn line(layer: &Layer, machine: &Machine) -> String {
    let mut text = format!("{}: {}, {} cycles", layer.name, kernel(layer), layer.cycles);
    if let Unit::Array { mapping, cycles, .. } = &layer.unit {
        let share = 100.0 * layer.macs / machine.cells_times(layer.cycles.max(1));
        let split = match mapping.split {
            _ if machine.arrays == 1 => String::new(),
            Split::Columns => ", arrays divide columns".to_owned(),
            Split::Rows => ", arrays divide rows".to_owned(),
            Split::Groups => ", arrays divide groups".to_owned(),
        };
        let (stays, streams) = match machine.dataflow {
            Dataflow::WeightStationary => ("weights", "activations"),
            Dataflow::InputStationary => ("activations", "weights"),
            Dataflow::OutputStationary => ("columns", "rows"),
        };
        let order = match mapping.order {
            Order::StationaryOutside => format!("{stays} outside"),
            Order::MovingOutside => format!("{streams} outside"),
        };
        let packed = if mapping.pack > 1 {
            format!(", {} groups a tile", mapping.pack)
        } else {
            String::new()
        };
        text += &format!(
            ", {share:.1} % of cells{split}, {order}{packed}, stalls: memory {} + {}, load {}, drain {}",
            cycles.fetch, cycles.moving, cycles.load, cycles.drain
        );
    }
    text
}

/// A row a layer, for spreadsheets.
pub(crate) fn csv(plan: &Plan, machine: &Machine) -> String {
    let mut text =
        "layer,kernel,cycles,utilization,streaming,fetch,load,moving,drain,tail,memory_read,\
                    memory_written,buffer_read,buffer_written,accumulators,joules\n"
            .to_owned();
    for layer in &plan.layers {
        let cycles = match &layer.unit {
            Unit::Array { cycles, .. } => *cycles,
            Unit::Vector | Unit::Region { .. } => crate::schedule::Cycles::default(),
        };
        let t = &layer.traffic;
        let joules = layer.joules.map(|j| format!("{j:e}")).unwrap_or_default();
        text += &format!(
            "\"{}\",\"{}\",{},{:.6},{},{},{},{},{},{},{},{},{},{},{},{joules}\n",
            layer.name.replace('"', "'"),
            kernel(layer),
            layer.cycles,
            layer.macs / machine.cells_times(layer.cycles.max(1)),
            cycles.streaming,
            cycles.fetch,
            cycles.load,
            cycles.moving,
            cycles.drain,
            cycles.tail,
            t.memory_read,
            t.memory_written,
            t.buffer_read,
            t.buffer_written,
            t.accumulators,
        );
    }
    text
}
