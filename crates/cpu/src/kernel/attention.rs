//! Scaled dot-product attention, `softmax(Q·Kᵀ·scale + mask)·V`, a block of queries at a time, so the scores are never whole.
//!
//! v1: scores are computed transposed (keys by queries): K is read where it lies, the block of queries is a small packed panel,
//! softmax runs down the columns with one query a lane, and the result is already the k-major left side for the product with V,
//! which is read where it lies too. Nothing but the queries is packed. Key heads may be shared by groups of query heads.

use super::gemm::Matrix;
use super::gemm::micro::{STRIDED_ROWS, Target, Tiles};
use super::gemm::pack::pack_b;
use super::{Scratch, SharedMut};
use crate::detect::Simd;
use crate::pool::Pool;
use crate::simd::{Task, Vector, dispatch, math};

/// Queries of a block.
const QUERIES: usize = 32;

/// The shape of an attention.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AttentionShape {
    /// Independent sequences.
    pub batch: usize,
    /// Heads of the queries and the result, a multiple of `key_heads`.
    pub heads: usize,
    /// Heads of keys and values; query head `h` uses key head `h / (heads / key_heads)`.
    pub key_heads: usize,
    /// Queries.
    pub queries: usize,
    /// Keys and values.
    pub keys: usize,
    /// Elements of a query and of a key.
    pub size: usize,
    /// Elements of a value.
    pub value_size: usize,
    /// Factor of the scores, usually `1/√size`.
    pub scale: f32,
    /// Query `i` sees keys `0 ..= i + offset` only.
    pub causal_offset: Option<isize>,
    /// Scores become `cap·tanh(score/cap)` before the mask is added.
    pub soft_cap: Option<f32>,
}

/// A four-axis operand: `data[batch·s₀ + head·s₁ + position·s₂ + element]`.
#[derive(Clone, Copy, Debug)]
pub struct Heads<'a> {
    /// Elements.
    pub data: &'a [f32],
    /// Steps of batch, head and position, in elements.
    pub strides: [usize; 3],
}

/// An additive mask: `data[batch·s₀ + head·s₁ + query·s₂ + key]`; a step may be 0.
#[derive(Clone, Copy, Debug)]
pub struct Mask<'a> {
    /// Elements.
    pub data: &'a [f32],
    /// Steps of batch, head and query, in elements.
    pub strides: [usize; 3],
}

/// A prepared attention.
#[derive(Clone, Copy, Debug)]
pub struct Attention {
    simd: Simd,
    threads: usize,
    shape: AttentionShape,
}

impl Attention {
    /// Prepares for pools of up to `threads` threads.
    ///
    /// # Panics
    /// When the key heads do not divide the heads.
    pub fn new(simd: Simd, threads: usize, shape: AttentionShape) -> Self {
        assert!(
            shape.key_heads > 0 && shape.heads.is_multiple_of(shape.key_heads),
            "heads in groups of key heads"
        );
        Self { simd: simd.at_most(), threads: threads.max(1), shape }
    }

    fn lanes(&self) -> usize {
        Tiles::of(self.simd).lanes
    }

    /// Values must be copied to whole vectors.
    fn copies_values(&self) -> bool {
        !self.shape.value_size.is_multiple_of(self.lanes())
    }

    fn per_thread(&self) -> usize {
        let s = &self.shape;
        let values = if self.copies_values() {
            s.keys * s.value_size.next_multiple_of(self.lanes())
        } else {
            0
        };
        // Queries, scores, and the mask as the scores lie.
        QUERIES * (s.size + 2 * s.keys) + values + 64
    }

    /// Scratch elements a run needs.
    pub fn scratch_len(&self) -> usize {
        Scratch::len(self.per_thread(), self.threads)
    }

    /// Computes the attention into `out`, whose steps of batch, head and position are `out_strides`.
    ///
    /// # Panics
    /// When a slice is shorter than the shape and its steps say, or the pool has more threads than prepared for.
    pub fn run(
        &self,
        (q, k, v): (Heads<'_>, Heads<'_>, Heads<'_>),
        mask: Option<Mask<'_>>,
        (out, out_strides): (&mut [f32], [usize; 3]),
        scratch: &mut [f32],
        pool: &Pool,
    ) {
        let s = &self.shape;
        if s.batch * s.heads * s.queries == 0 || s.value_size == 0 {
            return;
        }
        let reach = |strides: [usize; 3], heads: usize, positions: usize, size: usize| {
            (s.batch - 1) * strides[0]
                + (heads - 1) * strides[1]
                + (positions.max(1) - 1) * strides[2]
                + size
        };
        assert!(
            reach(q.strides, s.heads, s.queries, s.size) <= q.data.len(),
            "queries outside their slice"
        );
        assert!(
            reach(out_strides, s.heads, s.queries, s.value_size) <= out.len(),
            "result outside its slice"
        );
        if s.keys > 0 {
            assert!(
                reach(k.strides, s.key_heads, s.keys, s.size) <= k.data.len(),
                "keys outside their slice"
            );
            assert!(
                reach(v.strides, s.key_heads, s.keys, s.value_size) <= v.data.len(),
                "values outside their slice"
            );
            let masked =
                mask.is_none_or(|m| reach(m.strides, s.heads, s.queries, s.keys) <= m.data.len());
            assert!(masked, "mask outside its slice");
        }
        assert!(pool.threads() <= self.threads, "prepared for {} threads", self.threads);
        let scratch = Scratch::split(scratch, self.per_thread(), self.threads);
        let to = SharedMut::new(out);
        let blocks = s.queries.div_ceil(QUERIES);
        pool.parallel_for(s.batch * s.heads * blocks, |task, thread| {
            let (batch, head, block) =
                (task / blocks / s.heads, task / blocks % s.heads, task % blocks);
            let key_head = head / (s.heads / s.key_heads);
            let at = |strides: [usize; 3], head: usize, position: usize| {
                batch * strides[0] + head * strides[1] + position * strides[2]
            };
            let first = block * QUERIES;
            // SAFETY: offsets are within the slices checked above; each block of the result is one task's.
            unsafe {
                self.block(&Block {
                    first,
                    queries: QUERIES.min(s.queries - first),
                    q: q.data.as_ptr().add(at(q.strides, head, first)),
                    q_step: q.strides[2],
                    k: k.data.as_ptr().wrapping_add(at(k.strides, key_head, 0)),
                    k_step: k.strides[2],
                    v: v.data.as_ptr().wrapping_add(at(v.strides, key_head, 0)),
                    v_step: v.strides[2],
                    mask: mask.map_or(std::ptr::null(), |m| {
                        m.data.as_ptr().wrapping_add(at(m.strides, head, first))
                    }),
                    mask_step: mask.map_or(0, |m| m.strides[2]),
                    out: to.get().add(at(out_strides, head, first)),
                    out_step: out_strides[2],
                    scratch: scratch.part(thread),
                });
            }
        });
    }

    /// One block of queries of one head.
    ///
    /// # Safety
    /// `b`'s pointers cover its queries, all keys and values, and its mask; its part of the result and `scratch`, which holds
    /// `per_thread` elements, are nobody else's meanwhile.
    unsafe fn block(&self, b: &Block) {
        let (s, tiles) = (&self.shape, Tiles::of(self.simd));
        // Keys any query of the block sees.
        let keys = match s.causal_offset {
            None => s.keys,
            Some(offset) => {
                (b.first as isize + b.queries as isize + offset).clamp(0, s.keys as isize) as usize
            }
        };
        let columns = b.queries.next_multiple_of(tiles.lanes);
        let scores = b.scratch;
        // SAFETY: the scratch of this thread, divided as `per_thread` adds it up; operands within their checked slices.
        unsafe {
            let packed = scores.add(QUERIES * s.keys);
            let mask = packed.add(QUERIES * s.size);
            let copied = mask.add(QUERIES * s.keys);
            // The queries, k-major: panels as wide as a tile, columns beyond the last query zero.
            let data = std::slice::from_raw_parts(b.q, (b.queries - 1) * b.q_step + s.size);
            let transposed = Matrix { data, row_stride: 1, column_stride: b.q_step };
            pack_b(self.simd, &transposed, 0..s.size, 0..b.queries, tiles.width(), packed);
            let mut j = 0;
            while j < b.queries {
                let width = tiles.width().min(b.queries - j).next_multiple_of(tiles.lanes);
                let mut i = 0;
                while i < keys {
                    let rows = STRIDED_ROWS.min(keys - i);
                    let target = Target::plain(scores.add(i * QUERIES + j), QUERIES, width);
                    let a = (b.k.add(i * b.k_step), b.k_step);
                    let tile = tiles.get_by_rows(rows, width / tiles.lanes);
                    tile(s.size, a, (packed.add(j * s.size).cast_const(), width), &target);
                    i += rows;
                }
                j += width;
            }
            // One number a key, or one a score: those stand by queries and are wanted by keys.
            let mask = if b.mask.is_null() || keys == 0 {
                Mapped::None
            } else if b.mask_step == 0 {
                Mapped::Keys(b.mask)
            } else {
                let data = std::slice::from_raw_parts(b.mask, (b.queries - 1) * b.mask_step + keys);
                let transposed = Matrix { data, row_stride: 1, column_stride: b.mask_step };
                pack_b(self.simd, &transposed, 0..keys, 0..b.queries, QUERIES, mask);
                Mapped::Scores(mask)
            };
            dispatch(self.simd, Columns { shape: s, block: b, scores, keys, columns, mask });
            if keys == 0 {
                // No key at all: a sum of nothing.
                for i in 0..b.queries {
                    std::slice::from_raw_parts_mut(b.out.add(i * b.out_step), s.value_size)
                        .fill(0.0);
                }
                return;
            }
            let (values, step) = if self.copies_values() {
                let step = s.value_size.next_multiple_of(tiles.lanes);
                for i in 0..keys {
                    std::ptr::copy_nonoverlapping(
                        b.v.add(i * b.v_step),
                        copied.add(i * step),
                        s.value_size,
                    );
                    std::slice::from_raw_parts_mut(
                        copied.add(i * step + s.value_size),
                        step - s.value_size,
                    )
                    .fill(0.0);
                }
                (copied.cast_const(), step)
            } else {
                (b.v, b.v_step)
            };
            let mut j = 0;
            while j < s.value_size {
                let width = tiles.width().min(s.value_size - j);
                let mut i = 0;
                while i < b.queries {
                    let rows = tiles.rows.min(b.queries - i);
                    let target = Target::plain(b.out.add(i * b.out_step + j), b.out_step, width);
                    let tile = tiles.get(rows, width.div_ceil(tiles.lanes));
                    tile(
                        keys,
                        (scores.add(i).cast_const(), QUERIES),
                        (values.add(j), step),
                        &target,
                    );
                    i += rows;
                }
                j += width;
            }
        }
    }
}

/// Where a block's operands are.
struct Block {
    first: usize,
    queries: usize,
    q: *const f32,
    q_step: usize,
    k: *const f32,
    k_step: usize,
    v: *const f32,
    v_step: usize,
    mask: *const f32,
    mask_step: usize,
    out: *mut f32,
    out_step: usize,
    scratch: *mut f32,
}

/// What is added to the scores.
#[derive(Clone, Copy)]
enum Mapped {
    None,
    /// A number for each key.
    Keys(*const f32),
    /// One for each score: for each key the queries, to whole vectors.
    Scores(*const f32),
}

/// Softmax down the columns of the transposed scores.
struct Columns<'a> {
    shape: &'a AttentionShape,
    block: &'a Block,
    scores: *mut f32,
    keys: usize,
    columns: usize,
    mask: Mapped,
}

impl Task for Columns<'_> {
    type Output = ();
    #[inline(always)]
    fn run<V: Vector>(self) {
        let (s, b) = (self.shape, self.block);
        let mut column = 0;
        while column < self.columns {
            // SAFETY: `columns` columns of `keys` rows of scores are this block's; the mask covers its queries and keys.
            unsafe {
                let scores = self.scores.add(column);
                let mut max = V::splat(f32::NEG_INFINITY);
                for key in 0..self.keys {
                    let at = scores.add(key * QUERIES);
                    let mut x = V::load(at).mul(V::splat(s.scale));
                    if let Some(cap) = s.soft_cap {
                        x = math::tanh(x.div(V::splat(cap))).mul(V::splat(cap));
                    }
                    match self.mask {
                        Mapped::None => {}
                        Mapped::Keys(mask) => x = x.add(V::splat(*mask.add(key))),
                        Mapped::Scores(mask) => {
                            x = x.add(V::load(mask.add(key * self.columns + column)));
                        }
                    }
                    if let Some(offset) = s.causal_offset {
                        let seen = key as isize - offset - (b.first + column) as isize;
                        if seen > 0 {
                            x = hide_first::<V>(x, seen as usize);
                        }
                    }
                    x.store(at);
                    max = max.max(x);
                }
                // A query that sees no key gives zeros.
                let max = V::select(max.eq(V::splat(f32::NEG_INFINITY)), V::zero(), max);
                let mut sum = V::zero();
                for key in 0..self.keys {
                    let at = scores.add(key * QUERIES);
                    let e = math::exp(V::load(at).sub(max));
                    e.store(at);
                    sum = sum.add(e);
                }
                let factor = V::select(sum.eq(V::zero()), V::zero(), V::splat(1.0).div(sum));
                for key in 0..self.keys {
                    let at = scores.add(key * QUERIES);
                    V::load(at).mul(factor).store(at);
                }
            }
            column += V::LANES;
        }
    }
}

/// `x` with its first `n` lanes −∞.
///
/// # Safety
/// The CPU has `V`'s instructions.
#[inline(always)]
unsafe fn hide_first<V: Vector>(x: V, n: usize) -> V {
    let mut lanes = [0.0f32; 16];
    for lane in lanes.iter_mut().take(n.min(V::LANES)) {
        *lane = f32::NEG_INFINITY;
    }
    // SAFETY: 16 lanes are the most a vector has.
    x.add(unsafe { V::load(lanes.as_ptr()) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::testing::{Random, assert_close};

    fn reference(
        s: &AttentionShape,
        q: &[f32],
        k: &[f32],
        v: &[f32],
        mask: Option<Mask<'_>>,
    ) -> Vec<f32> {
        let mut out = Vec::new();
        for b in 0..s.batch {
            for h in 0..s.heads {
                let kh = b * s.key_heads + h / (s.heads / s.key_heads);
                for i in 0..s.queries {
                    let query = &q[((b * s.heads + h) * s.queries + i) * s.size..][..s.size];
                    let score = |j: usize| -> f64 {
                        let key = &k[(kh * s.keys + j) * s.size..][..s.size];
                        let dot: f64 =
                            query.iter().zip(key).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
                        let mut x = dot * f64::from(s.scale);
                        if let Some(cap) = s.soft_cap {
                            x = (x / f64::from(cap)).tanh() * f64::from(cap);
                        }
                        if let Some(m) = mask {
                            x += f64::from(
                                m.data[b * m.strides[0] + h * m.strides[1] + i * m.strides[2] + j],
                            );
                        }
                        let hidden = s.causal_offset.is_some_and(|o| j as isize > i as isize + o);
                        if hidden { f64::NEG_INFINITY } else { x }
                    };
                    let scores: Vec<f64> = (0..s.keys).map(score).collect();
                    let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                    let e: Vec<f64> = scores.iter().map(|x| (x - max).exp()).collect();
                    let sum: f64 = e.iter().sum();
                    for d in 0..s.value_size {
                        let value = |j: usize| f64::from(v[(kh * s.keys + j) * s.value_size + d]);
                        out.push((0..s.keys).map(|j| e[j] / sum * value(j)).sum::<f64>() as f32);
                    }
                }
            }
        }
        out
    }

    #[test]
    fn random_shapes_match_the_reference() {
        let mut random = Random::new(71);
        let pool = Pool::new(2);
        for simd in Simd::available() {
            for round in 0..crate::kernel::testing::rounds(40) {
                let key_heads = 1 + random.below(3);
                let (queries, keys) = (1 + random.below(70), 1 + random.below(70));
                let s = AttentionShape {
                    batch: 1 + random.below(2),
                    heads: key_heads * (1 + random.below(3)),
                    key_heads,
                    queries,
                    keys,
                    size: 1 + random.below(40),
                    value_size: if round % 2 == 0 { 32 } else { 1 + random.below(40) },
                    scale: 0.3,
                    causal_offset: (random.below(2) == 0).then_some(random.below(keys) as isize),
                    soft_cap: (random.below(3) == 0).then_some(2.0),
                };
                let q = random.floats(s.batch * s.heads * queries * s.size);
                let k = random.floats(s.batch * key_heads * keys * s.size);
                let v = random.floats(s.batch * key_heads * keys * s.value_size);
                let table = random.floats(s.batch * queries * keys);
                let mask = match random.below(3) {
                    0 => None,
                    1 => Some(Mask { data: &table, strides: [queries * keys, 0, keys] }),
                    _ => Some(Mask { data: &table, strides: [keys, 0, 0] }),
                };
                let strides =
                    |heads: usize, n: usize, size: usize| [heads * n * size, n * size, size];
                let attention = Attention::new(simd, 2, s);
                let mut out = vec![f32::NAN; s.batch * s.heads * queries * s.value_size];
                let mut scratch = vec![f32::NAN; attention.scratch_len()];
                let operands = (
                    Heads { data: &q, strides: strides(s.heads, queries, s.size) },
                    Heads { data: &k, strides: strides(key_heads, keys, s.size) },
                    Heads { data: &v, strides: strides(key_heads, keys, s.value_size) },
                );
                let out_strides = strides(s.heads, queries, s.value_size);
                attention.run(operands, mask, (&mut out, out_strides), &mut scratch, &pool);
                assert_close(
                    &out,
                    &reference(&s, &q, &k, &v, mask),
                    2e-5,
                    &format!("{simd:?} {s:?}"),
                );
            }
        }
    }

    #[test]
    fn heads_may_lie_beside_each_other() {
        // [position, head, element], as projections write it.
        let mut random = Random::new(72);
        let (heads, n, size) = (3, 20, 16);
        let x: [Vec<f32>; 3] = std::array::from_fn(|_| random.floats(heads * n * size));
        let by_head = |x: &[f32]| -> Vec<f32> {
            (0..heads * n * size)
                .map(|i| x[(i / size % n * heads + i / size / n) * size + i % size])
                .collect()
        };
        let s = AttentionShape {
            batch: 1,
            heads,
            key_heads: heads,
            queries: n,
            keys: n,
            size,
            value_size: size,
            scale: 0.25,
            causal_offset: None,
            soft_cap: None,
        };
        let strides = [0, size, heads * size];
        let attention = Attention::new(Simd::detect(), 1, s);
        let (mut out, mut scratch) =
            (vec![0.0; heads * n * size], vec![0.0; attention.scratch_len()]);
        let operand = |i: usize| Heads { data: &x[i], strides };
        let pool = Pool::new(1);
        attention.run(
            (operand(0), operand(1), operand(2)),
            None,
            (&mut out, strides),
            &mut scratch,
            &pool,
        );
        let want = reference(&s, &by_head(&x[0]), &by_head(&x[1]), &by_head(&x[2]), None);
        assert_close(&by_head(&out), &want, 1e-5, "heads beside each other");
    }
}
