//! Arrays for a model's inputs: checked against what it takes, or made up where only speed is asked.

use std::collections::BTreeMap;

use anychip_ir::{Graph, Prim, TensorType, ValueId};
use anychip_tensor::{DType, Dim, Tensor};

use crate::Error;
use crate::model::input_types;

/// Arrays by name.
pub type Arrays = BTreeMap<String, Tensor>;

/// The arrays for the graph's inputs, in its order; or every misfit: what is missing, of the wrong type or of
/// the wrong shape, with what was expected.
pub fn arrange(graph: &Graph, arrays: &Arrays) -> Result<Vec<Tensor>, Error> {
    let mut problems = Vec::new();
    let mut ordered = Vec::new();
    let mut numbers: BTreeMap<String, (usize, String)> = BTreeMap::new();
    for (name, _, ty) in input_types(graph) {
        let Some(tensor) = arrays.get(name) else {
            let there = arrays.keys().map(|k| format!("`{k}`")).collect::<Vec<_>>().join(", ");
            problems.push(format!("input `{name}` {ty} is missing; the archive holds {there}"));
            continue;
        };
        let found = TensorType::of(tensor);
        if found.dtype != ty.dtype {
            problems.push(format!(
                "input `{name}` is {found}, expected {ty}; save it as numpy dtype {}",
                numpy_name(ty.dtype)
            ));
        }
        if found.rank() == ty.rank() {
            for (axis, (dim, &size)) in ty.shape.iter().zip(tensor.shape()).enumerate() {
                match dim {
                    Dim::Fixed(n) if *n != size => problems.push(format!(
                        "input `{name}` is {found}, expected {ty}: dim {axis} is {size} instead of {n}"
                    )),
                    Dim::Sym(symbol) => {
                        let (first, from) =
                            numbers.entry(symbol.to_string()).or_insert_with(|| (size, name.to_string()));
                        if *first != size {
                            problems.push(format!(
                                "input `{name}` has `{symbol}` = {size}, input `{from}` has {first}"
                            ));
                        }
                    }
                    Dim::Fixed(_) | Dim::Expr(_) => {}
                }
            }
        } else {
            problems.push(format!(
                "input `{name}` is {found}, expected {ty}: {} dims instead of {}",
                found.rank(),
                ty.rank()
            ));
        }
        ordered.push(tensor.clone());
    }
    if problems.is_empty() { Ok(ordered) } else { Err(Error::Inputs(problems)) }
}

fn numpy_name(dtype: DType) -> &'static str {
    match dtype {
        DType::F32 | DType::BF16 => "float32",
        DType::F64 => "float64",
        DType::F16 => "float16",
        DType::Bool => "bool",
        DType::I8 | DType::I4 | DType::I2 => "int8",
        DType::I16 => "int16",
        DType::I32 => "int32",
        DType::I64 => "int64",
        DType::U16 => "uint16",
        DType::U32 => "uint32",
        DType::U64 => "uint64",
        DType::U8
        | DType::U4
        | DType::U2
        | DType::F8E4M3FN
        | DType::F8E4M3FNUZ
        | DType::F8E5M2
        | DType::F8E5M2FNUZ
        | DType::F8E8M0
        | DType::F6E2M3
        | DType::F6E3M2
        | DType::F4E2M1 => "uint8",
    }
}

/// Made-up inputs for a graph whose input sizes are numbers: floats from a fixed normal sequence, indices within
/// the table they look up, masks of ones. For questions of speed only.
pub fn made_up(graph: &Graph) -> Result<Vec<Tensor>, Error> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut tensors = Vec::new();
    for (name, value, ty) in input_types(graph) {
        let shape = ty.fixed_shape().ok_or_else(|| Error::UnknownDim {
            name: ty
                .shape
                .iter()
                .find(|d| d.fixed().is_none())
                .map(ToString::to_string)
                .unwrap_or_default(),
            input: name.to_string(),
        })?;
        let count: usize = shape.iter().product();
        let bound = index_bound(graph, value);
        let values: Vec<f64> = (0..count)
            .map(|_| {
                if ty.dtype.is_float() {
                    // The sum of four uniforms is near enough to a normal.
                    (0..4).map(|_| uniform(&mut state)).sum::<f64>() - 2.0
                } else if let Some(bound) = bound {
                    (uniform(&mut state) * bound as f64).floor()
                } else {
                    1.0
                }
            })
            .collect();
        tensors
            .push(Tensor::from_f64(ty.dtype, shape, &values).map_err(anychip_ir::IrError::from)?);
    }
    Ok(tensors)
}

fn uniform(state: &mut u64) -> f64 {
    // SplitMix64 (Steele, Lea, Flood 2014).
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
}

/// The smallest table that the value indexes, itself or after casts and reshapes.
fn index_bound(graph: &Graph, value: ValueId) -> Option<usize> {
    let mut same = vec![value];
    let mut bound: Option<usize> = None;
    for node in graph.nodes() {
        let Some(prim) = node.op.prim() else { continue };
        if let Prim::Take { axis } | Prim::TakeAlong { axis } = prim
            && same.contains(&node.inputs[1])
            && let Some(n) = graph.ty(node.inputs[0]).shape[*axis].fixed()
        {
            bound = Some(bound.map_or(n, |b| b.min(n)));
        }
        let keeps_values = matches!(
            prim,
            Prim::Cast { .. }
                | Prim::Reshape
                | Prim::Broadcast
                | Prim::Transpose { .. }
                | Prim::Slice { .. }
        );
        if keeps_values && same.contains(&node.inputs[0]) {
            same.push(node.outputs[0]);
        }
    }
    bound
}

#[cfg(test)]
mod tests {
    use super::*;
    use anychip_ir::Builder;

    fn embedding() -> Graph {
        let mut b = Builder::new("embedding");
        let ids = b.input("ids", TensorType::new(DType::I64, [Dim::sym("n"), 3.into()]));
        let x = b.input("x", TensorType::new(DType::F32, [Dim::sym("n"), 3.into(), 4.into()]));
        let table = b.constant(Tensor::zeros(DType::F32, [7, 4]).unwrap());
        let rows = b.prim(Prim::Take { axis: 0 }, &[table, ids]).unwrap();
        let sum = b.add(rows, x).unwrap();
        b.finish(&[sum])
    }

    #[test]
    fn every_misfit_is_named_at_once() {
        let graph = embedding();
        let mut arrays = Arrays::new();
        arrays.insert("ids".into(), Tensor::zeros(DType::I32, [2, 5]).unwrap());
        let text = arrange(&graph, &arrays).unwrap_err().to_string();
        assert!(text.contains("expected i64[n, 3]; save it as numpy dtype int64"), "{text}");
        assert!(text.contains("dim 1 is 5 instead of 3"), "{text}");
        assert!(text.contains("input `x` f32[n, 3, 4] is missing"), "{text}");
    }

    #[test]
    fn one_name_is_one_size() {
        let graph = embedding();
        let mut arrays = Arrays::new();
        arrays.insert("ids".into(), Tensor::zeros(DType::I64, [2, 3]).unwrap());
        arrays.insert("x".into(), Tensor::zeros(DType::F32, [3, 3, 4]).unwrap());
        let text = arrange(&graph, &arrays).unwrap_err().to_string();
        assert!(text.contains("has `n` = 3, input `ids` has 2"), "{text}");
    }

    #[test]
    fn indices_stay_inside_their_table() {
        let graph = embedding();
        assert_eq!(index_bound(&graph, graph.inputs()[0]), Some(7));
        assert_eq!(index_bound(&graph, graph.inputs()[1]), None);
    }
}
