//! Tracks small integer tensors through the arithmetic that shapes are computed with.
//!
//! Exporters compute shapes in the graph: take the shape of a value, pick a dim, multiply, put the parts
//! together, reshape. Following those few elements as [`Dim`]s gives every result a symbolic shape, and
//! lets folding replace the whole computation by its formula.

use anychip_tensor::{DType, Dim};

use crate::{Binary, Builder, Compare, Prim, ReduceKind, Unary, ValueId};

/// Longer vectors than this are data, not shapes.
const LONGEST: usize = 128;

/// The elements of the one result of `prim`, when they follow from what is known of its operands.
pub(crate) fn propagate(
    prim: &Prim,
    inputs: &[ValueId],
    output: ValueId,
    b: &Builder,
) -> Option<Vec<Dim>> {
    let ty = b.ty(output);
    if ty.dtype.is_float() || ty.rank() > 1 {
        return None;
    }
    let operand = |i: usize| -> Option<&[Dim]> { b.known(*inputs.get(i)?) };
    let integer = |i: usize| -> Option<i64> {
        match operand(i)? {
            [dim] => dim.constant(),
            _ => None,
        }
    };
    let values: Vec<Dim> = match prim {
        Prim::Constant(tensor) if tensor.len() <= LONGEST => {
            tensor.to_i64().into_iter().map(Dim::from_i64).collect()
        }
        Prim::ShapeOf => b.dims(inputs[0]),
        Prim::Iota => {
            let n = integer(0)?;
            if n > LONGEST as i64 {
                return None;
            }
            (0..n).map(Dim::from_i64).collect()
        }
        Prim::Cast { .. } if !b.dtype(inputs[0]).is_float() && ty.dtype != DType::Bool => {
            operand(0)?.to_vec()
        }
        Prim::Unary(Unary::Neg) => operand(0)?.iter().map(|d| Dim::Fixed(0) - d.clone()).collect(),
        Prim::Unary(Unary::Not) if ty.dtype == DType::Bool => operand(0)?
            .iter()
            .map(|d| d.constant().map(|v| Dim::from_i64(i64::from(v == 0))))
            .collect::<Option<_>>()?,
        Prim::Binary(binary) => zip(operand(0)?, operand(1)?, |x, y| arithmetic(*binary, x, y))?,
        Prim::Compare(compare) => zip(operand(0)?, operand(1)?, |x, y| {
            comparison(*compare, x, y).map(|holds| Dim::from_i64(i64::from(holds)))
        })?,
        Prim::Select => {
            let (condition, on_true, on_false) = (operand(0)?, operand(1)?, operand(2)?);
            let n = condition.len().max(on_true.len()).max(on_false.len());
            (0..n)
                .map(|i| {
                    let pick = element(condition, i)?.constant()? != 0;
                    element(if pick { on_true } else { on_false }, i).cloned()
                })
                .collect::<Option<_>>()?
        }
        // A vector under another shape of at most one dim is the same elements.
        Prim::Reshape | Prim::Transpose { .. } => operand(0)?.to_vec(),
        Prim::Broadcast => {
            let n = usize::try_from(ty.elements().constant()?).ok().filter(|&n| n <= LONGEST)?;
            let x = operand(0)?;
            (0..n).map(|i| element(x, i).cloned()).collect::<Option<_>>()?
        }
        Prim::Concat { .. } => {
            let mut all = Vec::new();
            for i in 0..inputs.len() {
                all.extend_from_slice(operand(i)?);
            }
            all
        }
        Prim::Slice { axes } if axes == &[0] => {
            let x = operand(0)?;
            let (start, end, step) = (integer(1)?, integer(2)?, integer(3)?);
            let (start, count) = slice_bounds(x.len(), start, end, step)?;
            (0..count)
                .map(|i| x.get((start + i as i64 * step) as usize).cloned())
                .collect::<Option<_>>()?
        }
        Prim::Take { axis: 0 } if b.rank(inputs[0]) == 1 => {
            let x = operand(0)?;
            operand(1)?
                .iter()
                .map(|index| {
                    let index = index.constant()?;
                    let index = if index < 0 { index + x.len() as i64 } else { index };
                    x.get(usize::try_from(index).ok()?).cloned()
                })
                .collect::<Option<_>>()?
        }
        Prim::Reduce { kind, .. } if ty.rank() == 0 && b.rank(inputs[0]) == 1 => {
            let x = operand(0)?.iter().cloned();
            vec![match kind {
                ReduceKind::Sum => x.fold(Dim::Fixed(0), |a, d| a + d),
                ReduceKind::Prod => x.fold(Dim::Fixed(1), |a, d| a * d),
                ReduceKind::Max => x.reduce(|a, d| a.maximum(&d))?,
                ReduceKind::Min => x.reduce(|a, d| a.minimum(&d))?,
            }]
        }
        Prim::Reduce { axes, .. } if axes.is_empty() => operand(0)?.to_vec(),
        // Everything else is data, or is computed where no exporter computes a shape.
        Prim::Constant(_)
        | Prim::Random { .. }
        | Prim::Unary(_)
        | Prim::Cast { .. }
        | Prim::BitCast { .. }
        | Prim::DotGeneral(..)
        | Prim::Convolution(..)
        | Prim::Reduce { .. }
        | Prim::ArgReduce { .. }
        | Prim::ReduceWindow { .. }
        | Prim::Cumulative { .. }
        | Prim::TopK { .. }
        | Prim::Slice { .. }
        | Prim::Pad
        | Prim::Take { .. }
        | Prim::TakeAlong { .. }
        | Prim::GatherNd { .. }
        | Prim::ScatterAlong { .. }
        | Prim::ScatterNd { .. }
        | Prim::NonZero
        | Prim::Quantize { .. }
        | Prim::Dequantize { .. }
        | Prim::Requantize { .. }
        | Prim::If
        | Prim::Loop { .. } => return None,
    };
    let fits = values.iter().all(|dim| fits(dim, ty.dtype));
    (values.len() <= LONGEST && fits).then_some(values)
}

/// Whether an element is what the arithmetic of its type gives: constants that would wrap are not
/// followed, and names, which are sizes, are taken to fit types of 32 bits and more.
fn fits(dim: &Dim, dtype: DType) -> bool {
    let Some((low, high)) = dtype.integer_range() else { return false };
    if !is_simple(dim) {
        return false;
    }
    match dim.constant() {
        Some(value) => (low..=high).contains(&i128::from(value)),
        None if dim.symbols().is_empty() => false,
        None => dtype.storage_bits() >= 32 && (dtype.is_signed_integer() || is_size(dim)),
    }
}

/// The first index and the number of elements of Python's `range(n)[start:end:step]`.
pub(crate) fn slice_bounds(n: usize, start: i64, end: i64, step: i64) -> Option<(i64, usize)> {
    let n = i64::try_from(n).ok()?;
    let wrap = |bound: i64| if bound < 0 { bound.saturating_add(n) } else { bound };
    match step {
        0 => None,
        1.. => {
            let (start, end) = (wrap(start).clamp(0, n), wrap(end).clamp(0, n));
            let span = (end - start).max(0) as u64;
            Some((start, span.div_ceil(step as u64) as usize))
        }
        _ => {
            let (start, end) = (wrap(start).clamp(-1, n - 1), wrap(end).clamp(-1, n - 1));
            let span = (start - end).max(0) as u64;
            Some((start, span.div_ceil(step.unsigned_abs()) as usize))
        }
    }
}

fn element(values: &[Dim], i: usize) -> Option<&Dim> {
    if values.len() == 1 { values.first() } else { values.get(i) }
}

fn zip(a: &[Dim], b: &[Dim], f: impl Fn(&Dim, &Dim) -> Option<Dim>) -> Option<Vec<Dim>> {
    let n = if a.len() == 1 { b.len() } else { a.len() };
    (0..n).map(|i| f(element(a, i)?, element(b, i)?)).collect()
}

fn arithmetic(binary: Binary, x: &Dim, y: &Dim) -> Option<Dim> {
    let constants = || Some((x.constant()?, y.constant()?));
    Some(match binary {
        Binary::Add => x.clone() + y.clone(),
        Binary::Sub => x.clone() - y.clone(),
        Binary::Mul => x.clone() * y.clone(),
        Binary::Div => match (x.constant(), y.constant()) {
            (_, Some(0)) => return None,
            (Some(x), Some(y)) => Dim::from_i64(x.wrapping_div(y)),
            // Truncation is the floor where both are sizes.
            _ if is_size(x) && is_size(y) => x.floor_div(y),
            _ => return None,
        },
        Binary::Rem => {
            let (x, y) = constants()?;
            Dim::from_i64(x.checked_rem(y)?)
        }
        Binary::Max => x.maximum(y),
        Binary::Min => x.minimum(y),
        Binary::And => {
            let (x, y) = constants()?;
            Dim::from_i64(x & y)
        }
        Binary::Or => {
            let (x, y) = constants()?;
            Dim::from_i64(x | y)
        }
        Binary::Xor => {
            let (x, y) = constants()?;
            Dim::from_i64(x ^ y)
        }
        Binary::Pow | Binary::ShiftLeft | Binary::ShiftRight => return None,
    })
}

/// Whether a formula is one that shapes are made of. Longer ones are not followed: products of sums grow
/// with every step, and a hostile model could ask for any number of steps.
pub(crate) fn is_simple(dim: &Dim) -> bool {
    const MOST: usize = 128;
    fn count(dim: &Dim, so_far: usize) -> usize {
        let Dim::Expr(polynomial) = dim else { return so_far + 1 };
        let mut total = so_far;
        for (_, atoms) in polynomial.terms() {
            total += 1;
            for atom in atoms {
                total = match atom {
                    anychip_tensor::Atom::Sym(_) => total + 1,
                    anychip_tensor::Atom::FloorDiv(a, b)
                    | anychip_tensor::Atom::Max(a, b)
                    | anychip_tensor::Atom::Min(a, b) => count(b, count(a, total)),
                };
                if total > MOST {
                    return total;
                }
            }
        }
        total
    }
    count(dim, 0) <= MOST
}

/// Whether a known element is certainly not negative.
pub(crate) fn is_size(dim: &Dim) -> bool {
    match dim {
        Dim::Fixed(_) | Dim::Sym(_) => true,
        Dim::Expr(p) => p.terms().all(|(coefficient, atoms)| {
            coefficient >= 0
                && atoms.iter().all(|atom| match atom {
                    anychip_tensor::Atom::Sym(_) => true,
                    anychip_tensor::Atom::FloorDiv(a, b)
                    | anychip_tensor::Atom::Max(a, b)
                    | anychip_tensor::Atom::Min(a, b) => is_size(a) && is_size(b),
                })
        }),
    }
}

fn comparison(compare: Compare, x: &Dim, y: &Dim) -> Option<bool> {
    let difference = match (x.clone() - y.clone()).constant() {
        Some(difference) => difference,
        // A size against a negative number.
        None if is_size(x) && y.constant().is_some_and(|y| y < 0) => 1,
        None if is_size(y) && x.constant().is_some_and(|x| x < 0) => -1,
        None => return None,
    };
    Some(match compare {
        Compare::Eq => difference == 0,
        Compare::Ne => difference != 0,
        Compare::Lt => difference < 0,
        Compare::Le => difference <= 0,
        Compare::Gt => difference > 0,
        Compare::Ge => difference >= 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TensorType;
    use anychip_tensor::Tensor;

    #[test]
    fn a_flatten_computed_in_the_graph_is_followed() {
        let mut b = Builder::new("flatten");
        let x = b
            .input("x", TensorType::new(DType::F32, [Dim::sym("n"), Dim::Fixed(3), Dim::Fixed(4)]));
        let shape = b.prim(Prim::ShapeOf, &[x]).unwrap();
        let index = b.constant(Tensor::from_i64s(&[0]));
        let batch = b.prim(Prim::Take { axis: 0 }, &[shape, index]).unwrap();
        let twelve = b.integers(&[12]);
        let target = b.prim(Prim::Concat { axis: 0 }, &[batch, twelve]).unwrap();
        let flat = b.prim(Prim::Reshape, &[x, target]).unwrap();
        assert_eq!(b.ty(flat).to_string(), "f32[n, 12]");
    }

    #[test]
    fn slices_follow_python() {
        assert_eq!(slice_bounds(5, 1, 4, 1), Some((1, 3)));
        assert_eq!(slice_bounds(5, -2, i64::MAX, 1), Some((3, 2)));
        assert_eq!(slice_bounds(5, -1, i64::MIN, -1), Some((4, 5)));
        assert_eq!(slice_bounds(5, 4, 0, -2), Some((4, 2)));
        assert_eq!(slice_bounds(5, 0, 5, 0), None);
        assert_eq!(slice_bounds(0, 0, 5, 1), Some((0, 0)));
    }

    #[test]
    fn where_the_exporter_asks_for_minus_one() {
        assert_eq!(comparison(Compare::Eq, &Dim::sym("n"), &Dim::from_i64(-1)), Some(false));
        assert_eq!(comparison(Compare::Eq, &Dim::sym("n"), &Dim::Fixed(1)), None);
    }
}
