//! Patterns written as their maths: `x * sigmoid(x)`.
//!
//! A product is matched whatever the order and the brackets of its factors, a division as a product with an
//! inverse; sums likewise. So one line covers the spellings that exporters choose.
//!
//! | In a pattern | Matches |
//! |---|---|
//! | `x`, `scale` | any value, the same wherever the name repeats |
//! | `EPSILON` | a constant with one number in it, whatever its shape |
//! | `0.5` | such a constant of that number |
//! | `a * b`, `a / b`, `a + b`, `a - b` | arithmetic |
//! | `sqrt(a)`, `tanh(a)`, `max(a, b)`, … | the elementwise primitive of that name |
//! | `sum(a)`, `largest(a)`, `mean(a)` | a reduction whose dims stay as 1, over the same dims wherever it occurs |

use std::collections::BTreeMap;

use anychip_ir::{Binary, Graph, Prim, ReduceKind, Unary, ValueId};
use anychip_tensor::Dim;

use super::{binary, close, prim, uniform};

/// A pattern that values of a graph are matched with.
#[derive(Debug, Clone)]
pub struct Pattern(Expression);

/// What the names of a pattern stood for.
#[derive(Debug, Clone, Default)]
pub struct Bindings {
    values: BTreeMap<String, ValueId>,
    numbers: BTreeMap<String, f64>,
    /// The dims that the reductions of the pattern reduce, ascending.
    pub axes: Option<Vec<usize>>,
    /// The values that operations of the pattern make, the root included.
    pub interior: Vec<ValueId>,
}

#[derive(Debug, Clone)]
enum Expression {
    Value(String),
    Constant(String),
    Number(f64),
    Unary(Unary, Box<Expression>),
    Binary(Binary, Box<Expression>, Box<Expression>),
    Reduce(ReduceKind, Box<Expression>),
    Mean(Box<Expression>),
    Product(Vec<Factor>),
    Sum(Vec<Expression>),
}

/// A factor, or its inverse.
#[derive(Debug, Clone)]
struct Factor {
    inverse: bool,
    of: Expression,
}

impl Bindings {
    /// The value behind a lower-case name of the pattern.
    pub fn value(&self, name: &str) -> ValueId {
        *self.values.get(name).expect("a match binds every name of its pattern")
    }

    /// The number behind an upper-case name of the pattern.
    pub fn number(&self, name: &str) -> f64 {
        *self.numbers.get(name).expect("a match binds every name of its pattern")
    }
}

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Panics
    /// When the text is no pattern: patterns are literals of this program.
    pub fn new(text: &str) -> Pattern {
        let mut parser = Parser { rest: text };
        let expression = parser.sum();
        assert!(parser.rest.trim().is_empty(), "pattern `{text}` ends at `{}`", parser.rest);
        Pattern(expression)
    }

    /// Matches the computation that ends in `value`.
    pub fn matches(&self, graph: &Graph, value: ValueId) -> Option<Bindings> {
        let mut bindings = Bindings::default();
        expression(&self.0, graph, value, &mut bindings).then_some(bindings)
    }
}

/// Tries `attempt` and forgets what it bound when it fails.
fn either(bindings: &mut Bindings, attempt: impl FnOnce(&mut Bindings) -> bool) -> bool {
    let before = bindings.clone();
    if attempt(bindings) {
        return true;
    }
    *bindings = before;
    false
}

fn expression(pattern: &Expression, g: &Graph, value: ValueId, found: &mut Bindings) -> bool {
    let matched = match pattern {
        Expression::Value(name) => {
            return *found.values.entry(name.clone()).or_insert(value) == value;
        }
        Expression::Constant(name) => {
            let Some(number) = uniform(g, value) else { return false };
            return *found.numbers.entry(name.clone()).or_insert(number) == number;
        }
        Expression::Number(expected) => {
            return uniform(g, value).is_some_and(|n| close(n, *expected));
        }
        Expression::Unary(function, operand) => match super::unary(g, value, *function) {
            Some(x) => expression(operand, g, x, found),
            None => false,
        },
        Expression::Binary(function, a, b) => match binary(g, value, *function) {
            Some((x, y)) => {
                either(found, |f| expression(a, g, x, f) && expression(b, g, y, f))
                    || either(found, |f| {
                        commutes(*function) && expression(a, g, y, f) && expression(b, g, x, f)
                    })
            }
            None => false,
        },
        Expression::Reduce(kind, operand) => match reduction(g, value, *kind) {
            Some((x, axes)) => same_axes(found, &axes) && expression(operand, g, x, found),
            None => false,
        },
        Expression::Mean(operand) => match mean(g, value) {
            Some((x, axes)) => same_axes(found, &axes) && expression(operand, g, x, found),
            None => false,
        },
        Expression::Product(factors) => {
            let factors: Vec<(&Expression, bool)> =
                factors.iter().map(|f| (&f.of, f.inverse)).collect();
            return product(&factors, g, value, found);
        }
        Expression::Sum(terms) => {
            let terms: Vec<&Expression> = terms.iter().collect();
            return sum(&terms, g, value, found);
        }
    };
    if matched {
        found.interior.push(value);
    }
    matched
}

fn same_axes(found: &mut Bindings, axes: &[usize]) -> bool {
    found.axes.get_or_insert_with(|| axes.to_vec()) == axes
}

fn commutes(function: Binary) -> bool {
    match function {
        Binary::Add
        | Binary::Mul
        | Binary::Max
        | Binary::Min
        | Binary::And
        | Binary::Or
        | Binary::Xor => true,
        Binary::Sub
        | Binary::Div
        | Binary::Rem
        | Binary::Pow
        | Binary::ShiftLeft
        | Binary::ShiftRight => false,
    }
}

/// Matches `value` with the product of `factors`, each a pattern and whether it divides.
fn product(
    factors: &[(&Expression, bool)],
    g: &Graph,
    value: ValueId,
    found: &mut Bindings,
) -> bool {
    match factors {
        [] => return uniform(g, value) == Some(1.0),
        [(Expression::Product(inner), inverse)] => {
            let inner: Vec<(&Expression, bool)> =
                inner.iter().map(|f| (&f.of, f.inverse != *inverse)).collect();
            return product(&inner, g, value, found);
        }
        [(only, false)] => return expression(only, g, value, found),
        [(Expression::Number(n), true)] => {
            return uniform(g, value).is_some_and(|v| close(v, 1.0 / n));
        }
        _ => {}
    }
    let (left, right, divides) = if let Some((left, right)) = binary(g, value, Binary::Mul) {
        (left, right, false)
    } else if let Some((left, right)) = binary(g, value, Binary::Div) {
        (left, right, true)
    } else {
        return false;
    };
    // Every way to share the factors between the two operands; patterns have few.
    for share in 0..1usize << factors.len() {
        let pick = |side: bool| -> Vec<(&Expression, bool)> {
            factors
                .iter()
                .enumerate()
                .filter(|(i, _)| (share >> i & 1 == 1) == side)
                .map(|(_, &(of, inverse))| (of, inverse != (side && divides)))
                .collect()
        };
        let (on_left, on_right) = (pick(false), pick(true));
        if on_right.is_empty() || (on_left.is_empty() && !divides) {
            continue;
        }
        if either(found, |f| product(&on_left, g, left, f) && product(&on_right, g, right, f)) {
            found.interior.push(value);
            return true;
        }
    }
    false
}

fn sum(terms: &[&Expression], g: &Graph, value: ValueId, found: &mut Bindings) -> bool {
    if let [only] = terms {
        return expression(only, g, value, found);
    }
    let Some((left, right)) = binary(g, value, Binary::Add) else { return false };
    for share in 1..(1usize << terms.len()) - 1 {
        let pick = |side: bool| -> Vec<&Expression> {
            let picked = terms.iter().enumerate().filter(|(i, _)| (share >> i & 1 == 1) == side);
            picked.map(|(_, &term)| term).collect()
        };
        if either(found, |f| sum(&pick(false), g, left, f) && sum(&pick(true), g, right, f)) {
            found.interior.push(value);
            return true;
        }
    }
    false
}

/// The operand and dims of a reduction whose dims stay as 1.
pub fn reduction(g: &Graph, value: ValueId, kind: ReduceKind) -> Option<(ValueId, Vec<usize>)> {
    let reduced = super::reshape(g, value)?;
    let (Prim::Reduce { kind: found, axes }, node) = prim(g, reduced)? else { return None };
    let x = node.inputs[0];
    let kept = g
        .ty(x)
        .shape
        .iter()
        .enumerate()
        .map(|(i, dim)| if axes.contains(&i) { Dim::Fixed(1) } else { dim.clone() });
    (*found == kind && kept.eq(g.ty(value).shape.iter().cloned())).then(|| (x, axes.clone()))
}

/// The operand and dims of a mean whose dims stay as 1: a sum divided by the number of elements.
pub fn mean(g: &Graph, value: ValueId) -> Option<(ValueId, Vec<usize>)> {
    let (sum, factor) = if let Some((sum, count)) = binary(g, value, Binary::Div) {
        (sum, 1.0 / uniform(g, count)?)
    } else {
        let (a, b) = binary(g, value, Binary::Mul)?;
        match uniform(g, b) {
            Some(factor) => (a, factor),
            None => (b, uniform(g, a)?),
        }
    };
    let (x, axes) = reduction(g, sum, ReduceKind::Sum)?;
    let count = axes.iter().try_fold(1.0, |n, &a| Some(n * g.ty(x).shape[a].fixed()? as f64))?;
    ((factor * count - 1.0).abs() < 1e-6).then_some((x, axes))
}

struct Parser<'a> {
    rest: &'a str,
}

impl<'a> Parser<'a> {
    fn take(&mut self, symbol: char) -> bool {
        let trimmed = self.rest.trim_start();
        match trimmed.strip_prefix(symbol) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn word(&mut self) -> &'a str {
        let trimmed = self.rest.trim_start();
        let end = trimmed
            .find(|c: char| !c.is_alphanumeric() && c != '_' && c != '.')
            .unwrap_or(trimmed.len());
        let (word, rest) = trimmed.split_at(end);
        self.rest = rest;
        word
    }

    fn sum(&mut self) -> Expression {
        let mut terms = vec![self.product()];
        loop {
            if self.take('+') {
                terms.push(self.product());
            } else if self.take('-') {
                let left = collapse(terms);
                let right = self.product();
                terms = vec![Expression::Binary(Binary::Sub, Box::new(left), Box::new(right))];
            } else {
                return collapse(terms);
            }
        }
    }

    fn product(&mut self) -> Expression {
        let mut factors = vec![Factor { inverse: false, of: self.atom() }];
        loop {
            if self.take('*') {
                factors.push(Factor { inverse: false, of: self.atom() });
            } else if self.take('/') {
                factors.push(Factor { inverse: true, of: self.atom() });
            } else if factors.len() == 1 {
                return factors.remove(0).of;
            } else {
                return Expression::Product(factors);
            }
        }
    }

    fn atom(&mut self) -> Expression {
        if self.take('(') {
            let inner = self.sum();
            assert!(self.take(')'), "a bracket stays open before `{}`", self.rest);
            return inner;
        }
        let word = self.word();
        if let Ok(number) = word.parse::<f64>() {
            return Expression::Number(number);
        }
        if !self.take('(') {
            assert!(!word.is_empty(), "a name is missing before `{}`", self.rest);
            let constant = word.chars().all(|c| c.is_uppercase() || c == '_');
            let name = word.to_string();
            return if constant { Expression::Constant(name) } else { Expression::Value(name) };
        }
        let mut operands = vec![self.sum()];
        while self.take(',') {
            operands.push(self.sum());
        }
        assert!(self.take(')'), "a bracket stays open before `{}`", self.rest);
        let mut operands = operands.into_iter().map(Box::new);
        match (operands.next(), operands.next()) {
            (Some(x), None) => match word {
                "sum" => Expression::Reduce(ReduceKind::Sum, x),
                "largest" => Expression::Reduce(ReduceKind::Max, x),
                "mean" => Expression::Mean(x),
                _ => {
                    let found = Unary::ALL.iter().find(|(_, name)| *name == word);
                    let (function, _) = found.expect("a pattern names an elementwise function");
                    Expression::Unary(*function, x)
                }
            },
            (Some(x), Some(y)) => {
                let found = Binary::ALL.iter().find(|(_, name)| *name == word);
                let (function, _) = found.expect("a pattern names an elementwise function");
                Expression::Binary(*function, x, y)
            }
            (None, _) => unreachable!("there is at least one operand"),
        }
    }
}

fn collapse(mut terms: Vec<Expression>) -> Expression {
    if terms.len() == 1 { terms.remove(0) } else { Expression::Sum(terms) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anychip_ir::{Builder, TensorType};
    use anychip_tensor::DType;

    fn graph(build: impl FnOnce(&mut Builder, ValueId) -> ValueId) -> (Graph, ValueId) {
        let mut b = Builder::new("g");
        let x = b.input("x", TensorType::new(DType::F32, [2usize, 8]));
        let y = build(&mut b, x);
        (b.finish(&[y]), x)
    }

    #[test]
    fn brackets_and_order_of_a_product_do_not_matter() {
        let pattern = Pattern::new("0.5 * x * (1 + tanh(x))");
        let spellings: [fn(&mut Builder, ValueId, ValueId) -> ValueId; 3] = [
            |b, x, gate| {
                let half = b.scale(x, 0.5).unwrap();
                b.mul(half, gate).unwrap()
            },
            |b, x, gate| {
                let product = b.mul(gate, x).unwrap();
                b.scale(product, 0.5).unwrap()
            },
            |b, x, gate| {
                let two = b.scalar_like(x, 2.0).unwrap();
                let half = b.div(gate, two).unwrap();
                b.mul(x, half).unwrap()
            },
        ];
        for spelling in spellings {
            let (g, x) = graph(|b, x| {
                let t = b.tanh(x).unwrap();
                let gate = b.offset(t, 1.0).unwrap();
                spelling(b, x, gate)
            });
            let found = pattern.matches(&g, g.outputs()[0]).unwrap();
            assert_eq!(found.value("x"), x);
        }
    }

    #[test]
    fn a_repeated_name_is_one_value() {
        let (g, _) = graph(|b, x| {
            let other = b.exp(x).unwrap();
            let gate = b.sigmoid(other).unwrap();
            b.mul(x, gate).unwrap()
        });
        assert!(Pattern::new("x * sigmoid(x)").matches(&g, g.outputs()[0]).is_none());
        assert!(Pattern::new("x * sigmoid(y)").matches(&g, g.outputs()[0]).is_some());
    }

    #[test]
    fn reductions_bind_their_axes() {
        let (g, x) = graph(|b, x| {
            let mean = b.mean(x, &[1], true).unwrap();
            b.sub(x, mean).unwrap()
        });
        let found = Pattern::new("x - mean(x)").matches(&g, g.outputs()[0]).unwrap();
        assert_eq!(found.axes, Some(vec![1]));
        assert_eq!(found.value("x"), x);
        assert_eq!(found.interior.len(), 2);
    }

    #[test]
    fn upper_case_names_are_numbers() {
        let (g, _) = graph(|b, x| b.offset(x, 1e-5).unwrap());
        let found = Pattern::new("x + EPSILON").matches(&g, g.outputs()[0]).unwrap();
        assert!((found.number("EPSILON") - 1e-5).abs() < 1e-9);
    }
}
