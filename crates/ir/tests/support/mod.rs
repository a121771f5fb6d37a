//! Random graphs for tests and fuzzers: every primitive, mostly on operands it takes.

use anychip_ir::{
    Binary, Builder, Combine, Compare, CompositeRow, ConvolutionDims, Distribution, DotDims,
    Expand, Graph, IrError, Prim, ReduceKind, Rounding, TensorType, Unary, ValueId, Window,
    composite,
};
use anychip_tensor::{DType, Dim, Tensor};

/// SplitMix64 (Steele, Lea and Flood, 2014).
pub struct Rng(pub u64);

impl Rng {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }

    pub fn flip(&mut self) -> bool {
        self.next() & 1 == 1
    }

    pub fn pick<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.below(items.len())]
    }
}

composite! {
    /// `x · sigmoid(alpha · x)`, along with the operand's mean over `axis`.
    pub struct Gated = "gated" {
        /// Steepness.
        pub alpha: f32,
        /// Which dim is averaged.
        pub axis: usize,
        /// Unused, to carry every type of setting.
        pub names: Option<Vec<String>>,
        /// Unused, to carry every type of setting.
        pub weights: Option<Vec<f64>>,
        /// Unused, to carry every type of setting.
        pub dtype: Option<DType>,
    }
    example: Gated { alpha: 1.5, axis: 0, names: None, weights: None, dtype: None }
}

impl Expand for Gated {
    fn expand(&self, b: &mut Builder, x: &[ValueId]) -> Result<Vec<ValueId>, IrError> {
        let &[x] = x else {
            return Err(IrError::OperandCount { op: "gated", expected: 1, found: x.len() });
        };
        if self.axis >= b.rank(x) {
            return Err(IrError::Setting {
                op: "gated",
                reason: "the axis must be below the rank",
                found: self.axis.to_string(),
            });
        }
        let scaled = b.scale(x, f64::from(self.alpha))?;
        let gate = b.sigmoid(scaled)?;
        let gated = b.mul(x, gate)?;
        let mean = b.mean(x, &[self.axis], true)?;
        Ok(vec![gated, mean])
    }
}

/// The composites that random graphs use.
pub const ROWS: &[CompositeRow] = &[Gated::ROW];

const DTYPES: [DType; 8] =
    [DType::F32, DType::F32, DType::I64, DType::Bool, DType::F16, DType::U8, DType::I32, DType::I4];

fn tensor(rng: &mut Rng, dtype: DType, shape: &[usize]) -> Tensor {
    let count: usize = shape.iter().product();
    let values: Vec<f64> = (0..count)
        .map(|_| match rng.below(24) {
            0 if dtype.is_float() => f64::NAN,
            1 if dtype.is_float() => -0.0,
            2 if dtype.is_float() => f64::INFINITY,
            _ if dtype.is_float() => rng.below(2000) as f64 / 100.0 - 10.0,
            _ => rng.below(7) as f64 - 2.0,
        })
        .collect();
    let values: Vec<f64> = match dtype.integer_range() {
        Some((low, high)) => values.iter().map(|v| v.clamp(low as f64, high as f64)).collect(),
        None => values,
    };
    Tensor::from_f64(dtype, shape, &values).expect("as many values as the shape holds")
}

/// The sizes that names have when such a graph is evaluated.
pub fn size_of(name: &str) -> usize {
    match name {
        "n" => 3,
        "batch size" => 2,
        _ => 4,
    }
}

/// Inputs of the graph's types at those sizes.
pub fn inputs(rng: &mut Rng, graph: &Graph) -> Vec<Tensor> {
    let tensors = graph.inputs().iter().map(|&v| {
        let ty = graph.ty(v);
        let shape: Vec<usize> = ty
            .shape
            .iter()
            .map(|dim| dim.evaluate(&|name| Some(size_of(name))).unwrap_or(1))
            .collect();
        tensor(rng, ty.dtype, &shape)
    });
    tensors.collect()
}

fn input_type(rng: &mut Rng) -> TensorType {
    let names = ["n", "batch size", "h"];
    let rank = rng.below(4);
    let shape: Vec<Dim> = (0..rank)
        .map(|_| match rng.below(3) {
            0 => Dim::sym(rng.pick(&names)),
            1 => Dim::sym("n") * Dim::Fixed(2) + Dim::Fixed(1),
            _ => Dim::Fixed(1 + rng.below(4)),
        })
        .collect();
    TensorType { dtype: rng.pick(&DTYPES), shape }
}

/// A graph of about `steps` nodes.
pub fn graph(rng: &mut Rng, steps: usize) -> Graph {
    let mut b = Builder::new("random \"graph\"\n");
    let mut values: Vec<ValueId> = Vec::new();
    for i in 0..=rng.below(3) {
        let mut ty = input_type(rng);
        // Every name can be read from some input.
        if i == 0 {
            ty.shape.insert(0, Dim::sym("n"));
        }
        values.push(b.input(&format!("in put {i}"), ty));
    }
    grow(rng, &mut b, &mut values, steps, 0);
    let outputs: Vec<ValueId> = (0..=rng.below(3)).map(|_| rng.pick(&values)).collect();
    b.finish(&outputs)
}

fn grow(rng: &mut Rng, b: &mut Builder, values: &mut Vec<ValueId>, steps: usize, depth: usize) {
    for step in 0..steps {
        if rng.below(4) == 0 {
            let name = format!("node {step}");
            b.set_scope(if rng.flip() { name.as_str() } else { "" });
        }
        // Operands that do not fit are part of the game: the node is just not added.
        if let Ok(results) = step_once(rng, b, values, depth) {
            if let Some(&first) = results.first()
                && rng.below(3) == 0
            {
                b.name_value(first, &format!("value/{step}"));
            }
            values.extend(results);
        }
    }
}

fn same_type(rng: &mut Rng, b: &Builder, values: &[ValueId], like: ValueId) -> ValueId {
    let dtype = b.dtype(like);
    let fitting: Vec<ValueId> = values.iter().copied().filter(|&v| b.dtype(v) == dtype).collect();
    if fitting.is_empty() { like } else { rng.pick(&fitting) }
}

fn axis(rng: &mut Rng, b: &Builder, x: ValueId) -> usize {
    rng.below(b.rank(x).max(1))
}

fn step_once(
    rng: &mut Rng,
    b: &mut Builder,
    values: &[ValueId],
    depth: usize,
) -> Result<Vec<ValueId>, IrError> {
    let x = rng.pick(values);
    let rank = b.rank(x);
    let kind = rng.pick(&ReduceKind::ALL.map(|(kind, _)| kind));
    let combine = rng.pick(&Combine::ALL.map(|(combine, _)| combine));
    let vector = |rng: &mut Rng, b: &mut Builder, n: usize, from: i64, to: i64| {
        let data: Vec<i64> =
            (0..n).map(|_| from + rng.below((to - from + 1) as usize) as i64).collect();
        b.integers(&data)
    };
    let indices = |rng: &mut Rng, b: &mut Builder, rank: usize| {
        let shape: Vec<usize> = (0..rank).map(|_| 1 + rng.below(2)).collect();
        let count = shape.iter().product();
        let data: Vec<i64> = (0..count).map(|_| rng.below(2) as i64 - 1).collect();
        b.constant(Tensor::from_vec(shape, data).expect("as many as the shape holds"))
    };
    let (prim, operands): (Prim, Vec<ValueId>) = match rng.below(36) {
        0 => {
            let shape: Vec<usize> = (0..rng.below(3)).map(|_| rng.below(4)).collect();
            let dtype = rng.pick(&DType::ALL);
            return Ok(vec![b.constant(tensor(rng, dtype, &shape))]);
        }
        1 => {
            let length = b.constant(Tensor::scalar(rng.below(5) as i64));
            (Prim::Iota, vec![length])
        }
        2 => {
            let shape = vector(rng, b, 2, 0, 3);
            let distribution = if rng.flip() {
                Distribution::Uniform { low: -0.5, high: 1.0 / 3.0 }
            } else {
                Distribution::Normal { mean: 0.1, deviation: 1e-3 }
            };
            let dtype = rng.pick(&[DType::F32, DType::F16, DType::BF16, DType::F64]);
            (Prim::Random { distribution, dtype, seed: Some(rng.next()) }, vec![shape])
        }
        3 | 4 => (Prim::Unary(rng.pick(&Unary::ALL.map(|(u, _)| u))), vec![x]),
        5 | 6 => {
            let y = same_type(rng, b, values, x);
            (Prim::Binary(rng.pick(&Binary::ALL.map(|(op, _)| op))), vec![x, y])
        }
        7 => {
            let y = same_type(rng, b, values, x);
            (Prim::Compare(rng.pick(&Compare::ALL.map(|(op, _)| op))), vec![x, y])
        }
        8 => {
            let (c, y) = (rng.pick(values), same_type(rng, b, values, x));
            (Prim::Select, vec![c, x, y])
        }
        9 => {
            let rounding = rng.pick(&[
                Rounding::NearestEven,
                Rounding::NearestUp,
                Rounding::Up,
                Rounding::Down,
            ]);
            (Prim::Cast { to: rng.pick(&DType::ALL), saturate: rng.flip(), rounding }, vec![x])
        }
        10 => (Prim::BitCast { to: rng.pick(&DType::ALL) }, vec![x]),
        11 => {
            let y = rng.pick(values);
            let dims = DotDims {
                lhs_contract: vec![axis(rng, b, x)],
                rhs_contract: vec![axis(rng, b, y)],
                ..DotDims::default()
            };
            (Prim::DotGeneral(dims, rng.pick(&[DType::F32, DType::I32, DType::F16])), vec![x, y])
        }
        12 => {
            let square = b.transpose(x, &(0..rank).rev().collect::<Vec<_>>())?;
            let dims = DotDims {
                lhs_batch: vec![0],
                rhs_batch: vec![rank.max(1) - 1],
                ..DotDims::default()
            };
            (Prim::DotGeneral(dims, DType::F32), vec![x, square])
        }
        13 => {
            // An image of whatever is at hand.
            let image = b.unsqueeze(x, &[0, 1])?;
            let n = b.rank(image) - 2;
            let shape: Vec<usize> =
                [2, 1].into_iter().chain((0..n).map(|_| 1 + rng.below(3))).collect();
            let dtype = b.dtype(x);
            let w = b.constant(tensor(rng, dtype, &shape));
            let mut list = |most: usize| (0..n).map(|_| 1 + rng.below(most)).collect::<Vec<_>>();
            let (strides, dilation, input_dilation) = (list(3), list(2), list(2));
            let padding = (0..n).map(|_| (rng.below(3) as i64, rng.below(4) as i64 - 1)).collect();
            let dims = ConvolutionDims { strides, padding, dilation, input_dilation, groups: 1 };
            (Prim::Convolution(dims, DType::F32), vec![image, w])
        }
        14 => {
            let axes = (0..rank).filter(|_| rng.flip()).collect();
            (Prim::Reduce { kind, axes }, vec![x])
        }
        15 => (Prim::ArgReduce { kind, axis: axis(rng, b, x), last: rng.flip() }, vec![x]),
        16 => {
            let n = rng.below(rank + 1);
            let mut list = |least: usize, most: usize| {
                (0..n).map(|_| least + rng.below(most)).collect::<Vec<_>>()
            };
            let (size, strides, dilation) = (list(1, 3), list(1, 3), list(1, 2));
            let padding = (0..n).map(|_| (rng.below(3) as i64 - 1, rng.below(3) as i64)).collect();
            (
                Prim::ReduceWindow { kind, window: Window { size, strides, dilation, padding } },
                vec![x],
            )
        }
        17 => {
            let (exclusive, reverse) = (rng.flip(), rng.flip());
            (Prim::Cumulative { kind, axis: axis(rng, b, x), exclusive, reverse }, vec![x])
        }
        18 => {
            let k = b.constant(Tensor::scalar(rng.below(3) as i64));
            (Prim::TopK { axis: axis(rng, b, x), largest: rng.flip() }, vec![x, k])
        }
        19 => (Prim::ShapeOf, vec![x]),
        20 => {
            let mut dims = b.dims(x);
            if rng.flip() {
                dims = vec![dims.into_iter().fold(Dim::Fixed(1), |n, d| n * d)];
            }
            dims.insert(rng.below(dims.len() + 1), Dim::Fixed(1));
            let shape = b.dims_value(&dims)?;
            (Prim::Reshape, vec![x, shape])
        }
        21 => {
            let mut dims = b.dims(x);
            for dim in dims.iter_mut().filter(|dim| **dim == Dim::Fixed(1)) {
                *dim = Dim::sym("n");
            }
            dims.insert(0, Dim::Fixed(2));
            let shape = b.dims_value(&dims)?;
            (Prim::Broadcast, vec![x, shape])
        }
        22 => {
            let mut permutation: Vec<usize> = (0..rank).collect();
            permutation.rotate_left(rng.below(rank.max(1)));
            (Prim::Transpose { permutation }, vec![x])
        }
        23 => {
            let axes: Vec<usize> = (0..rank).filter(|_| rng.flip()).collect();
            let n = axes.len();
            let starts = vector(rng, b, n, -2, 2);
            let ends =
                if rng.flip() { vector(rng, b, n, -2, 4) } else { b.integers(&vec![i64::MAX; n]) };
            let steps =
                if rng.below(3) > 0 { b.integers(&vec![1; n]) } else { vector(rng, b, n, -2, 2) };
            (Prim::Slice { axes }, vec![x, starts, ends, steps])
        }
        24 => {
            let (low, high) = (vector(rng, b, rank, -1, 2), vector(rng, b, rank, -1, 2));
            let dtype = b.dtype(x);
            let value = b.constant(tensor(rng, dtype, &[]));
            (Prim::Pad, vec![x, low, high, value])
        }
        25 => {
            let y = same_type(rng, b, values, x);
            (Prim::Concat { axis: axis(rng, b, x) }, vec![x, y, x])
        }
        26 => {
            let n = rng.below(3);
            let places = indices(rng, b, n);
            (Prim::Take { axis: axis(rng, b, x) }, vec![x, places])
        }
        27 => {
            let places = indices(rng, b, rank);
            (Prim::TakeAlong { axis: axis(rng, b, x) }, vec![x, places])
        }
        28 => {
            let places = indices(rng, b, 2);
            (Prim::GatherNd { batch: 0 }, vec![x, places])
        }
        29 => {
            let places = indices(rng, b, rank);
            let updates = b.prim(Prim::TakeAlong { axis: axis(rng, b, x) }, &[x, places])?;
            (Prim::ScatterAlong { axis: axis(rng, b, x), combine }, vec![x, places, updates])
        }
        30 => {
            let places = indices(rng, b, 2);
            let updates = b.prim(Prim::GatherNd { batch: 0 }, &[x, places])?;
            (Prim::ScatterNd { combine }, vec![x, places, updates])
        }
        31 => (Prim::NonZero, vec![x]),
        32 => {
            let scale = b.constant(Tensor::scalar(0.1f32));
            let zero = b.scalar(DType::U8, 3.0)?;
            let to = DType::U8;
            let saturate = rng.flip();
            let quantized = b.prim(Prim::Quantize { to, saturate }, &[x, scale, zero])?;
            (Prim::Dequantize { to: DType::F32 }, vec![quantized, scale, zero])
        }
        33 => {
            let parts = [1i32 << 20, 24, -3].map(|v| b.constant(Tensor::scalar(v)));
            (Prim::Requantize { to: DType::I8 }, [&[x], &parts[..]].concat())
        }
        34 if depth < 2 => return region_step(rng, b, values, depth),
        _ => {
            let gated = Gated {
                alpha: 1.1,
                axis: axis(rng, b, x),
                names: rng.flip().then(|| vec!["a\"b".to_string(), String::new()]),
                weights: rng.flip().then(|| vec![0.1, f64::INFINITY]),
                dtype: rng.flip().then_some(DType::BF16),
            };
            return b.node(gated, &[x], Vec::new());
        }
    };
    b.node(prim, &operands, Vec::new())
}

fn region_step(
    rng: &mut Rng,
    b: &mut Builder,
    values: &[ValueId],
    depth: usize,
) -> Result<Vec<ValueId>, IrError> {
    let x = rng.pick(values);
    let ty = b.ty(x).clone();
    let truth = b.constant(Tensor::from_bools([], [rng.flip()])?);
    if rng.flip() {
        let branch = |rng: &mut Rng, name: &str| {
            let mut region = b.region(name);
            let mut inner = vec![region.input("captured", ty.clone())];
            grow(rng, &mut region, &mut inner, 3, depth + 1);
            let last = inner[inner.len() - 1];
            region.finish(&[last, inner[0]])
        };
        let regions = vec![branch(rng, "then"), branch(rng, "else")];
        return b.node(Prim::If, &[truth, x], regions);
    }
    let mut body = b.region("body");
    let _iteration = body.input("i", TensorType::scalar(DType::I64));
    let carried = body.input("state", ty);
    let go_on = body.constant(Tensor::from_bools([], [true])?);
    let mut inner = vec![carried];
    grow(rng, &mut body, &mut inner, 3, depth + 1);
    let scanned = rng.pick(&inner);
    let region = body.finish(&[go_on, carried, scanned]);
    let trips = b.constant(Tensor::scalar(rng.below(3) as i64));
    b.node(Prim::Loop { carried: 1 }, &[trips, truth, x], vec![region])
}
