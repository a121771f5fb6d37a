//! The plain loops of convolution, NCHW: the definition every fast path is compared with. Sums in `f64`.

use super::ConvShape;
use crate::kernel::gemm::Epilogue;

/// `weights` are `filters × channels/groups × kernel`; the epilogue's `row_bias` is one value a filter.
pub fn reference(
    shape: &ConvShape,
    input: &[f32],
    weights: &[f32],
    output: &mut [f32],
    epilogue: &Epilogue<'_>,
) {
    let s = shape;
    let out = s.output();
    let (per_group, filters) = (s.channels / s.groups, s.filters / s.groups);
    let mut at = 0;
    for b in 0..s.batch {
        for f in 0..s.filters {
            let group = f / filters;
            for od in 0..out[0] {
                for oh in 0..out[1] {
                    for ow in 0..out[2] {
                        let mut sum = 0.0f64;
                        for c in 0..per_group {
                            for tap in 0..s.taps() {
                                let k = [
                                    tap / (s.kernel[1] * s.kernel[2]),
                                    tap / s.kernel[2] % s.kernel[1],
                                    tap % s.kernel[2],
                                ];
                                let o = [od, oh, ow];
                                let mut index = Some(0usize);
                                for i in 0..3 {
                                    let p = (o[i] * s.stride[i] + k[i] * s.dilation[i]) as isize
                                        - s.pads_begin[i];
                                    let step = s.input_step[i] as isize;
                                    let inside = p >= 0
                                        && p % step == 0
                                        && ((p / step) as usize) < s.input[i];
                                    index = index
                                        .filter(|_| inside)
                                        .map(|x| x * s.input[i] + (p / step) as usize);
                                }
                                if let Some(index) = index {
                                    let channel = b * s.channels + group * per_group + c;
                                    let x = input[channel * s.input_pixels() + index];
                                    let w = weights[(f * per_group + c) * s.taps() + tap];
                                    sum += f64::from(x) * f64::from(w);
                                }
                            }
                        }
                        sum += epilogue.row_bias.map_or(0.0, |b| f64::from(b[f]));
                        sum += epilogue.residual.map_or(0.0, |r| f64::from(r[at]));
                        output[at] = epilogue.activation.reference(sum) as f32;
                        at += 1;
                    }
                }
            }
        }
    }
}
