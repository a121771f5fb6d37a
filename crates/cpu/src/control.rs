//! Steps whose results only a run can size: control flow over nested plans, and the reference evaluator.

use std::sync::Arc;

use anychip_ir::{Builder, Graph, IrError, Node, Op, Prim};
use anychip_target::RunError;
use anychip_tensor::{DType, Tensor, TensorView};

use crate::executable::{Executable, Shared};
use crate::step::Barrier;

/// Control flow as a step; `None` for every other operator.
pub(crate) fn lower(node: &Node, shared: &Arc<Shared>) -> Option<Box<dyn Barrier>> {
    let nested = |graph: &Graph| Executable::nested(graph.clone(), Arc::clone(shared));
    match (node.op.prim()?, node.regions.as_slice()) {
        (Prim::If, [then, otherwise]) => {
            Some(Box::new(Branch { then: nested(then), otherwise: nested(otherwise) }))
        }
        (Prim::Loop { carried }, [body]) => {
            Some(Box::new(Repeat { carried: *carried, body: nested(body) }))
        }
        _ => None,
    }
}

/// A claimed composite whose kernel does not do this form of it: its expansion as a graph of its own. `None` where
/// expanding fails, which the reference evaluator then reports.
pub(crate) fn expanded(
    node: &Node,
    graph: &Graph,
    shared: &Arc<Shared>,
) -> Option<Box<dyn Barrier>> {
    let Op::Composite(composite) = &node.op else { return None };
    let mut b = Builder::new(composite.name());
    let mut operands = Vec::new();
    for &v in &node.inputs {
        let input = b.input("", graph.ty(v).clone());
        operands.push(match graph.constant(v) {
            Some(constant) => b.constant(constant.clone()),
            None => input,
        });
    }
    let outputs = composite.expand(&mut b, &operands).ok()?;
    Some(Box::new(Nested(Executable::nested(b.finish(&outputs), Arc::clone(shared)))))
}

struct Nested(Executable);

impl Barrier for Nested {
    fn run(&self, operands: &[TensorView<'_>]) -> Result<Vec<Tensor>, RunError> {
        Ok(self.0.run(operands)?.outputs)
    }
}

/// The reference evaluator as a step: the last resort, named so in `explain`.
pub(crate) fn reference(node: &Node) -> Box<dyn Barrier> {
    Box::new(Reference { op: node.op.clone(), regions: node.regions.clone() })
}

struct Reference {
    op: Op,
    regions: Vec<Graph>,
}

impl Barrier for Reference {
    fn run(&self, operands: &[TensorView<'_>]) -> Result<Vec<Tensor>, RunError> {
        let operands: Vec<Tensor> = operands.iter().map(TensorView::to_tensor).collect();
        Ok(anychip_ir::evaluate_node(&self.op, &self.regions, &operands)?)
    }
}

struct Branch {
    then: Executable,
    otherwise: Executable,
}

impl Barrier for Branch {
    fn run(&self, operands: &[TensorView<'_>]) -> Result<Vec<Tensor>, RunError> {
        let (condition, captures) = operands.split_first().ok_or(missing("if"))?;
        let taken = if truth(condition) { &self.then } else { &self.otherwise };
        Ok(taken.run(captures)?.outputs)
    }
}

struct Repeat {
    carried: usize,
    body: Executable,
}

impl Barrier for Repeat {
    fn run(&self, operands: &[TensorView<'_>]) -> Result<Vec<Tensor>, RunError> {
        let [trips, condition, rest @ ..] = operands else { return Err(missing("loop").into()) };
        if rest.len() < self.carried {
            return Err(missing("loop").into());
        }
        let trips = trips.elements::<i64>().and_then(|t| t.first().copied()).unwrap_or(0);
        let (initial, captures) = rest.split_at(self.carried);
        let mut carried: Vec<Tensor> = initial.iter().map(TensorView::to_tensor).collect();
        let scanned = self.body.graph().outputs().len() - 1 - self.carried;
        let mut rows: Vec<Vec<Tensor>> = vec![Vec::new(); scanned];
        let mut go_on = truth(condition);
        let mut iteration = 0;
        while go_on && iteration < trips {
            let number = Tensor::scalar(iteration);
            let mut inputs = Vec::with_capacity(1 + carried.len() + captures.len());
            inputs.push(number.view());
            inputs.extend(carried.iter().map(Tensor::view));
            inputs.extend_from_slice(captures);
            let mut outputs = self.body.run(&inputs)?.outputs.into_iter();
            go_on = outputs.next().is_some_and(|c| truth(&c.view()));
            carried = outputs.by_ref().take(self.carried).collect();
            for (row, output) in rows.iter_mut().zip(outputs) {
                row.push(output);
            }
            iteration += 1;
        }
        let mut results = carried;
        for (i, rows) in rows.iter().enumerate() {
            let v = self.body.graph().outputs()[1 + self.carried + i];
            results.push(stack(rows, self.body.graph().ty(v))?);
        }
        Ok(results)
    }
}

/// Tensors of one shape along a new first dim; without any, what is known of their shape.
fn stack(rows: &[Tensor], ty: &anychip_ir::TensorType) -> Result<Tensor, IrError> {
    let Some(first) = rows.first() else {
        let mut shape = vec![0];
        shape.extend(ty.shape.iter().map(|d| d.fixed().unwrap_or(0)));
        return Ok(Tensor::zeros(ty.dtype, shape)?);
    };
    let mut shape = vec![rows.len()];
    shape.extend_from_slice(first.shape());
    if let Some(other) = rows.iter().find(|t| t.shape() != first.shape()) {
        return Err(IrError::Shapes {
            op: "loop",
            reason: "a scanned output must keep its shape from one iteration to the next",
            types: vec![anychip_ir::TensorType::of(first), anychip_ir::TensorType::of(other)],
        });
    }
    if first.dtype().storage_bits() < 8 {
        let codes: Vec<u8> = rows.iter().flat_map(Tensor::codes).collect();
        return Ok(Tensor::from_codes(first.dtype(), shape, &codes)?);
    }
    let mut bytes = Vec::new();
    for row in rows {
        bytes.extend_from_slice(row.bytes());
    }
    let stacked = Tensor::from_bytes(first.dtype(), shape, bytes.into())?;
    Ok(stacked)
}

fn truth(value: &TensorView<'_>) -> bool {
    debug_assert_eq!(value.dtype, DType::Bool);
    value.data.first().is_some_and(|&b| b != 0)
}

fn missing(op: &'static str) -> IrError {
    IrError::OperandCount { op, expected: 2, found: 0 }
}
