//! The stepped run of a whole graph: products through the array's cells, everything else by the reference evaluator.

use anychip_chips::Dataflow;
use anychip_ir::{Graph, IrError, Node, Prim, evaluate_node};
use anychip_tensor::{DType, Tensor};

use crate::lower::{Layout, integers};
use crate::machine::{Machine, Rate};
use crate::plan::{Plan, Unit};
use crate::stepped::{Lane, Values, step};
use crate::tiling::{Mapping, Product, Tiling};

/// Runs a graph on inputs; the plan's array layers get the cycles that were stepped.
pub(crate) fn run(
    graph: &Graph,
    inputs: &[Tensor],
    machine: &Machine,
    plan: &mut Plan,
) -> Result<Vec<Tensor>, IrError> {
    let mut values: Vec<Option<Tensor>> = vec![None; graph.value_count()];
    let last_use = last_uses(graph);
    for (&value, tensor) in graph.inputs().iter().zip(inputs) {
        values[value.index()] = Some(tensor.clone());
    }
    let held = |values: &[Option<Tensor>], v: anychip_ir::ValueId| -> Result<Tensor, IrError> {
        values[v.index()].clone().ok_or_else(|| IrError::Setting {
            op: "graph",
            reason: "a value is used before it is defined",
            found: v.index().to_string(),
        })
    };
    for (id, node) in graph.iter() {
        let named = |error: IrError| error.at(&node.name);
        let operands: Vec<Tensor> =
            node.inputs.iter().map(|&v| held(&values, v)).collect::<Result<_, _>>()?;
        let layer = plan.layers.iter_mut().find(|layer| layer.nodes.first() == Some(&id));
        let mut results = None;
        if let Some(layer) = layer
            && let Unit::Array { product, mapping, cycles, format } = &mut layer.unit
        {
            let rate = machine.formats.get(format).copied().unwrap_or(Rate::ONE);
            let tiling = Tiling::new(machine, *product, *mapping, rate);
            let stepped = step::<i32>(machine, &tiling, None, &mut []);
            layer.cycles = layer.cycles - cycles.cycles.min(layer.cycles) + stepped.cycles;
            *cycles = stepped;
            results = multiply(node, &operands, machine, *mapping, *product).map_err(named)?;
        }
        let results = match results {
            Some(result) => vec![result],
            None => evaluate_node(&node.op, &node.regions, &operands).map_err(named)?,
        };
        for &input in &node.inputs {
            if last_use[input.index()] == Some(id.index()) {
                values[input.index()] = None;
            }
        }
        for (&output, tensor) in node.outputs.iter().zip(results) {
            if last_use[output.index()].is_some() {
                values[output.index()] = Some(tensor);
            }
        }
    }
    plan.cycles = machine.launch_cycles + plan.layers.iter().map(|layer| layer.cycles).sum::<u64>();
    graph.outputs().iter().map(|&v| held(&values, v)).collect()
}

/// The node after which a value is not needed; none where nobody asks for it.
fn last_uses(graph: &Graph) -> Vec<Option<usize>> {
    let mut last = vec![None; graph.value_count()];
    for (id, node) in graph.iter() {
        node.inputs.iter().for_each(|v| last[v.index()] = Some(id.index()));
    }
    graph.outputs().iter().for_each(|v| last[v.index()] = Some(usize::MAX));
    last
}

/// A product through the cells, with the values that the reference's definition multiplies; `None` where cells have no
/// numbers of its type.
fn multiply(
    node: &Node,
    operands: &[Tensor],
    machine: &Machine,
    mapping: Mapping,
    product: Product,
) -> Result<Option<Tensor>, IrError> {
    let Some(prim @ (Prim::DotGeneral(_, output) | Prim::Convolution(_, output))) = node.op.prim()
    else {
        return Ok(None);
    };
    let shape = result_shape(prim, operands)?;
    let Some(layout) = Layout::of(prim, operands[0].shape(), operands[1].shape(), &shape) else {
        return Ok(None);
    };
    let run = |count: usize| Stepped { machine, mapping, product, layout: &layout, count };
    match output {
        DType::F32 | DType::F16 | DType::BF16 => {
            let floats =
                |x: &Tensor| -> Vec<f32> { x.to_f64().iter().map(|&v| v as f32).collect() };
            let sums =
                run(shape.iter().product()).sums(&floats(&operands[0]), &floats(&operands[1]));
            let wide: Vec<f64> = sums.iter().map(|&v| f64::from(v)).collect();
            Ok(Some(Tensor::from_f64(*output, shape, &wide)?))
        }
        DType::I8 | DType::U8 | DType::I16 | DType::U16 | DType::I32 | DType::U32 => {
            let narrow =
                |x: &Tensor| -> Vec<i32> { integers(x).iter().map(|&v| v as i32).collect() };
            let sums =
                run(shape.iter().product()).sums(&narrow(&operands[0]), &narrow(&operands[1]));
            wrapped(*output, shape, &sums).map(Some)
        }
        _ => Ok(None),
    }
}

/// Integers of 32 bits as the result's type: the low bits.
fn wrapped(output: DType, shape: Vec<usize>, sums: &[i32]) -> Result<Tensor, IrError> {
    let wrap = |v: i32| -> i128 {
        match output {
            DType::I8 => i128::from(v as i8),
            DType::U8 => i128::from(v as u8),
            DType::I16 => i128::from(v as i16),
            DType::U16 => i128::from(v as u16),
            DType::U32 => i128::from(v as u32),
            _ => i128::from(v),
        }
    };
    let wide: Vec<i128> = sums.iter().map(|&v| wrap(v)).collect();
    Ok(Tensor::from_integers(output, shape, &wide)?)
}

fn result_shape(prim: &Prim, operands: &[Tensor]) -> Result<Vec<usize>, IrError> {
    let mut b = anychip_ir::Builder::new("product");
    let inputs: Vec<_> =
        operands.iter().map(|x| b.input("", anychip_ir::TensorType::of(x))).collect();
    let result = b.prim(prim.clone(), &inputs)?;
    b.graph().ty(result).fixed_shape().ok_or_else(|| IrError::Setting {
        op: prim.name(),
        reason: "operands have sizes",
        found: b.graph().ty(result).to_string(),
    })
}

struct Stepped<'a> {
    machine: &'a Machine,
    mapping: Mapping,
    product: Product,
    layout: &'a Layout,
    count: usize,
}

impl Stepped<'_> {
    /// Steps through the product and puts each sum where the result has it.
    fn sums<T: Lane>(&self, lhs: &[T], rhs: &[T]) -> Vec<T> {
        let Stepped { machine, mapping, product, layout, count } = *self;
        let s = layout.sizes;
        let (lhs, rhs) = (layout.gather_lhs(lhs, T::ZERO), layout.gather_rhs(rhs));
        // Values go a row a cycle through one array, group by group; how long several arrays take was stepped without values.
        let one = Machine { arrays: 1, memory: None, transfer_cycles: 0, ..machine.clone() };
        let mapping = Mapping { pack: 1, ..mapping };
        let group = Product { groups: 1, m: s.m as u64, n: s.n as u64, k: s.k as u64, ..product };
        let tiling = Tiling::new(&one, group, mapping, Rate::ONE);
        let turned = machine.dataflow == Dataflow::InputStationary;
        let mut result = vec![T::ZERO; count];
        for g in 0..s.groups {
            let (l, r) = (&lhs[g * s.m * s.k..][..s.m * s.k], &rhs[g * s.k * s.n..][..s.k * s.n]);
            let places = &layout.result[g * s.m * s.n..][..s.m * s.n];
            let mut sums = vec![T::ZERO; s.m * s.n];
            if turned {
                // The transposed product: weights stream, activations stay.
                let (moving, fixed) = (transposed(r, s.k, s.n), transposed(l, s.m, s.k));
                let values = Values { moving: &moving, fixed: &fixed, sizes: (s.n, s.m, s.k) };
                step(&one, &tiling, Some(values), &mut sums);
                for (i, &sum) in sums.iter().enumerate() {
                    result[places[i % s.m * s.n + i / s.m]] = sum;
                }
            } else {
                let values = Values { moving: l, fixed: r, sizes: (s.m, s.n, s.k) };
                step(&one, &tiling, Some(values), &mut sums);
                sums.iter().zip(places).for_each(|(&sum, &place)| result[place] = sum);
            }
        }
        result
    }
}

/// `[rows, columns]` as `[columns, rows]`.
fn transposed<T: Copy>(data: &[T], rows: usize, columns: usize) -> Vec<T> {
    (0..columns).flat_map(|c| (0..rows).map(move |r| data[r * columns + c])).collect()
}
