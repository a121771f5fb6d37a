//! Type rules of branches and loops.
//!
//! Names of sizes mean something only inside a region; outside, each is the dim of the operand that the
//! region's input stands for, or a fresh name where there is none or where it changes between iterations.

use std::collections::BTreeMap;

use anychip_tensor::{DType, Dim, Symbol};

use super::{Operand, Rule, Types};
use crate::{Graph, IrError, TensorType};

/// What the names inside a region are outside; `None` where they cannot be said.
type Outside = BTreeMap<Symbol, Option<Dim>>;

impl Rule<'_, '_> {
    pub(super) fn conditional(&mut self, regions: &[Graph]) -> Types {
        let [then, otherwise] = regions else {
            return Err(self.setting("needs two regions", regions.len()));
        };
        if self.operands.is_empty() {
            return Err(IrError::OperandCount { op: self.op, expected: 1, found: 0 });
        }
        self.expect(0, self.ty(0).dtype == DType::Bool && self.ty(0).rank() == 0, "a bool scalar")?;
        self.region_inputs(then, 1)?;
        self.region_inputs(otherwise, 1)?;
        if then.outputs().len() != otherwise.outputs().len() {
            return Err(
                self.setting("both regions must have the same outputs", otherwise.outputs().len())
            );
        }
        let (names, other_names) = (self.names(then, 1), self.names(otherwise, 1));
        then.outputs()
            .iter()
            .zip(otherwise.outputs())
            .map(|(&a, &b)| self.join((then.ty(a), &names), (otherwise.ty(b), &other_names)))
            .collect()
    }

    /// The type of a value that comes from either of two places.
    fn join(
        &mut self,
        (a, names_a): (&TensorType, &Outside),
        (b, names_b): (&TensorType, &Outside),
    ) -> Result<TensorType, IrError> {
        if a.dtype != b.dtype || a.rank() != b.rank() {
            return Err(IrError::Shapes {
                op: self.op,
                reason: "both ways must give the same element type and rank",
                types: vec![a.clone(), b.clone()],
            });
        }
        let shape = a
            .shape
            .iter()
            .zip(&b.shape)
            .map(|(x, y)| match (outside(x, names_a), outside(y, names_b)) {
                (Some(x), Some(y)) if x == y => x,
                _ => (self.fresh)(),
            })
            .collect();
        Ok(TensorType { dtype: a.dtype, shape })
    }

    /// The dims of the operands that the names in a region's inputs stand for.
    fn names(&self, region: &Graph, first: usize) -> Outside {
        let mut names = Outside::new();
        for (&input, operand) in region.inputs().iter().zip(&self.operands[first..]) {
            for (inner, dim) in region.ty(input).shape.iter().zip(&operand.ty.shape) {
                if let Dim::Sym(name) = inner {
                    names
                        .entry(name.clone())
                        .and_modify(|known| {
                            if known.as_ref() != Some(dim) {
                                *known = None;
                            }
                        })
                        .or_insert_with(|| Some(dim.clone()));
                }
            }
        }
        names
    }

    fn region_inputs(&self, region: &Graph, first: usize) -> Result<(), IrError> {
        let operands = &self.operands[first..];
        if region.inputs().len() != operands.len() {
            return Err(IrError::OperandCount {
                op: self.op,
                expected: region.inputs().len() + first,
                found: self.operands.len(),
            });
        }
        for (i, (&input, operand)) in region.inputs().iter().zip(operands).enumerate() {
            let ty = region.ty(input);
            let fits = ty.dtype == operand.ty.dtype
                && ty.rank() == operand.ty.rank()
                && ty.shape.iter().zip(&operand.ty.shape).all(|(a, b)| {
                    match (a.fixed(), b.fixed()) {
                        (Some(a), Some(b)) => a == b,
                        _ => true,
                    }
                });
            if !fits {
                return Err(IrError::Input {
                    name: format!("operand {}", i + first),
                    found: operand.ty.to_string(),
                    expected: ty.to_string(),
                });
            }
        }
        Ok(())
    }

    pub(super) fn repeat(&mut self, carried: usize, regions: &[Graph]) -> Types {
        let [body] = regions else {
            return Err(self.setting("needs one region", regions.len()));
        };
        if self.operands.len() < 2 + carried || body.outputs().len() < 1 + carried {
            return Err(IrError::OperandCount {
                op: self.op,
                expected: 2 + carried,
                found: self.operands.len().min(body.outputs().len() + 1),
            });
        }
        self.expect(0, self.ty(0).dtype == DType::I64 && self.ty(0).rank() == 0, "an i64 scalar")?;
        self.expect(1, self.ty(1).dtype == DType::Bool && self.ty(1).rank() == 0, "a bool scalar")?;
        let iteration = TensorType::scalar(DType::I64);
        let mut operands = vec![Operand { ty: &iteration, known: None }];
        operands.extend_from_slice(&self.operands[2..]);
        let rule = Rule { op: self.op, operands: &operands, fresh: &mut *self.fresh };
        rule.region_inputs(body, 0)?;
        let mut names = rule.names(body, 0);
        // A name whose carried dim comes out as another may change between iterations.
        let carried_types =
            |i: usize| (body.ty(body.inputs()[1 + i]), body.ty(body.outputs()[1 + i]));
        for i in 0..carried {
            let (before, after) = carried_types(i);
            for (axis, dim) in before.shape.iter().enumerate() {
                if let Dim::Sym(name) = dim
                    && after.shape.get(axis) != Some(dim)
                {
                    names.insert(name.clone(), None);
                }
            }
        }
        let mut types = Vec::new();
        for i in 0..carried {
            let (before, after) = carried_types(i);
            types.push(self.join((before, &names), (after, &names))?);
        }
        // Every iteration may run or not, so how many rows are stacked is only known when the loop is
        // counted and never stops early; a constant true condition out of the body says so.
        let always = body.constant_integers(body.outputs()[0]).is_some_and(|c| c == [1]);
        let starts =
            self.operands[1].known.and_then(|k| k.first()).and_then(Dim::constant) == Some(1);
        let trips = self.operands[0].known.and_then(|k| k.first()).cloned();
        let rows = match trips {
            Some(trips) if always && starts => match trips.constant() {
                Some(n) => Dim::Fixed(usize::try_from(n).unwrap_or(0)),
                None => trips,
            },
            _ => (self.fresh)(),
        };
        for &output in &body.outputs()[1 + carried..] {
            let ty = body.ty(output);
            let mut shape = vec![rows.clone()];
            for dim in &ty.shape {
                shape.push(outside(dim, &names).unwrap_or_else(|| (self.fresh)()));
            }
            types.push(TensorType { dtype: ty.dtype, shape });
        }
        Ok(types)
    }
}

/// A dim of a region's value as it reads outside; `None` when a name in it means nothing there.
fn outside(dim: &Dim, names: &Outside) -> Option<Dim> {
    let known = |name: &str| names.get(name).cloned().flatten();
    dim.symbols()
        .iter()
        .all(|name| known(name).is_some())
        .then(|| dim.substitute(&|name| known(name)))
}
