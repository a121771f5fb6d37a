//! A graph on a machine: which unit does what, in what tiles, in how many cycles.
//!
//! Groups are those that a compiler would form ([`anychip_passes::fuse`]): a product with the elementwise nodes that its
//! write-back does, elementwise nodes alone, anything else by itself. Products go to the arrays where those have the format
//! and are faster; all else is the vector unit's. Layers follow one another. A value stays on the chip where there is room
//! when it is made.

use std::collections::{BTreeMap, BTreeSet};

use anychip_chips::Precision;
use anychip_ir::{Graph, IrError, NodeId, Op, Prim, ValueId, node_works};
use anychip_passes::Uses;
use anychip_passes::fuse::{self, Group, GroupKind};
use anychip_tensor::DType;

use crate::energy;
use crate::lower::{narrow, sizes};
use crate::machine::Machine;
use crate::mapper::{Mapped, Objective, map};
use crate::schedule::Cycles;
use crate::stored::{Stored, does_nothing};
use crate::tiling::{Mapping, Operand, Product, Traffic};

/// How to plan.
#[derive(Debug, Clone, Copy, Default)]
pub struct PlanOptions {
    /// What the mapper looks for.
    pub objective: Objective,
    /// The format that floats are computed and kept in; each in its own when absent.
    pub precision: Option<Precision>,
}

/// The unit that does a layer.
#[derive(Debug, Clone, PartialEq)]
pub enum Unit {
    /// The arrays, and the vector unit at the write-back.
    Array {
        /// The product.
        product: Product,
        /// The format of its operands.
        format: Precision,
        /// How it is put on the arrays.
        mapping: Mapping,
        /// Where the arrays' time goes.
        cycles: Cycles,
    },
    /// The vector unit.
    Vector,
    /// A loop or branch, whose body is a plan of its own, so many times.
    Region {
        /// Runs of the body.
        times: u64,
    },
}

/// A group of nodes that run as one.
#[derive(Debug, Clone, PartialEq)]
pub struct Layer {
    /// The first node as the model's author would know it.
    pub name: String,
    /// Its operators, joined by `+`.
    pub operators: String,
    /// Who does it.
    pub unit: Unit,
    /// From its start to its end.
    pub cycles: u64,
    /// Multiply-accumulates.
    pub macs: f64,
    /// Other operations.
    pub operations: f64,
    /// Bytes across each level.
    pub traffic: Traffic,
    /// Joules, where the machine's process is known.
    pub joules: Option<f64>,
    /// The group's nodes.
    pub nodes: Vec<NodeId>,
}

/// A graph on a machine.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Plan {
    /// In the order they run.
    pub layers: Vec<Layer>,
    /// From the launch to the last result.
    pub cycles: u64,
    /// Of those, what layers cost beside their work.
    pub between: u64,
    /// Whether a size is one that only a run can tell, so that counts are bounds.
    pub data_dependent: bool,
}

/// Why a graph cannot be planned.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// A size has no number, or the graph is at fault.
    #[error(transparent)]
    Graph(#[from] IrError),
    /// The machine multiplies integers alone.
    #[error("{node} multiplies {format} and {machine} computes {known}")]
    Format {
        /// The node.
        node: String,
        /// What it multiplies.
        format: DType,
        /// The machine.
        machine: String,
        /// What that multiplies.
        known: String,
    },
}

impl Plan {
    /// The sum of a figure over layers; absent where one lacks it.
    pub fn joules(&self) -> Option<f64> {
        self.layers.iter().map(|layer| layer.joules).sum()
    }

    /// Bytes across each level, all layers together.
    pub fn traffic(&self) -> Traffic {
        let mut all = Traffic::default();
        self.layers.iter().for_each(|layer| all += layer.traffic);
        all
    }

    /// Where the arrays' time goes, all layers together.
    pub fn array_cycles(&self) -> Cycles {
        let mut all = Cycles::default();
        for layer in &self.layers {
            if let Unit::Array { cycles, .. } = &layer.unit {
                all += *cycles;
            }
        }
        all
    }
}

/// Plans an optimized graph whose sizes are numbers.
pub fn plan(graph: &Graph, machine: &Machine, options: PlanOptions) -> Result<Plan, PlanError> {
    let mut planner = Planner { machine, options, mapped: BTreeMap::new() };
    let mut plan = planner.graph(graph)?;
    plan.cycles = machine.launch_cycles + plan.layers.iter().map(|layer| layer.cycles).sum::<u64>();
    Ok(plan)
}

struct Planner<'a> {
    machine: &'a Machine,
    options: PlanOptions,
    /// Networks repeat their layers.
    mapped: BTreeMap<(Product, Precision), Option<Mapped>>,
}

/// Which values are on the chip, and how much room is left.
struct Placement {
    on_chip: Vec<bool>,
    left: Option<u64>,
    cache_left: u64,
}

impl Planner<'_> {
    fn graph(&mut self, graph: &Graph) -> Result<Plan, PlanError> {
        let works = node_works(graph)?;
        let uses = Uses::of(graph);
        let groups = fuse::groups(graph);
        let stored = Stored::of(graph, &uses, groups.groups());
        let mut placement = Placement {
            on_chip: vec![false; graph.value_count()],
            left: self.machine.activation_bytes,
            cache_left: self.machine.weight_cache_bytes,
        };
        self.keep_weights(graph, &mut placement);
        let mut plan = Plan::default();
        for group in groups.iter() {
            let work = group
                .nodes
                .iter()
                .map(|id| works[id.index()])
                .fold(anychip_ir::Work::default(), |sum, work| sum + work);
            plan.data_dependent |= work.data_dependent;
            let first = graph.node(group.nodes[0]);
            if does_nothing(graph, &uses, group) {
                let here = first.inputs.first().is_some_and(|v| placement.on_chip[v.index()]);
                group.outputs.iter().for_each(|v| placement.on_chip[v.index()] = here);
                continue;
            }
            for &output in &group.outputs {
                self.place(graph, &uses, output, &mut placement);
            }
            let layer = if first.regions.is_empty() {
                let mut layer = self.layer(graph, group, work, &placement)?;
                // Published with memory at both ends: what is on the chip when it begins has no such wait.
                if layer.traffic.memory_read + layer.traffic.memory_written > 0.0 {
                    layer.cycles += self.machine.layer_cycles;
                    plan.between += self.machine.layer_cycles;
                }
                layer
            } else {
                self.region(graph, group, &mut plan)?
            };
            plan.layers.push(layer);
            let used: BTreeSet<ValueId> =
                group.inputs.iter().map(|v| stored.at[v.index()]).collect();
            for value in used {
                let dead =
                    stored.last[value.index()].is_some_and(|last| group.nodes.contains(&last));
                if placement.on_chip[value.index()]
                    && dead
                    && graph.constant(value).is_none()
                    && let Some(left) = &mut placement.left
                {
                    *left += self.bytes(graph, value);
                }
            }
        }
        Ok(plan)
    }

    /// Weights that stay from one run to the next, in the order of their use, as far as they fit.
    fn keep_weights(&self, graph: &Graph, placement: &mut Placement) {
        for value in graph.values().filter(|&v| graph.constant(v).is_some()) {
            let bytes = self.bytes(graph, value);
            if bytes <= placement.cache_left {
                placement.cache_left -= bytes;
                placement.on_chip[value.index()] = true;
            }
        }
    }

    fn place(&self, graph: &Graph, uses: &Uses, value: ValueId, placement: &mut Placement) {
        let bytes = self.bytes(graph, value);
        let fits = !uses.is_output(value) && placement.left.is_none_or(|left| bytes <= left);
        placement.on_chip[value.index()] = fits;
        if let Some(left) = placement.left.as_mut().filter(|_| fits) {
            *left -= bytes;
        }
    }

    /// Bytes of an element, as it is kept.
    fn element(&self, dtype: DType) -> f64 {
        let own = dtype.bytes_for(2).map_or(1.0, |bytes| bytes as f64 / 2.0);
        match self.options.precision {
            Some(precision) if dtype.is_float() => precision.bits() as f64 / 8.0,
            _ => own,
        }
    }

    /// Bytes of a value; of sizes that only a run can tell, none.
    fn bytes(&self, graph: &Graph, value: ValueId) -> u64 {
        let ty = graph.ty(value);
        let elements = ty.fixed_shape().map_or(0, |shape| shape.iter().product::<usize>());
        (elements as f64 * self.element(ty.dtype)).ceil() as u64
    }

    fn operand(&self, graph: &Graph, value: ValueId, placement: &Placement) -> Operand {
        let dtype = narrow(graph, value);
        let ty = graph.ty(value);
        let element = self.element(dtype).ceil().max(1.0) as u64;
        let elements = ty.fixed_shape().map_or(0, |shape| shape.iter().product::<usize>());
        let bytes = (elements as f64 * self.element(dtype)).ceil() as u64;
        Operand { bytes, element, in_memory: !placement.on_chip[value.index()] }
    }

    fn layer(
        &mut self,
        graph: &Graph,
        group: &Group,
        work: anychip_ir::Work,
        placement: &Placement,
    ) -> Result<Layer, PlanError> {
        let machine = self.machine;
        let node = graph.node(group.nodes[0]);
        let names: Vec<&str> = group.nodes.iter().map(|&id| graph.node(id).op.name()).collect();
        let float = graph.ty(node.outputs[0]).dtype.is_float();
        let process = machine.process_nm.and_then(energy::process);
        let lane_format = match self.options.precision {
            Some(precision) => precision,
            None if float => Precision::F32,
            None => Precision::Int8,
        };
        // Movement passes through the vector unit too, an element a lane.
        let moved: f64 = group.outputs.iter().map(|&v| elements(graph, v)).sum();
        let in_passing = machine.scales_in_passing() && group.kind != GroupKind::Single;
        let vector_operations = match work.operations {
            _ if in_passing => moved,
            operations if work.macs > 0.0 => operations,
            operations => operations.max(moved),
        };
        let vector_cycles =
            |operations: f64| (operations / machine.vector_lanes as f64).ceil() as u64;
        let mut layer = Layer {
            name: node.label().to_owned(),
            operators: names.join("+"),
            unit: Unit::Vector,
            cycles: 0,
            macs: work.macs,
            operations: work.operations,
            traffic: Traffic::default(),
            joules: None,
            nodes: group.nodes.clone(),
        };
        if let Some((product, format)) = self.product(graph, group, placement)? {
            let mapped = self.mapped(product, format);
            let alone = vector_cycles(2.0 * work.macs + work.operations);
            if let Some(mapped) = mapped.filter(|m| m.cycles.cycles <= alone) {
                // What the write-back reads beside the product comes from memory before it.
                let others: u64 = group.inputs[..]
                    .iter()
                    .filter(|v| !node.inputs.contains(v) && !placement.on_chip[v.index()])
                    .map(|&v| self.bytes(graph, v))
                    .sum();
                layer.cycles = mapped.cycles.cycles.max(vector_cycles(vector_operations))
                    + machine.transfer(others);
                layer.traffic = mapped.traffic;
                layer.traffic.memory_read += others as f64;
                layer.joules = mapped.joules.zip(process).map(|(joules, process)| {
                    joules + process.operations(work.operations, lane_format)
                });
                layer.unit =
                    Unit::Array { product, format, mapping: mapped.mapping, cycles: mapped.cycles };
                return Ok(layer);
            }
        }
        let from = |values: &[ValueId], in_memory: bool| -> u64 {
            values
                .iter()
                .filter(|v| placement.on_chip[v.index()] != in_memory)
                .map(|&v| self.bytes(graph, v))
                .sum()
        };
        let (read, written) = (from(&group.inputs, true), from(&group.outputs, true));
        layer.traffic = Traffic {
            memory_read: read as f64,
            memory_written: written as f64,
            buffer_read: (read + from(&group.inputs, false)) as f64,
            buffer_written: (written + from(&group.outputs, false)) as f64,
            accumulators: 0.0,
        };
        let operations = 2.0 * work.macs + vector_operations;
        // Memory streams by while the unit works, both ways one after the other.
        let memory = machine.transfer(read) + machine.transfer(written);
        let latency = if memory > 0 { machine.memory_latency } else { 0 };
        layer.cycles = vector_cycles(operations).max(memory) + latency;
        layer.joules = process.map(|process| {
            process.operations(operations, lane_format) + process.traffic(&layer.traffic)
        });
        Ok(layer)
    }

    fn mapped(&mut self, product: Product, format: Precision) -> Option<Mapped> {
        let (machine, objective) = (self.machine, self.options.objective);
        self.mapped
            .entry((product, format))
            .or_insert_with(|| map(machine, product, format, objective))
            .clone()
    }

    /// The group's product, where it leads one that the arrays have a format for.
    fn product(
        &self,
        graph: &Graph,
        group: &Group,
        placement: &Placement,
    ) -> Result<Option<(Product, Precision)>, PlanError> {
        let node = graph.node(group.nodes[0]);
        let Some(prim @ (Prim::Convolution(..) | Prim::DotGeneral(..))) = node.op.prim() else {
            return Ok(None);
        };
        let (lhs, rhs) = (node.inputs[0], node.inputs[1]);
        let types = (narrow(graph, lhs), narrow(graph, rhs));
        let floats = types.0.is_float() && types.1.is_float();
        let format = match self.options.precision {
            Some(precision) if floats => {
                self.machine.formats.contains_key(&precision).then_some(precision)
            }
            _ => self.machine.format(types.0, types.1),
        };
        let Some(format) = format else {
            if floats && self.machine.formats.keys().all(|f| f.is_integer()) {
                let known: Vec<&str> = self.machine.formats.keys().map(|f| f.word()).collect();
                return Err(PlanError::Format {
                    node: node.label().to_owned(),
                    format: types.0,
                    machine: self.machine.name.clone(),
                    known: known.join(", "),
                });
            }
            return Ok(None);
        };
        let shape = |v: ValueId| graph.ty(v).fixed_shape();
        let (Some(l), Some(r), Some(result)) = (shape(lhs), shape(rhs), shape(node.outputs[0]))
        else {
            return Ok(None);
        };
        let Some(found) = sizes(prim, &l, &r, &result) else { return Ok(None) };
        if found.groups * found.m * found.n * found.k == 0 {
            return Ok(None);
        }
        let out = group.outputs[0];
        Ok(Some((
            Product {
                groups: found.groups as u64,
                m: found.m as u64,
                n: found.n as u64,
                k: found.k as u64,
                lhs: self.operand(graph, lhs, placement),
                rhs: self.operand(graph, rhs, placement),
                out: self.operand(graph, out, placement),
            },
            format,
        )))
    }

    /// A loop takes its body as often as its trip count says, a branch the longer of the two.
    fn region(
        &mut self,
        graph: &Graph,
        group: &Group,
        outer: &mut Plan,
    ) -> Result<Layer, PlanError> {
        let node = graph.node(group.nodes[0]);
        let mut longest = Plan::default();
        for region in &node.regions {
            let mut plan = self.graph(region)?;
            plan.cycles = plan.layers.iter().map(|layer| layer.cycles).sum();
            if plan.cycles >= longest.cycles {
                longest = plan;
            }
        }
        let times = match &node.op {
            Op::Prim(Prim::Loop { .. }) => {
                let trips =
                    graph.constant_integers(node.inputs[0]).and_then(|t| t.first().copied());
                if let Some(trips) = trips.filter(|&trips| trips < i64::from(i32::MAX)) {
                    u64::try_from(trips).unwrap_or(0)
                } else {
                    outer.data_dependent = true;
                    1
                }
            }
            _ => 1,
        };
        outer.data_dependent |= longest.data_dependent;
        outer.between += longest.between * times;
        let sum = |figure: &dyn Fn(&Layer) -> f64| -> f64 {
            longest.layers.iter().map(figure).sum::<f64>() * times as f64
        };
        let traffic = longest.traffic().times(times as f64);
        Ok(Layer {
            name: node.label().to_owned(),
            operators: node.op.name().to_owned(),
            unit: Unit::Region { times },
            cycles: longest.cycles * times,
            macs: sum(&|layer| layer.macs),
            operations: sum(&|layer| layer.operations),
            traffic,
            joules: longest.joules().map(|joules| joules * times as f64),
            nodes: group.nodes.clone(),
        })
    }
}

fn elements(graph: &Graph, value: ValueId) -> f64 {
    graph.ty(value).fixed_shape().map_or(0.0, |shape| shape.iter().product::<usize>() as f64)
}

/// Bytes of a graph's constants, floats as `precision` keeps them.
pub(crate) fn weight_bytes(graph: &Graph, precision: Option<Precision>) -> u64 {
    let bytes = |value: ValueId| {
        let tensor = graph.constant(value)?;
        let scale = match precision {
            Some(precision) if tensor.dtype().is_float() => {
                precision.bits() as f64 / 8.0 * tensor.len() as f64
            }
            _ => tensor.byte_len() as f64,
        };
        Some(scale.ceil() as u64)
    };
    graph.values().filter_map(bytes).sum()
}
