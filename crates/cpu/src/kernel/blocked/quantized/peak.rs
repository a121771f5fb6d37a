//! How fast the register tile of 8-bit codes is where everything lies in the first-level cache.

use super::form::Form;
use super::tile::{MOST_PIXELS, Reach};
use crate::detect::Simd;
use crate::kernel::blocked::BLOCK;
use crate::pool::Pool;

/// Groups of channels of the product: 16 KiB of weights.
const GROUPS: usize = 256;
/// Times a thread computes the tile.
const ROUNDS: usize = 200;

/// Has each thread of the pool multiply codes for some hundred microseconds; gives the operations done, a multiply-add being
/// two.
pub fn multiply_codes(simd: Simd, pool: &Pool) -> f64 {
    let form = Form::of(simd.at_most());
    let pixels = form.pixels();
    let x = vec![0x0003_0002i32; pixels * GROUPS];
    let w = vec![0x0005_fffe_u32 as i32; GROUPS * BLOCK];
    pool.parallel_for(pool.threads(), |_, _| {
        let taps = [(0, 0)];
        let reach = Reach {
            blocks: 1,
            last: GROUPS,
            block: GROUPS,
            x_block: 0,
            w_block: 0,
            taps: &taps,
            step: 8,
        };
        let (bias, mut sums) = ([0i32; BLOCK], [0i32; MOST_PIXELS * BLOCK]);
        for _ in 0..ROUNDS {
            // SAFETY: pixels begin 8 groups apart, the last of them 8 · (pixels − 1) + GROUPS groups before the end of `x` at
            // most, as a tile has fewer pixels than there are groups; `w` has as many groups, and the sums are those of a tile.
            unsafe {
                form.tile(pixels)(&reach, x.as_ptr(), w.as_ptr(), bias.as_ptr(), sums.as_mut_ptr());
            }
            std::hint::black_box(&mut sums);
        }
    });
    (pool.threads() * ROUNDS * pixels * BLOCK * GROUPS * Form::GROUP * 2) as f64
}
