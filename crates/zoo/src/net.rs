//! What architectures are written with: a graph builder that draws weights, counts them and names layers.

use std::sync::Arc;

use anychip_ir::{Builder, DotDims, Graph, IrError, Prim, TensorType, ValueId};
use anychip_ops::{BatchNorm, LayerNorm, RmsNorm};
use anychip_tensor::{DType, Dim, Tensor};

use crate::weights::{mix, uniform};

/// A value, or why the graph does not fit together.
pub(crate) type Made<T = ValueId> = Result<T, IrError>;

/// Named results of an architecture.
pub(crate) type Outputs = Vec<(Arc<str>, ValueId)>;

/// The name of the first dim of every input.
pub(crate) const BATCH: &str = "batch";

/// An architecture being built.
pub(crate) struct Net {
    /// The graph so far.
    pub(crate) b: Builder,
    /// The type of weights and activations.
    pub(crate) dtype: DType,
    /// What batch normalization adds to the variance.
    pub(crate) norm_epsilon: f32,
    /// Batch norms are not trained any more: what they have is no parameter.
    pub(crate) frozen_norms: bool,
    seed: u64,
    drawn: u64,
    parameters: u64,
    /// Names of the modules around what is being built, with dots between.
    path: String,
}

impl Net {
    pub(crate) fn new(name: &str, dtype: DType, seed: u64) -> Net {
        Net {
            b: Builder::new(name),
            dtype,
            norm_epsilon: 1e-5,
            frozen_norms: false,
            seed,
            drawn: 0,
            parameters: 0,
            path: String::new(),
        }
    }

    /// The finished graph and how many trained numbers it has.
    pub(crate) fn finish(self, outputs: &Outputs) -> (Graph, u64) {
        (self.b.finish_named(outputs), self.parameters)
    }

    /// Builds a module: what `build` adds is named `….name`.
    pub(crate) fn within<T>(
        &mut self,
        name: impl std::fmt::Display,
        build: impl FnOnce(&mut Net) -> Made<T>,
    ) -> Made<T> {
        let length = self.path.len();
        if length > 0 {
            self.path.push('.');
        }
        self.path += &name.to_string();
        self.b.set_scope(self.path.as_str());
        let built = build(self);
        self.path.truncate(length);
        self.b.set_scope(self.path.as_str());
        built
    }

    /// An input of floating-point numbers whose first dim is the batch.
    pub(crate) fn input(&mut self, name: &str, sizes: &[usize]) -> ValueId {
        let mut dims = vec![Dim::sym(BATCH)];
        dims.extend(sizes.iter().map(|&n| Dim::Fixed(n)));
        self.b.input(name, TensorType::new(self.dtype, dims))
    }

    /// An input of whole numbers, `i64[batch, …]`.
    pub(crate) fn indices(&mut self, name: &str, dims: &[Dim]) -> ValueId {
        let dims: Vec<Dim> = std::iter::once(Dim::sym(BATCH)).chain(dims.iter().cloned()).collect();
        self.b.input(name, TensorType::new(DType::I64, dims))
    }

    /// Trained numbers, spread evenly from `low` to `high`.
    pub(crate) fn parameter(&mut self, shape: &[usize], low: f32, high: f32) -> Made {
        let tensor = self.draw(shape, low, high)?;
        let count = tensor.len() as u64;
        self.parameters = self.parameters.saturating_add(count);
        Ok(self.b.constant(tensor))
    }

    /// Trained numbers with mean 0 whose products with `inputs` numbers of variance 1 sum up to variance 1.
    pub(crate) fn weights(&mut self, shape: &[usize], inputs: usize) -> Made {
        let bound = (3.0 / inputs.max(1) as f32).sqrt();
        self.parameter(shape, -bound, bound)
    }

    /// Numbers near 0 that are added.
    pub(crate) fn shift(&mut self, shape: &[usize]) -> Made {
        self.parameter(shape, -0.1, 0.1)
    }

    /// Numbers near 1 that multiply.
    pub(crate) fn gain(&mut self, shape: &[usize]) -> Made {
        self.parameter(shape, 0.9, 1.1)
    }

    /// Numbers of a trained model that training did not optimize, as the statistics of a batch norm.
    fn statistics(&mut self, shape: &[usize], low: f32, high: f32) -> Made {
        let tensor = self.draw(shape, low, high)?;
        Ok(self.b.constant(tensor))
    }

    fn draw(&mut self, shape: &[usize], low: f32, high: f32) -> Made<Tensor> {
        self.drawn += 1;
        let key = mix(mix(self.seed).wrapping_add(self.drawn));
        Ok(uniform(self.dtype, shape, key, low, high)?)
    }

    /// The size of a dim that is a number by construction: channels, widths.
    pub(crate) fn size(&self, x: ValueId, axis: usize) -> Made<usize> {
        let ty = self.b.ty(x);
        let wrong = |reason| IrError::Shapes { op: "zoo", reason, types: vec![ty.clone()] };
        match ty.shape.get(axis).and_then(Dim::fixed) {
            Some(0) => Err(wrong("nothing is left of the image: it is too small")),
            Some(size) => Ok(size),
            None => Err(wrong("the size of a dim must be a number here")),
        }
    }

    /// The last dim of a value.
    pub(crate) fn width(&self, x: ValueId) -> Made<usize> {
        self.size(x, self.b.rank(x).saturating_sub(1))
    }

    /// `x · w + bias` over the last dim.
    pub(crate) fn linear(&mut self, name: &str, x: ValueId, out: usize, bias: bool) -> Made {
        self.within(name, |net| {
            let inputs = net.width(x)?;
            let w = net.weights(&[inputs, out], inputs)?;
            let y = net.b.matmul(x, w, net.dtype)?;
            if !bias {
                return Ok(y);
            }
            let bias = net.shift(&[out])?;
            net.b.add(y, bias)
        })
    }

    /// `x · tableᵀ` over the last dim, for heads that share the table of an embedding.
    pub(crate) fn times_table(&mut self, name: &str, x: ValueId, table: ValueId) -> Made {
        self.within(name, |net| {
            let dims = DotDims {
                lhs_contract: vec![net.b.rank(x) - 1],
                rhs_contract: vec![1],
                ..DotDims::default()
            };
            net.b.prim(Prim::DotGeneral(dims, net.dtype), &[x, table])
        })
    }

    /// A table of `rows` vectors.
    pub(crate) fn table(&mut self, rows: usize, width: usize) -> Made {
        // Small, as trained embeddings are.
        self.parameter(&[rows, width], -0.1, 0.1)
    }

    /// The rows of a table that `ids` names.
    pub(crate) fn look_up(&mut self, name: &str, table: ValueId, ids: ValueId) -> Made {
        self.within(name, |net| net.b.prim(Prim::Take { axis: 0 }, &[table, ids]))
    }

    /// A table of its own and the rows of it that `ids` names.
    pub(crate) fn embedding(
        &mut self,
        name: &str,
        ids: ValueId,
        rows: usize,
        width: usize,
    ) -> Made {
        self.within(name, |net| {
            let table = net.table(rows, width)?;
            net.b.prim(Prim::Take { axis: 0 }, &[table, ids])
        })
    }

    /// Layer normalization over the last dim.
    pub(crate) fn layer_norm(&mut self, name: &str, x: ValueId, epsilon: f32) -> Made {
        self.within(name, |net| {
            let width = net.width(x)?;
            let (scale, bias) = (net.gain(&[width])?, net.shift(&[width])?);
            net.b.composite(LayerNorm { axis: net.b.rank(x) - 1, epsilon }, &[x, scale, bias])
        })
    }

    /// Root-mean-square normalization over the last dim.
    pub(crate) fn rms_norm(&mut self, name: &str, x: ValueId, epsilon: f32) -> Made {
        self.within(name, |net| {
            let scale = net.gain(&[net.width(x)?])?;
            net.b.composite(RmsNorm { axis: net.b.rank(x) - 1, epsilon }, &[x, scale])
        })
    }

    /// Batch normalization over dim 1 with the statistics of training.
    pub(crate) fn batch_norm(&mut self, name: &str, x: ValueId) -> Made {
        self.within(name, |net| {
            let channels = [net.size(x, 1)?];
            let before = net.parameters;
            let (scale, bias) = (net.gain(&channels)?, net.shift(&channels)?);
            if net.frozen_norms {
                net.parameters = before;
            }
            let mean = net.statistics(&channels, -0.1, 0.1)?;
            let variance = net.statistics(&channels, 0.9, 1.1)?;
            let epsilon = net.norm_epsilon;
            net.b.composite(BatchNorm { epsilon }, &[x, scale, bias, mean, variance])
        })
    }
}
