//! The timeline of a run in the trace event format, which Perfetto and Chrome's `about:tracing` open.

use serde_json::{Value, json};

use crate::explain;
use crate::machine::Machine;
use crate::plan::{Plan, Unit};

/// Rows of the timeline.
const LANES: [&str; 3] = ["arrays", "vector unit", "control flow"];

/// Every layer as an event on the row of its unit, with what its cycles went to; traffic as counters.
pub(crate) fn chrome(plan: &Plan, machine: &Machine) -> String {
    let micros = |cycles: u64| cycles as f64 / machine.clock_hz * 1e6;
    let mut events: Vec<Value> = vec![json!({
        "ph": "M", "pid": 1, "name": "process_name", "args": {"name": format!("{} (simulated)", machine.name)},
    })];
    for (lane, name) in LANES.iter().enumerate() {
        events.push(json!({"ph": "M", "pid": 1, "tid": lane, "name": "thread_name", "args": {"name": name}}));
    }
    let mut now = machine.launch_cycles;
    for layer in &plan.layers {
        let (lane, mut args) = match &layer.unit {
            Unit::Array { cycles, .. } => (
                0,
                json!({
                    "streaming": cycles.streaming, "waits for tiles": cycles.fetch, "waits for loads": cycles.load,
                    "waits for rows": cycles.moving, "waits for sums": cycles.drain, "tail": cycles.tail,
                    "utilization": layer.macs / machine.cells_times(layer.cycles.max(1)),
                }),
            ),
            Unit::Vector => (1, json!({})),
            Unit::Region { times } => (2, json!({"times": times})),
        };
        args["cycles"] = json!(layer.cycles);
        args["kernel"] = json!(explain::kernel(layer));
        args["memory read"] = json!(layer.traffic.memory_read);
        args["memory written"] = json!(layer.traffic.memory_written);
        events.push(json!({
            "ph": "X", "pid": 1, "tid": lane, "name": layer.name, "cat": "layer",
            "ts": micros(now), "dur": micros(layer.cycles), "args": args,
        }));
        let seconds = layer.cycles as f64 / machine.clock_hz;
        let bytes = layer.traffic.memory_read + layer.traffic.memory_written;
        let rate = if seconds > 0.0 { bytes / seconds * 1e-9 } else { 0.0 };
        events.push(json!({
            "ph": "C", "pid": 1, "name": "memory, GB/s", "ts": micros(now), "args": {"GB/s": rate},
        }));
        now += layer.cycles;
    }
    json!({"displayTimeUnit": "ns", "traceEvents": events}).to_string()
}
