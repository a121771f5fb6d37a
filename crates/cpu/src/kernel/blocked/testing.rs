//! What the tests of the convolutions on blocks share: random operands in rows and in blocks, and the reference's result.

use super::{BLOCK, blocks, from_blocked, to_blocked};
use crate::kernel::activation::Activation;
use crate::kernel::conv::{ConvShape, reference};
use crate::kernel::gemm::Epilogue;
use crate::kernel::testing::Random;
use crate::pool::Pool;

/// A convolution of one group with its operands.
pub(super) struct Case {
    shape: ConvShape,
    pub(super) pool: Pool,
    /// In rows.
    pub(super) input: Vec<f32>,
    pub(super) weights: Vec<f32>,
    bias: Option<Vec<f32>>,
    residual: Option<Vec<f32>>,
    activation: Activation,
    /// The reference's result, in rows.
    pub(super) want: Vec<f32>,
}

impl Case {
    /// `plain` says that nothing is done to the sums.
    pub(super) fn new(
        random: &mut Random,
        shape: &ConvShape,
        plain: bool,
        draw: fn(&mut Random, usize) -> Vec<f32>,
    ) -> Case {
        let pool = Pool::new(1 + random.below(2));
        let input = draw(random, shape.batch * shape.channels * shape.input_pixels());
        let weights = draw(random, shape.weights_len());
        let mut want = vec![f32::NAN; shape.batch * shape.filters * shape.output_pixels()];
        let residual = (!plain && random.below(2) == 1).then(|| random.floats(want.len()));
        let bias = (!plain && random.below(2) == 1).then(|| random.floats(shape.filters));
        let activations = [Activation::None, Activation::Relu, Activation::HardSwish];
        let activation = activations[if plain { 0 } else { random.below(3) }];
        let epilogue = Epilogue {
            row_bias: bias.as_deref(),
            column_bias: None,
            residual: residual.as_deref(),
            activation,
        };
        reference(shape, &input, &weights, &mut want, &epilogue);
        let bias = bias.map(|mut bias| {
            bias.resize(blocks(shape.filters) * BLOCK, 0.0);
            bias
        });
        let mut case =
            Case { shape: *shape, pool, input, weights, bias, residual, activation, want };
        case.residual = case
            .residual
            .take()
            .map(|rows| case.in_blocks(shape.filters, shape.output_pixels(), &rows));
        case
    }

    fn in_blocks(&self, channels: usize, pixels: usize, rows: &[f32]) -> Vec<f32> {
        let mut out = vec![f32::NAN; self.shape.batch * blocks(channels) * BLOCK * pixels];
        to_blocked((self.shape.batch, channels, pixels), rows, &mut out, &self.pool);
        out
    }

    pub(super) fn input_in_blocks(&self) -> Vec<f32> {
        self.in_blocks(self.shape.channels, self.shape.input_pixels(), &self.input)
    }

    pub(super) fn epilogue(&self) -> Epilogue<'_> {
        Epilogue {
            row_bias: None,
            column_bias: self.bias.as_deref(),
            residual: self.residual.as_deref(),
            activation: self.activation,
        }
    }

    /// What `run` leaves in a result of blocks and a scratch of so many elements, in rows.
    pub(super) fn got(&self, scratch: usize, run: impl FnOnce(&mut [f32], &mut [f32])) -> Vec<f32> {
        let s = &self.shape;
        let len = s.batch * blocks(s.filters) * BLOCK * s.output_pixels();
        let (mut out, mut scratch) = (vec![f32::NAN; len], vec![f32::NAN; scratch]);
        run(&mut out, &mut scratch);
        let mut got = vec![f32::NAN; self.want.len()];
        from_blocked((s.batch, s.filters, s.output_pixels()), &out, &mut got, &self.pool);
        got
    }
}
