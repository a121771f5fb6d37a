//! Branches and loops, with captures, scanned results and results whose size only the run tells.

use anychip_ir::{Builder, Graph, IrError, Prim, TensorType};
use anychip_tensor::{DType, Dim, Tensor};

use super::Case;
use crate::Random;

pub(super) fn cases(all: &mut Vec<Case>) {
    type Make = fn(&mut Builder) -> Result<Graph, IrError>;
    let x = |name: &str, n: usize| Random::new(Random::seed_of(name)).suitable(DType::F32, &[n]);
    let flag = |value: bool| Tensor::from_bools([], [value]).expect("a scalar");
    let graphs: [(&str, Make, Vec<Vec<Tensor>>); 5] = [
        ("if/both ways", branch, vec![vec![flag(true), x("a", 5)], vec![flag(false), x("b", 5)]]),
        (
            "if/sizes differ",
            sizes_differ,
            vec![vec![flag(true), x("c", 6)], vec![flag(false), x("d", 6)]],
        ),
        (
            "loop/counted",
            counted,
            vec![vec![Tensor::scalar(4i64), x("e", 3)], vec![Tensor::scalar(0i64), x("f", 3)]],
        ),
        ("loop/until", until, vec![vec![x("g", 3)], vec![x("h", 4)]]),
        (
            "non-zero/used",
            selected,
            vec![
                vec![x("i", 9)],
                vec![x("j", 9)],
                vec![Tensor::zeros(DType::F32, [9]).expect("small")],
            ],
        ),
    ];
    for (name, make, inputs) in graphs {
        let mut b = Builder::new(name);
        let graph =
            make(&mut b).unwrap_or_else(|error| panic!("case {name} does not build: {error}"));
        all.push(Case {
            name: name.to_string(),
            graph,
            inputs,
            slack: 1.0,
            seed: Random::seed_of(name),
        });
    }
}

fn take(b: &mut Builder) -> Builder {
    std::mem::replace(b, Builder::new(""))
}

fn floats(n: impl Into<Dim>) -> TensorType {
    TensorType::new(DType::F32, [n.into()])
}

fn branch(b: &mut Builder) -> Result<Graph, IrError> {
    let mut b = take(b);
    let condition = b.input("condition", TensorType::scalar(DType::Bool));
    let x = b.input("x", floats(5));
    let mut then = b.region("then");
    let inner = then.input("x", floats(5));
    let doubled = then.add(inner, inner)?;
    let mut otherwise = b.region("else");
    let inner = otherwise.input("x", floats(5));
    let power = otherwise.exp(inner)?;
    let regions = vec![then.finish(&[doubled]), otherwise.finish(&[power])];
    let y = b.node(Prim::If, &[condition, x], regions)?[0];
    let result = b.neg(y)?;
    Ok(b.finish(&[result]))
}

fn sizes_differ(b: &mut Builder) -> Result<Graph, IrError> {
    let mut b = take(b);
    let condition = b.input("condition", TensorType::scalar(DType::Bool));
    let x = b.input("x", floats(6));
    let mut then = b.region("then");
    let inner = then.input("x", floats(6));
    let part = then.slice(inner, 0, &Dim::Fixed(1), &Dim::Fixed(4))?;
    let mut otherwise = b.region("else");
    let inner = otherwise.input("x", floats(6));
    let same = otherwise.abs(inner)?;
    let regions = vec![then.finish(&[part]), otherwise.finish(&[same])];
    let y = b.node(Prim::If, &[condition, x], regions)?[0];
    let power = b.exp(y)?;
    let sum = b.reduce(anychip_ir::ReduceKind::Sum, power, &[0], true)?;
    let share = b.div(power, sum)?;
    Ok(b.finish(&[share, sum]))
}

fn counted(b: &mut Builder) -> Result<Graph, IrError> {
    let mut b = take(b);
    let trips = b.input("trips", TensorType::scalar(DType::I64));
    let x = b.input("x", floats(3));
    let yes = b.constant(Tensor::from_bools([], [true])?);
    let mut body = b.region("body");
    let i = body.input("i", TensorType::scalar(DType::I64));
    let sum = body.input("sum", floats(3));
    let step = body.input("step", floats(3));
    let go_on = body.constant(Tensor::from_bools([], [true])?);
    let next = body.add(sum, step)?;
    let i = body.cast(i, DType::F32)?;
    let row = body.mul(next, i)?;
    let body = body.finish(&[go_on, next, row]);
    let start = b.constant(Tensor::zeros(DType::F32, [3])?);
    let results = b.node(Prim::Loop { carried: 1 }, &[trips, yes, start, x], vec![body])?;
    let total = b.add(results[0], x)?;
    Ok(b.finish(&[total, results[1]]))
}

/// Doubles until the sum of magnitudes passes a hundred.
fn until(b: &mut Builder) -> Result<Graph, IrError> {
    let mut b = take(b);
    let n = Dim::sym("n");
    let x = b.input("x", floats(n.clone()));
    let most = b.constant(Tensor::scalar(i64::MAX));
    let yes = b.constant(Tensor::from_bools([], [true])?);
    let mut body = b.region("body");
    body.input("i", TensorType::scalar(DType::I64));
    let x_in = body.input("x", floats(n));
    let doubled = body.add(x_in, x_in)?;
    let magnitude = body.abs(doubled)?;
    let sum = body.reduce(anychip_ir::ReduceKind::Sum, magnitude, &[0], false)?;
    let limit = body.scalar(DType::F32, 100.0)?;
    let go_on = body.lt(sum, limit)?;
    let body = body.finish(&[go_on, doubled, sum]);
    let results = b.node(Prim::Loop { carried: 1 }, &[most, yes, x], vec![body])?;
    let sums = b.sqrt(results[1])?;
    Ok(b.finish(&[results[0], sums]))
}

/// The positive elements, and their number.
fn selected(b: &mut Builder) -> Result<Graph, IrError> {
    let mut b = take(b);
    let x = b.input("x", floats(9));
    let zero = b.scalar(DType::F32, 0.0)?;
    let positive = b.gt(x, zero)?;
    let places = b.prim(Prim::NonZero, &[positive])?;
    let places = b.index(places, 0, 0)?;
    let chosen = b.prim(Prim::Take { axis: 0 }, &[x, places])?;
    let scaled = b.scale(chosen, 3.0)?;
    let moved = b.offset(scaled, 1.0)?;
    let count = b.prim(Prim::ShapeOf, &[chosen])?;
    Ok(b.finish(&[moved, count]))
}
