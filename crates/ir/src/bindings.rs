//! Sizes of named dims, found by holding types against shapes.

use std::collections::BTreeMap;

use anychip_tensor::{Dim, Symbol, Tensor};

use crate::{Graph, IrError, TensorType};

/// The number that each name stands for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bindings(BTreeMap<Symbol, usize>);

impl Bindings {
    /// The bindings under which the graph's inputs have the given shapes, or an error that names the
    /// input that does not fit.
    pub fn of_shapes(graph: &Graph, shapes: &[&[usize]]) -> Result<Bindings, IrError> {
        let inputs = graph.inputs();
        if inputs.len() != shapes.len() {
            return Err(IrError::OperandCount {
                op: "graph",
                expected: inputs.len(),
                found: shapes.len(),
            });
        }
        let mut bindings = Bindings::default();
        // Names first, formulas of them after, so that the order of inputs does not matter.
        for formulas in [false, true] {
            for (i, (&input, shape)) in inputs.iter().zip(shapes).enumerate() {
                let ty = graph.ty(input);
                if let Err(axis) = bindings.bind(ty, shape, formulas) {
                    let place = axis.map(|axis| format!(", dim {axis}")).unwrap_or_default();
                    return Err(IrError::Input {
                        name: name_of(graph, i),
                        found: format!("{}{shape:?}", ty.dtype),
                        expected: format!("{}{place}", bindings.describe(ty)),
                    });
                }
            }
        }
        Ok(bindings)
    }

    /// As [`Bindings::of_shapes`], for tensors whose element types are checked too.
    pub fn of_inputs(graph: &Graph, inputs: &[Tensor]) -> Result<Bindings, IrError> {
        for (i, (&input, tensor)) in graph.inputs().iter().zip(inputs).enumerate() {
            let ty = graph.ty(input);
            if ty.dtype != tensor.dtype() {
                return Err(IrError::Input {
                    name: name_of(graph, i),
                    found: TensorType::of(tensor).to_string(),
                    expected: ty.to_string(),
                });
            }
        }
        let shapes: Vec<&[usize]> = inputs.iter().map(Tensor::shape).collect();
        Bindings::of_shapes(graph, &shapes)
    }

    /// The size of a name, where it has one.
    pub fn get(&self, name: &str) -> Option<usize> {
        self.0.get(name).copied()
    }

    /// Every name with its size, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, usize)> {
        self.0.iter().map(|(name, &size)| (&**name, size))
    }

    /// A dim as a number, when all its names have one.
    pub fn size(&self, dim: &Dim) -> Option<usize> {
        dim.evaluate(&|name| self.get(name))
    }

    /// Learns names from a result's shape and checks it against what is known.
    pub(crate) fn bind_result(
        &mut self,
        op: &'static str,
        ty: &TensorType,
        tensor: &Tensor,
    ) -> Result<(), IrError> {
        let fits = tensor.dtype() == ty.dtype
            && self.bind(ty, tensor.shape(), false).is_ok()
            && self.bind(ty, tensor.shape(), true).is_ok();
        if fits {
            return Ok(());
        }
        Err(IrError::Result {
            op,
            found: TensorType::of(tensor).to_string(),
            expected: self.describe(ty),
        })
    }

    /// Holds a type against a shape; the error is the first dim that does not fit, `None` where the ranks
    /// differ. Formulas are checked only when asked for and when all their names are known.
    fn bind(
        &mut self,
        ty: &TensorType,
        shape: &[usize],
        formulas: bool,
    ) -> Result<(), Option<usize>> {
        if ty.rank() != shape.len() {
            return Err(None);
        }
        for (axis, (dim, &size)) in ty.shape.iter().zip(shape).enumerate() {
            let fits = match dim {
                Dim::Fixed(n) => *n == size,
                Dim::Sym(name) => *self.0.entry(name.clone()).or_insert(size) == size,
                Dim::Expr(_) if formulas => {
                    let all_known = dim.symbols().iter().all(|s| self.0.contains_key(s));
                    !all_known || self.size(dim) == Some(size)
                }
                Dim::Expr(_) => true,
            };
            if !fits {
                return Err(Some(axis));
            }
        }
        Ok(())
    }

    /// `f32[n, 3] (n = 2)`
    fn describe(&self, ty: &TensorType) -> String {
        let mut names: Vec<Symbol> = ty.shape.iter().flat_map(Dim::symbols).collect();
        names.sort();
        names.dedup();
        let sizes: Vec<String> =
            names.iter().filter_map(|name| Some(format!("{name} = {}", self.get(name)?))).collect();
        if sizes.is_empty() { ty.to_string() } else { format!("{ty} ({})", sizes.join(", ")) }
    }
}

/// The name of an input, or its place where it has none.
fn name_of(graph: &Graph, i: usize) -> String {
    match graph.value_name(graph.inputs()[i]) {
        Some(name) if !name.is_empty() => name.to_string(),
        _ => format!("#{i}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Builder;
    use anychip_tensor::DType;

    fn graph() -> Graph {
        let mut b = Builder::new("two");
        let n = || Dim::sym("n");
        let x = b.input("x", TensorType::new(DType::F32, [n() * Dim::Fixed(2), Dim::sym("h")]));
        b.input("y", TensorType::new(DType::I64, [n(), Dim::Fixed(3)]));
        b.finish(&[x])
    }

    #[test]
    fn names_get_their_sizes() {
        let bindings = Bindings::of_shapes(&graph(), &[&[8, 5], &[4, 3]]).unwrap();
        assert_eq!(bindings.iter().collect::<Vec<_>>(), [("h", 5), ("n", 4)]);
        let types = graph().bind_dims(&|name| bindings.get(name));
        assert_eq!(format!("{types:?}"), "[f32[8, 5], i64[4, 3]]");
        assert_eq!(format!("{:?}", graph().bind_dims(&|_| None)), "[f32[2*n, h], i64[n, 3]]");
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let error =
            |shapes: &[&[usize]]| Bindings::of_shapes(&graph(), shapes).unwrap_err().to_string();
        assert_eq!(
            error(&[&[8, 5], &[4, 2]]),
            "input `y` is i64[4, 2], expected i64[n, 3] (n = 4), dim 1"
        );
        assert_eq!(
            error(&[&[9, 5], &[4, 3]]),
            "input `x` is f32[9, 5], expected f32[2*n, h] (h = 5, n = 4), dim 0"
        );
        assert_eq!(error(&[&[8], &[4, 3]]), "input `x` is f32[8], expected f32[2*n, h]");
        assert_eq!(error(&[&[8, 5]]), "graph takes 2 operands and got 1");
    }
}
