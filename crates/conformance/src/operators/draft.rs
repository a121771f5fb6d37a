//! A random case in the making: its graph, what its inputs will be filled with, and how much work it is.

use anychip_ir::{Builder, IrError, TensorType, ValueId};
use anychip_ops::{Gelu, Silu};
use anychip_tensor::{DType, Dim, Tensor};

use crate::{Case, Random};

/// What an input is filled with.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fill {
    /// Numbers in a range, rounded to the type.
    Between(f64, f64),
    /// 0, and −∞ in about a third of the places: what masks hold.
    Mask,
}

/// The usual numbers.
pub(super) const USUAL: Fill = Fill::Between(-2.0, 2.0);

/// Multiplications of a case, so that the reference evaluator is done within some tens of milliseconds.
const MOST_WORK: usize = 3_000_000;

/// The name of a batch that differs from run to run.
const BATCH: &str = "n";

/// A random case in the making.
pub(super) struct Draft {
    pub(super) b: Builder,
    pub(super) random: Random,
    /// Roundings that come together, see `Case::slack`.
    pub(super) slack: f64,
    inputs: Vec<(TensorType, Fill)>,
    outputs: Vec<ValueId>,
    label: String,
    work: usize,
    batches: Vec<usize>,
}

impl Draft {
    pub(super) fn new(random: Random) -> Draft {
        Draft {
            b: Builder::new("random"),
            random,
            slack: 1.0,
            inputs: Vec::new(),
            outputs: Vec::new(),
            label: String::new(),
            work: 0,
            batches: Vec::new(),
        }
    }

    /// Adds to the case's name.
    pub(super) fn say(&mut self, what: &str) {
        if !self.label.is_empty() {
            self.label += ", ";
        }
        self.label += what;
    }

    /// Counts multiplications of one image.
    pub(super) fn spend(&mut self, work: usize) {
        self.work = self.work.saturating_add(work);
    }

    pub(super) fn is_modest(&self) -> bool {
        let runs: usize = self.batches.iter().sum::<usize>().max(1);
        self.work.saturating_mul(runs) <= MOST_WORK
    }

    /// A first dim: a number, or a name that stands for different numbers in several runs.
    pub(super) fn batch(&mut self) -> Dim {
        if self.random.chance(25) {
            self.batches = vec![self.random.range(1, 3), self.random.range(1, 3)];
            return Dim::sym(BATCH);
        }
        let n = self.random.pick(&[1, 1, 1, 2, 3]);
        self.batches = vec![n];
        Dim::Fixed(n)
    }

    /// An input.
    pub(super) fn input(&mut self, dtype: DType, shape: &[Dim], fill: Fill) -> ValueId {
        let ty = TensorType { dtype, shape: shape.to_vec() };
        self.inputs.push((ty.clone(), fill));
        let name = format!("x{}", self.inputs.len() - 1);
        self.b.input(&name, ty)
    }

    /// An `f32` input.
    pub(super) fn floats(&mut self, shape: &[Dim]) -> ValueId {
        self.input(DType::F32, shape, USUAL)
    }

    /// An operand of fixed shape: a constant in `percent` of a hundred cases, else an input.
    pub(super) fn weights(
        &mut self,
        dtype: DType,
        shape: &[usize],
        fill: Fill,
        percent: usize,
    ) -> ValueId {
        if self.random.chance(percent) {
            let tensor = filled(&mut self.random, dtype, shape, fill);
            self.b.constant(tensor)
        } else {
            self.say(&format!("operand {} at run time", self.inputs.len()));
            self.input(dtype, &fixed(shape), fill)
        }
    }

    /// A constant of `f32`.
    pub(super) fn constant(&mut self, shape: &[usize]) -> ValueId {
        let tensor = filled(&mut self.random, DType::F32, shape, USUAL);
        self.b.constant(tensor)
    }

    /// What comes after a product or a convolution, each part or not: a bias along `axis`, an operand of the result's shape
    /// added before or after the activation.
    pub(super) fn epilogue(&mut self, y: ValueId, axis: usize) -> Result<ValueId, IrError> {
        let mut y = y;
        if self.random.chance(60) {
            let dims = self.b.dims(y);
            if let Some(n) = dims[axis].fixed() {
                let mut shape = vec![n];
                shape.resize(dims.len() - axis, 1);
                if self.random.chance(30) && axis > 0 {
                    shape.insert(0, 1);
                }
                let bias = self.constant(&shape);
                y = self.b.add(y, bias)?;
                self.say("bias");
            }
        }
        let residual = self.random.below(5);
        if residual == 0 {
            y = self.residual(y)?;
        }
        y = self.activation(y)?;
        if residual == 1 {
            y = self.residual(y)?;
        }
        Ok(y)
    }

    fn residual(&mut self, y: ValueId) -> Result<ValueId, IrError> {
        let dims = self.b.dims(y);
        let other = self.floats(&dims);
        self.say("residual");
        if self.random.chance(50) { self.b.add(y, other) } else { self.b.add(other, y) }
    }

    /// An activation, or none.
    pub(super) fn activation(&mut self, y: ValueId) -> Result<ValueId, IrError> {
        let names =
            ["", "", "relu", "relu", "relu6", "leaky", "sigmoid", "tanh", "silu", "gelu", "hard"];
        let name = self.random.pick(&names);
        if name.is_empty() {
            return Ok(y);
        }
        self.say(name);
        let b = &mut self.b;
        let zero = b.scalar_like(y, 0.0)?;
        let six = b.scalar_like(y, 6.0)?;
        match name {
            "relu" => b.max(y, zero),
            "relu6" => {
                let low = b.max(y, zero)?;
                b.min(low, six)
            }
            "leaky" => {
                let small = b.scale(y, 0.1)?;
                b.max(y, small)
            }
            "sigmoid" => b.sigmoid(y),
            "tanh" => b.tanh(y),
            "silu" => b.composite(Silu {}, &[y]),
            "gelu" => {
                let tanh = self.random.chance(50);
                self.b.composite(Gelu { tanh }, &[y])
            }
            _ => {
                let shifted = b.offset(y, 3.0)?;
                let low = b.max(shifted, zero)?;
                let gate = b.min(low, six)?;
                let gate = b.scale(gate, 1.0 / 6.0)?;
                b.mul(y, gate)
            }
        }
    }

    /// Adds a result.
    pub(super) fn output(&mut self, y: ValueId) {
        self.outputs.push(y);
    }

    /// The case, its inputs filled once for each batch.
    pub(super) fn finish(mut self, operator: &str, seed: u64) -> Case {
        let named = self.inputs.iter().any(|(ty, _)| ty.fixed_shape().is_none());
        let batches = if named { self.batches.clone() } else { vec![1] };
        let mut sets = Vec::new();
        for n in batches {
            let random = &mut self.random;
            let fill = |(ty, fill): &(TensorType, Fill)| {
                let size = |d: &Dim| {
                    d.evaluate(&|name| (name == BATCH).then_some(n)).expect("made of one name")
                };
                let shape: Vec<usize> = ty.shape.iter().map(size).collect();
                filled(random, ty.dtype, &shape, *fill)
            };
            sets.push(self.inputs.iter().map(fill).collect());
        }
        Case {
            name: format!("{operator}: {}", self.label),
            graph: self.b.finish(&self.outputs),
            inputs: sets,
            slack: self.slack,
            seed,
        }
    }
}

/// Numbers as dims.
pub(super) fn fixed(shape: &[usize]) -> Vec<Dim> {
    shape.iter().map(|&n| Dim::Fixed(n)).collect()
}

/// Dims as the numbers they are.
pub(super) fn sizes(b: &Builder, value: ValueId) -> Vec<usize> {
    b.dims(value).iter().map(|d| d.fixed().unwrap_or(1)).collect()
}

pub(super) fn filled(random: &mut Random, dtype: DType, shape: &[usize], fill: Fill) -> Tensor {
    match fill {
        Fill::Between(low, high) => random.tensor(dtype, shape, low, high),
        Fill::Mask => {
            let count = shape.iter().product::<usize>();
            let values: Vec<f64> = (0..count)
                .map(|_| if random.chance(33) { f64::NEG_INFINITY } else { 0.0 })
                .collect();
            Tensor::from_f64(dtype, shape, &values).expect("test shapes are small")
        }
    }
}
