//! Two models on the same input, value by value: where they begin to differ.

use std::collections::BTreeMap;

use anychip_ir::{Graph, ValueId, evaluate};
use anychip_quantize::expose;
use anychip_target::CompileOptions;
use anychip_tensor::Tensor;

use crate::inputs::{Arrays, arrange};
use crate::{Engine, Error, local_chip};

/// How one value differs between two models.
#[derive(Debug, Clone)]
pub struct Difference {
    /// Its name in both.
    pub name: String,
    /// The operator that makes it in the first.
    pub op: &'static str,
    /// Signal to noise, in dB; infinite where nothing differs.
    pub signal_to_noise: f64,
    /// The cosine of the angle between the two as vectors; `None` where one is all zeros.
    pub cosine: Option<f64>,
    /// The largest difference of two elements.
    pub largest: f64,
    /// Elements compared.
    pub elements: usize,
}

/// What two models have in common and how it differs.
#[derive(Debug, Clone, Default)]
pub struct Differences {
    /// Values with one name in both, in the order of the first model; its outputs last.
    pub values: Vec<Difference>,
    /// Values of the first model that the second has not, or has in another shape.
    pub unmatched: usize,
}

/// The name of what defines every operator, in place of a chip's.
pub const REFERENCE: &str = "reference";

/// A model on a chip, or on [`REFERENCE`].
#[derive(Clone, Copy)]
pub struct Side<'a> {
    /// The model.
    pub graph: &'a Graph,
    /// What runs it.
    pub chip: &'a str,
}

/// Values that are read in one run take at most so many numbers.
const AT_ONCE: usize = 1 << 26;

/// Runs two models, or one on two chips, on one input and compares every float value that has one name in both.
pub fn diff(first: Side<'_>, second: Side<'_>, arrays: &Arrays) -> Result<Differences, Error> {
    let sides = [first, second];
    let (first, second) = (first.graph, second.graph);
    let inputs = [arrange(first, arrays)?, arrange(second, arrays)?];
    let others = named(second);
    let mut result = Differences::default();
    let mut pairs: Vec<(String, ValueId, ValueId)> = Vec::new();
    let outputs: BTreeMap<ValueId, &str> =
        second.outputs().iter().copied().zip(second.output_names().iter().map(|n| &**n)).collect();
    for value in first.values() {
        let Some(name) = first.value_name(value).filter(|n| !n.is_empty()) else { continue };
        let made = first.producer(value).is_some() && first.constant(value).is_none();
        if !made || !first.ty(value).dtype.is_float() || first.outputs().contains(&value) {
            continue;
        }
        match others.get(name) {
            Some(&other) if second.ty(other).rank() == first.ty(value).rank() => {
                pairs.push((name.to_string(), value, other));
            }
            _ => result.unmatched += 1,
        }
    }
    for (name, &value) in first.output_names().iter().zip(first.outputs()) {
        let other = outputs.iter().find(|(_, n)| **n == &**name).map(|(&v, _)| v);
        // Outputs of other names still are in the same order.
        let place = first.outputs().iter().position(|&v| v == value).unwrap_or_default();
        let Some(other) = other.or_else(|| second.outputs().get(place).copied()) else {
            result.unmatched += 1;
            continue;
        };
        if first.ty(value).dtype.is_float() && second.ty(other).dtype.is_float() {
            pairs.push((name.to_string(), value, other));
        }
    }
    let mut from = 0;
    while from < pairs.len() {
        let mut to = from;
        let mut held = 0usize;
        while to < pairs.len() && (to == from || held < AT_ONCE) {
            let sizes = first.ty(pairs[to].1).shape.iter().map(|d| d.fixed().unwrap_or(64));
            held = held.saturating_add(sizes.product());
            to += 1;
        }
        let part = &pairs[from..to];
        let left: Vec<ValueId> = part.iter().map(|p| p.1).collect();
        let right: Vec<ValueId> = part.iter().map(|p| p.2).collect();
        let found = [run(sides[0], &left, &inputs[0])?, run(sides[1], &right, &inputs[1])?];
        for ((name, value, _), (a, b)) in part.iter().zip(found[0].iter().zip(&found[1])) {
            if a.shape() == b.shape() {
                let op = first.producer(*value).map_or("input", |n| n.op.name());
                result.values.push(compared(name, op, a, b));
            } else {
                result.unmatched += 1;
            }
        }
        from = to;
    }
    Ok(result)
}

/// Values by name, those that a node makes.
fn named(graph: &Graph) -> BTreeMap<&str, ValueId> {
    let name = |v: ValueId| graph.value_name(v).filter(|n| !n.is_empty()).map(|n| (n, v));
    graph.values().filter(|&v| graph.constant(v).is_none()).filter_map(name).collect()
}

fn run(side: Side<'_>, values: &[ValueId], inputs: &[Tensor]) -> Result<Vec<Tensor>, Error> {
    let graph = side.graph;
    let part = expose(graph, &[], values)?;
    let place = |v: &ValueId| graph.inputs().iter().position(|input| input == v);
    let own: Vec<Tensor> =
        part.inputs.iter().filter_map(|v| inputs.get(place(v)?).cloned()).collect();
    if side.chip == REFERENCE {
        return Ok(evaluate(&part.graph, &own)?);
    }
    let chip = local_chip(side.chip)?;
    let mut engine = Engine::new(&part.graph, &chip, &CompileOptions::default())?;
    Ok(engine.run(&own)?.0)
}

fn compared(name: &str, op: &'static str, a: &Tensor, b: &Tensor) -> Difference {
    let (mut signal, mut noise, mut other, mut dot, mut largest) = (0.0, 0.0, 0.0, 0.0, 0.0f64);
    for (a, b) in a.to_f64().into_iter().zip(b.to_f64()) {
        let off = if a == b { 0.0 } else { a - b };
        signal += a * a;
        other += b * b;
        noise += off * off;
        dot += a * b;
        largest = if off.is_nan() { f64::NAN } else { largest.max(off.abs()) };
    }
    let lengths = (signal * other).sqrt();
    Difference {
        name: name.to_string(),
        op,
        signal_to_noise: if noise == 0.0 { f64::INFINITY } else { 10.0 * (signal / noise).log10() },
        cosine: (lengths > 0.0).then(|| dot / lengths),
        largest,
        elements: a.len(),
    }
}
