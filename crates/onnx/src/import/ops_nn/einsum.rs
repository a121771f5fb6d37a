//! Einstein's summation.

use anychip_ir::{DotDims, Prim, ReduceKind, ValueId};
use anychip_tensor::Dim;

use crate::import::call::{Call, ImportError};

/// A dim's name: a letter, or the place of a dim of an ellipsis counted from its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Label {
    Ellipsis(usize),
    Letter(char),
}

/// A value whose dims carry labels, each once.
struct Term {
    value: ValueId,
    labels: Vec<Label>,
}

pub(super) fn einsum(call: &mut Call<'_>) -> Result<Vec<ValueId>, ImportError> {
    let equation: String =
        call.string("equation", "").chars().filter(|c| !c.is_whitespace()).collect();
    let inputs = call.all_inputs(1)?;
    let (left, right) = match equation.split_once("->") {
        Some((left, right)) => (left, Some(right)),
        None => (equation.as_str(), None),
    };
    let operands: Vec<&str> = left.split(',').collect();
    if operands.len() != inputs.len() {
        return Err(call.bad_attribute("equation", "needs a term for each operand"));
    }
    let mut all: Vec<Vec<Label>> = Vec::new();
    for (text, &value) in operands.iter().zip(&inputs) {
        all.push(labels(call, text, call.b.rank(value))?);
    }
    let output = match right {
        Some(text) => {
            // An ellipsis stands for the most dims it has in any operand.
            let most = all.iter().flatten().filter_map(|l| match l {
                Label::Ellipsis(i) => Some(i + 1),
                Label::Letter(_) => None,
            });
            let letters = text.replace("...", "").chars().count();
            let dims = if text.contains("...") { most.max().unwrap_or(0) } else { 0 };
            labels(call, text, letters + dims)?
        }
        None => implicit(&all),
    };
    let mut terms = Vec::new();
    for (labels, value) in all.into_iter().zip(inputs) {
        terms.push(diagonal(call, value, labels)?);
    }
    // A dim of 1 that is longer elsewhere broadcasts: it takes no part in the sum.
    for i in 0..terms.len() {
        let dims = call.b.dims(terms[i].value);
        let single: Vec<usize> = (0..dims.len())
            .filter(|&d| {
                let label = terms[i].labels[d];
                dims[d] == Dim::Fixed(1)
                    && terms.iter().enumerate().any(|(j, t)| j != i && t.labels.contains(&label))
            })
            .collect();
        // The last one that carries the label keeps it.
        let single: Vec<usize> = single
            .into_iter()
            .filter(|&d| {
                let label = terms[i].labels[d];
                terms.iter().enumerate().any(|(j, t)| {
                    j != i
                        && t.labels
                            .iter()
                            .position(|&l| l == label)
                            .is_some_and(|p| j > i || call.b.dims(t.value)[p] != Dim::Fixed(1))
                })
            })
            .collect();
        let value = call.b.squeeze(terms[i].value, &single)?;
        let labels = &terms[i].labels;
        let kept = (0..labels.len()).filter(|d| !single.contains(d)).map(|d| labels[d]).collect();
        terms[i] = Term { value, labels: kept };
    }
    let mut terms = terms.into_iter();
    let Some(mut result) = terms.next() else { return Err(ImportError::MissingInput(0)) };
    let rest: Vec<Term> = terms.collect();
    for i in 0..rest.len() {
        let needed: Vec<Label> = output
            .iter()
            .copied()
            .chain(rest[i + 1..].iter().flat_map(|t| t.labels.iter().copied()))
            .collect();
        result = product(call, result, &rest[i], &needed)?;
    }
    let result = summed(call, result, &output)?;
    let permutation: Option<Vec<usize>> =
        output.iter().map(|l| result.labels.iter().position(|own| own == l)).collect();
    match permutation {
        Some(permutation) => Ok(vec![call.b.transpose(result.value, &permutation)?]),
        None => Err(call.bad_attribute("equation", "names an output dim that no operand has")),
    }
}

/// The labels of a term with `rank` dims.
fn labels(call: &Call<'_>, text: &str, rank: usize) -> Result<Vec<Label>, ImportError> {
    let bad = |reason| call.bad_attribute("equation", reason);
    let (before, after) = match text.split_once("...") {
        Some((before, after)) => (before, Some(after)),
        None => (text, None),
    };
    let letters = |part: &str| -> Result<Vec<Label>, ImportError> {
        part.chars()
            .map(|c| {
                if c.is_alphabetic() { Ok(Label::Letter(c)) } else { Err(bad("dims are letters")) }
            })
            .collect()
    };
    let mut all = letters(before)?;
    if let Some(after) = after {
        let after = letters(after)?;
        let hidden = rank
            .checked_sub(all.len() + after.len())
            .ok_or_else(|| bad("a term has more letters than its operand dims"))?;
        all.extend((0..hidden).rev().map(Label::Ellipsis));
        all.extend(after);
    }
    if all.len() == rank { Ok(all) } else { Err(bad("a term must name every dim of its operand")) }
}

/// Without `->`, the result has the ellipsis and then the letters that occur once, in order.
fn implicit(all: &[Vec<Label>]) -> Vec<Label> {
    let mut sorted: Vec<Label> = all.iter().flatten().copied().collect();
    sorted.sort_unstable();
    let count = |label: &Label| sorted.iter().filter(|l| *l == label).count();
    let mut result: Vec<Label> = sorted
        .iter()
        .copied()
        .filter(|l| matches!(l, Label::Ellipsis(_)) || count(l) == 1)
        .collect();
    result.dedup();
    let dims = result.iter().filter(|l| matches!(l, Label::Ellipsis(_))).count();
    result[..dims].reverse();
    result
}

/// Replaces dims with the same label by their diagonal.
fn diagonal(
    call: &mut Call<'_>,
    mut value: ValueId,
    mut labels: Vec<Label>,
) -> Result<Term, ImportError> {
    loop {
        let twice = (0..labels.len()).find_map(|i| {
            labels[i + 1..].iter().position(|&l| l == labels[i]).map(|j| (i, i + 1 + j))
        });
        let Some((i, j)) = twice else { return Ok(Term { value, labels }) };
        // Both dims last and made one, of which every (n + 1)-th element lies on the diagonal.
        let mut order: Vec<usize> = (0..labels.len()).filter(|&d| d != i && d != j).collect();
        let rest = order.len();
        order.extend([i, j]);
        let b = &mut *call.b;
        let moved = b.transpose(value, &order)?;
        let dims = b.dims(moved);
        let n = dims[rest].clone();
        let flat = [&dims[..rest], &[n.clone() * dims[rest + 1].clone()]].concat();
        let flat = b.reshape(moved, &flat)?;
        let step = b.dim_value(&(n.clone() + Dim::Fixed(1)))?;
        let counter = b.iota(&n)?;
        let places = b.mul(counter, step)?;
        value = b.prim(Prim::Take { axis: rest }, &[flat, places])?;
        let label = labels[i];
        labels = order[..rest].iter().map(|&d| labels[d]).collect();
        labels.push(label);
    }
}

/// Sums the dims whose label is not in `needed`.
fn summed(call: &mut Call<'_>, term: Term, needed: &[Label]) -> Result<Term, ImportError> {
    let axes: Vec<usize> =
        (0..term.labels.len()).filter(|&d| !needed.contains(&term.labels[d])).collect();
    if axes.is_empty() {
        return Ok(term);
    }
    let value = call.b.reduce(ReduceKind::Sum, term.value, &axes, false)?;
    let labels = term.labels.into_iter().filter(|l| needed.contains(l)).collect();
    Ok(Term { value, labels })
}

/// The product of two terms, summed over what nobody needs any more.
fn product(call: &mut Call<'_>, a: Term, b: &Term, needed: &[Label]) -> Result<Term, ImportError> {
    // What only one of the two has and nobody needs is summed first.
    let for_a: Vec<Label> = needed.iter().chain(&b.labels).copied().collect();
    let for_b: Vec<Label> = needed.iter().chain(&a.labels).copied().collect();
    let a = summed(call, a, &for_a)?;
    let b = summed(call, Term { value: b.value, labels: b.labels.clone() }, &for_b)?;
    let mut dims = DotDims::default();
    let mut batch = Vec::new();
    for (i, label) in a.labels.iter().enumerate() {
        let Some(j) = b.labels.iter().position(|l| l == label) else { continue };
        if needed.contains(label) {
            dims.lhs_batch.push(i);
            dims.rhs_batch.push(j);
            batch.push(*label);
        } else {
            dims.lhs_contract.push(i);
            dims.rhs_contract.push(j);
        }
    }
    let free = |own: &Term, other: &Term| -> Vec<Label> {
        own.labels.iter().copied().filter(|l| !other.labels.contains(l)).collect()
    };
    let labels = [batch, free(&a, &b), free(&b, &a)].concat();
    let dtype = call.b.dtype(a.value);
    let value = call.b.prim(Prim::DotGeneral(dims, dtype), &[a.value, b.value])?;
    Ok(Term { value, labels })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_implicit_result_is_sorted() {
        let letter = |c| Label::Letter(c);
        let terms = [
            vec![Label::Ellipsis(1), Label::Ellipsis(0), letter('j'), letter('i')],
            vec![letter('i'), letter('k')],
        ];
        let expected = [Label::Ellipsis(1), Label::Ellipsis(0), letter('j'), letter('k')];
        assert_eq!(implicit(&terms), expected);
    }
}
