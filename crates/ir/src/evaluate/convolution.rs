//! Cross-correlation with strides, padding, dilations and groups.

use anychip_tensor::{DType, Tensor};

use super::product::{
    Accumulator, Pair, Panels, Sums, TILE, convert, store_floats, store_integers,
};
use super::strided::strides;
use crate::{ConvolutionDims, IrError};

/// No element: a position of padding, or between the elements of a dilated input.
const NONE: usize = usize::MAX;

pub(super) fn convolution(
    dims: &ConvolutionDims,
    output: DType,
    x: &Tensor,
    w: &Tensor,
    shape: Vec<usize>,
) -> Result<Tensor, IrError> {
    let geometry = Geometry::new(dims, x.shape(), w.shape(), &shape);
    let count: usize = shape.iter().product();
    match convert(x, w, output)? {
        Pair::Float(x, w) => {
            let mut sums = Sums::new(output, count);
            geometry.correlate(&x, &w, |place, sum| sums.put(place, sum));
            store_floats(output, shape, sums)
        }
        Pair::Integer(x, w) => {
            let mut sums = vec![0i64; count];
            geometry.correlate(&x, &w, |place, sum| sums[place] = sum);
            store_integers(output, shape, &sums)
        }
    }
}

struct Geometry {
    batch: usize,
    groups: usize,
    /// Channels a group.
    inputs: usize,
    /// Output channels a group.
    outputs: usize,
    /// Elements of one input channel, of one output channel, of one kernel channel.
    plane: usize,
    result_plane: usize,
    taps: usize,
    result_dims: Vec<usize>,
    kernel_dims: Vec<usize>,
    /// For each spatial dim, place of the result and tap: the offset of the input element, or [`NONE`].
    offsets: Vec<Vec<usize>>,
}

impl Geometry {
    fn new(dims: &ConvolutionDims, x: &[usize], w: &[usize], shape: &[usize]) -> Geometry {
        let own = strides(&x[2..]);
        let offsets = (0..x.len() - 2)
            .map(|d| {
                let (size, kernel) = (x[2 + d] as i128, w[2 + d]);
                let input_dilation = dims.input_dilation[d] as i128;
                let mut offsets = Vec::with_capacity(shape[2 + d] * kernel);
                for place in 0..shape[2 + d] {
                    for k in 0..kernel {
                        let at = place as i128 * dims.strides[d] as i128
                            + k as i128 * dims.dilation[d] as i128
                            - i128::from(dims.padding[d].0);
                        let holds =
                            at >= 0 && at % input_dilation == 0 && at / input_dilation < size;
                        offsets.push(if holds {
                            (at / input_dilation) as usize * own[d]
                        } else {
                            NONE
                        });
                    }
                }
                offsets
            })
            .collect();
        Geometry {
            batch: x[0],
            groups: dims.groups,
            inputs: w[1],
            outputs: w[0] / dims.groups,
            plane: x[2..].iter().product(),
            result_plane: shape[2..].iter().product(),
            taps: w[2..].iter().product(),
            result_dims: shape[2..].to_vec(),
            kernel_dims: w[2..].to_vec(),
            offsets,
        }
    }

    /// The offset within an input channel that each tap reads for one place of the result.
    fn reads(&self, place: usize, reads: &mut [usize]) {
        let result_strides = strides(&self.result_dims);
        let kernel_strides = strides(&self.kernel_dims);
        for (tap, read) in reads.iter_mut().enumerate() {
            *read = 0;
            for (d, offsets) in self.offsets.iter().enumerate() {
                let at = place / result_strides[d] % self.result_dims[d];
                let k = tap / kernel_strides[d] % self.kernel_dims[d];
                let offset = offsets[at * self.kernel_dims[d] + k];
                *read = if offset == NONE || *read == NONE { NONE } else { *read + offset };
            }
        }
    }

    fn correlate<T: Accumulator>(&self, x: &[T], w: &[T], mut put: impl FnMut(usize, T)) {
        let depth = self.inputs * self.taps;
        let mut reads = vec![0usize; self.taps];
        let mut columns = vec![T::ZERO; depth * TILE];
        for group in 0..self.groups {
            let kernel = &w[group * self.outputs * depth..];
            let panels = Panels::new(self.outputs, depth, |row, k| kernel[row * depth + k]);
            for n in 0..self.batch {
                let first_channel = (n * self.groups + group) * self.inputs;
                let image = &x[first_channel * self.plane..][..self.inputs * self.plane];
                let result = (n * self.groups + group) * self.outputs * self.result_plane;
                for first in (0..self.result_plane).step_by(TILE) {
                    let here = TILE.min(self.result_plane - first);
                    for j in 0..here {
                        self.reads(first + j, &mut reads);
                        for channel in 0..self.inputs {
                            let channel_data = &image[channel * self.plane..];
                            for (tap, &read) in reads.iter().enumerate() {
                                columns[(channel * self.taps + tap) * TILE + j] =
                                    if read == NONE { T::ZERO } else { channel_data[read] };
                            }
                        }
                    }
                    panels.multiply(&columns, |row, j, sum| {
                        if j < here {
                            put(result + row * self.result_plane + first + j, sum);
                        }
                    });
                }
            }
        }
    }
}
