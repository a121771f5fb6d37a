//! Random graphs and the comparison of results.
#![allow(dead_code, reason = "each test file uses its part of this")]
#![allow(clippy::unwrap_used, reason = "a test stops where its own material is wrong")]

use anychip_ir::{Builder, DotDims, Graph, Prim, ReduceKind, TensorType, ValueId};
use anychip_tensor::{DType, Dim, Tensor};

/// Numbers that follow from a seed (Marsaglia's xorshift, doi:10.18637/jss.v008.i14).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        // Nearby seeds must not begin alike, and the state must not be 0.
        let mut random = Random((seed + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        random.next();
        random
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.next() >> 16) as usize % n
    }

    pub(crate) fn pick<T: Clone>(&mut self, items: &[T]) -> T {
        items[self.below(items.len())].clone()
    }

    /// Between −2 and 2, sometimes a small whole number: what identities look for.
    pub(crate) fn number(&mut self) -> f64 {
        if self.below(4) == 0 {
            self.pick(&[-1.0, 0.0, 0.5, 1.0, 2.0])
        } else {
            self.below(4001) as f64 / 1000.0 - 2.0
        }
    }

    pub(crate) fn tensor(&mut self, shape: &[usize]) -> Tensor {
        let values: Vec<f64> = (0..shape.iter().product()).map(|_| self.number()).collect();
        Tensor::from_f64(DType::F32, shape, &values).unwrap()
    }
}

/// What a named dim is when a random graph runs.
pub(crate) const N: usize = 3;

/// A random graph and inputs for it. With `named`, one dim of an input is a name.
pub(crate) fn graph(seed: u64, named: bool) -> (Graph, Vec<Tensor>) {
    let mut r = Random::new(seed);
    let mut b = Builder::new("random");
    let mut inputs = Vec::new();
    let mut values = Vec::new();
    for i in 0..=r.below(2) {
        let rank = 1 + r.below(4);
        let mut shape: Vec<usize> = (0..rank).map(|_| r.pick(&[1, 2, 3, 4])).collect();
        let mut dims: Vec<Dim> = shape.iter().map(|&n| Dim::Fixed(n)).collect();
        if named && i == 0 {
            let axis = r.below(rank);
            shape[axis] = N;
            dims[axis] = Dim::sym("n");
        }
        values.push(b.input(&format!("x{i}"), TensorType { dtype: DType::F32, shape: dims }));
        inputs.push(r.tensor(&shape));
    }
    for _ in 0..6 + r.below(20) {
        // Recent values are more likely, so that chains get long.
        let x = values[values.len() - 1 - r.below(values.len().min(4))];
        if let Some(y) = grow(&mut r, &mut b, x, &values)
            && small(&b, y)
        {
            values.push(y);
        }
    }
    let mut outputs = vec![*values.last().unwrap()];
    for _ in 0..r.below(3) {
        outputs.push(r.pick(&values));
    }
    (b.finish(&outputs), inputs)
}

fn small(b: &Builder, v: ValueId) -> bool {
    let sizes = b.ty(v).shape.iter().map(|d| d.evaluate(&|_| Some(N)).unwrap_or(N));
    sizes.fold(1, |n, s| n * s.max(1)) <= 4096 && b.rank(v) <= 5
}

/// One more value made from `x` and others; `None` where the dice ask for what does not fit.
fn grow(r: &mut Random, b: &mut Builder, x: ValueId, values: &[ValueId]) -> Option<ValueId> {
    let rank = b.rank(x);
    let dims = b.dims(x);
    match r.below(20) {
        0 => b.tanh(x).ok(),
        1 => b.sigmoid(x).ok(),
        2 => {
            let once = b.neg(x).ok()?;
            if r.below(2) == 0 { b.neg(once).ok() } else { Some(once) }
        }
        3 => {
            let c = r.number();
            b.scale(x, c).ok()
        }
        4 => {
            let c = r.number();
            b.offset(x, c).ok()
        }
        5 => {
            let y = r.pick(values);
            match r.below(4) {
                0 => b.add(x, y).ok(),
                1 => b.sub(x, y).ok(),
                2 => b.mul(x, y).ok(),
                _ => b.max(x, y).ok(),
            }
        }
        6 | 7 => b.transpose(x, &shuffled(r, rank)).ok(),
        8 => {
            // Merge two neighboring dims, or split off a 1.
            let mut to = dims.clone();
            if rank >= 2 && r.below(2) == 0 {
                let i = r.below(rank - 1);
                let next = to.remove(i + 1);
                to[i] = to[i].clone() * next;
            } else {
                to.insert(r.below(rank + 1), Dim::Fixed(1));
            }
            b.reshape(x, &to).ok()
        }
        9 => {
            // As exporters flatten: from the shape, computed in the graph.
            if rank == 0 {
                return None;
            }
            let shape = b.prim(Prim::ShapeOf, &[x]).ok()?;
            let zero = b.integers(&[0]);
            let first = b.prim(Prim::Take { axis: 0 }, &[shape, zero]).ok()?;
            let all =
                b.prim(Prim::Reduce { kind: ReduceKind::Prod, axes: vec![0] }, &[shape]).ok()?;
            let one = b.integers(&[1]);
            let all = b.prim(Prim::Reshape, &[all, one]).ok()?;
            let rest = b.div(all, first).ok()?;
            let target = b.prim(Prim::Concat { axis: 0 }, &[first, rest]).ok()?;
            b.prim(Prim::Reshape, &[x, target]).ok()
        }
        10 => {
            let axis = r.below(rank.max(1));
            (rank > 0).then(|| b.concat(&[x, x], axis).ok())?
        }
        11 => {
            let axes: Vec<usize> = (0..rank).filter(|_| r.below(2) == 0).collect();
            let kind = r.pick(&[ReduceKind::Sum, ReduceKind::Max]);
            let keep = r.below(2) == 0;
            b.reduce(kind, x, &axes, keep).ok()
        }
        12 => {
            let axis = r.below(rank.max(1));
            let end = r.pick(&[Dim::Fixed(1), Dim::Fixed(2), Dim::from_i64(i64::MAX)]);
            (rank > 0).then(|| b.slice(x, axis, &Dim::Fixed(0), &end).ok())?
        }
        13 => {
            let low: Vec<i64> = (0..rank).map(|_| r.below(2) as i64).collect();
            let high: Vec<i64> = (0..rank).map(|_| r.below(2) as i64).collect();
            let (low, high) = (b.integers(&low), b.integers(&high));
            let value = b.scalar_like(x, 0.5).ok()?;
            b.prim(Prim::Pad, &[x, low, high, value]).ok()
        }
        14 => {
            // A dot product with constant weights, on any dim, then perhaps a factor and a bias.
            let axis = r.below(rank.max(1));
            let n = dims.get(axis)?.fixed()?;
            let m = 1 + r.below(4);
            let w = b.constant(r.tensor(&[n, m]));
            let w = if r.below(2) == 0 {
                let t = b.transpose(w, &[1, 0]).ok()?;
                b.transpose(t, &[1, 0]).ok()?
            } else {
                w
            };
            let contract =
                DotDims { lhs_contract: vec![axis], rhs_contract: vec![0], ..DotDims::default() };
            let mut y = b.prim(Prim::DotGeneral(contract, DType::F32), &[x, w]).ok()?;
            for _ in 0..r.below(3) {
                let row = b.constant(r.tensor(&[m]));
                y = if r.below(2) == 0 { b.mul(y, row).ok()? } else { b.add(y, row).ok()? };
            }
            Some(y)
        }
        15 => {
            let others: Vec<ValueId> =
                values.iter().copied().filter(|&v| b.ty(v).shape == dims).collect();
            let y = r.pick(&others);
            let condition = b.gt(x, y).ok()?;
            b.select(condition, x, y).ok()
        }
        16 => {
            let c = r.pick(&[2.0, 3.0, 1.0]);
            let exponent = b.scalar_like(x, c).ok()?;
            b.pow(x, exponent).ok()
        }
        17 => {
            let axis = rank.checked_sub(1)?;
            let rows: Vec<_> = anychip_ops::ROWS.iter().collect();
            let name =
                r.pick(&["softmax", "gelu", "silu", "layer-norm", "log-softmax", "rms-norm"]);
            let row = rows.iter().find(|row| row.name == name)?;
            let wide: Vec<usize> = vec![dims[axis].fixed()?];
            let scale = b.constant(r.tensor(&wide));
            let composite: std::sync::Arc<dyn anychip_ir::Composite> = match name {
                "softmax" => std::sync::Arc::new(anychip_ops::Softmax { axis }),
                "log-softmax" => std::sync::Arc::new(anychip_ops::LogSoftmax { axis }),
                "layer-norm" => std::sync::Arc::new(anychip_ops::LayerNorm { axis, epsilon: 0.1 }),
                "rms-norm" => std::sync::Arc::new(anychip_ops::RmsNorm { axis, epsilon: 0.1 }),
                _ => (row.example)(),
            };
            let operands = if name.ends_with("norm") { vec![x, scale] } else { vec![x] };
            if r.below(2) == 0 {
                Some(b.node(anychip_ir::Op::Composite(composite), &operands, Vec::new()).ok()?[0])
            } else {
                Some(composite.expand(b, &operands).ok()?[0])
            }
        }
        18 => {
            // Convolution on three or four dims with constant weights, then batch norm.
            let channels = dims.get(1)?.fixed()?;
            if rank < 3 || dims[2..].iter().any(|d| d.fixed().is_none()) {
                return None;
            }
            let m = 1 + r.below(3);
            let spatial = rank - 2;
            let kernel: Vec<usize> = [vec![m, channels], vec![1 + r.below(2); spatial]].concat();
            let w = b.constant(r.tensor(&kernel));
            let settings = anychip_ir::ConvolutionDims {
                strides: vec![1; spatial],
                padding: vec![(1, 1); spatial],
                dilation: vec![1; spatial],
                input_dilation: vec![1; spatial],
                groups: 1,
            };
            let y = b.prim(Prim::Convolution(settings, DType::F32), &[x, w]).ok()?;
            let parameters: Vec<ValueId> = (0..3).map(|_| b.constant(r.tensor(&[m]))).collect();
            let variance = b.constant(Tensor::from_f64(DType::F32, [m], &vec![0.7; m]).unwrap());
            let norm = anychip_ops::BatchNorm { epsilon: 1e-3 };
            b.composite(norm, &[y, parameters[0], parameters[1], parameters[2], variance]).ok()
        }
        _ => {
            let to: Vec<Dim> = [vec![Dim::Fixed(2)], dims].concat();
            b.broadcast(x, &to).ok()
        }
    }
}

fn shuffled(r: &mut Random, n: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..n).collect();
    for i in (1..n).rev() {
        order.swap(i, r.below(i + 1));
    }
    order
}

/// Compares results: equal shapes, and elements equal to rounding.
pub(crate) fn assert_close(expected: &[Tensor], found: &[Tensor], what: &str) {
    assert_eq!(expected.len(), found.len(), "{what}: the number of results");
    for (i, (e, f)) in expected.iter().zip(found).enumerate() {
        assert_eq!((e.dtype(), e.shape()), (f.dtype(), f.shape()), "{what}: result {i}");
        let (e, f) = (e.to_f64(), f.to_f64());
        let largest = e.iter().filter(|v| v.is_finite()).fold(0f64, |m, v| m.max(v.abs()));
        for (j, (&e, &f)) in e.iter().zip(&f).enumerate() {
            let same = e == f
                || (e.is_nan() && f.is_nan())
                || (e - f).abs() <= 1e-4 * e.abs().max(1.0).max(1e-1 * largest);
            assert!(same, "{what}: element {j} of result {i} is {f}, expected {e}");
        }
    }
}
