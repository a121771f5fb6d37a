//! Where each temporary of a plan lives in the one arena.
//!
//! Greedy by size: the largest buffer first, each at the lowest address that is free during its lifetime
//! (Pisarchyk and Lee, arXiv:2001.03288, "greedy by size for offset calculation").

use crate::buffer::ALIGNMENT;

/// A temporary: its size and the steps between which it must be kept, both inclusive.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Temporary {
    pub(crate) bytes: usize,
    pub(crate) first: usize,
    pub(crate) last: usize,
}

/// The offset of each temporary, and the bytes of the arena; `None` when they do not fit a `usize`.
pub(crate) fn place(temporaries: &[Temporary]) -> Option<(Vec<usize>, usize)> {
    let mut order: Vec<usize> =
        (0..temporaries.len()).filter(|&i| temporaries[i].bytes > 0).collect();
    order.sort_by_key(|&i| (std::cmp::Reverse(temporaries[i].bytes), i));
    let mut offsets = vec![0; temporaries.len()];
    // Those placed, by offset.
    let mut placed: Vec<(usize, usize, usize)> = Vec::new();
    let mut total = 0usize;
    for i in order {
        let Temporary { bytes, first, last } = temporaries[i];
        let bytes = bytes.checked_next_multiple_of(ALIGNMENT)?;
        let mut offset = 0usize;
        for &(start, end, other) in &placed {
            if start >= offset.checked_add(bytes)? {
                break;
            }
            if temporaries[other].first <= last && first <= temporaries[other].last {
                offset = offset.max(end);
            }
        }
        let end = offset.checked_add(bytes)?;
        let position = placed.partition_point(|&(start, ..)| start <= offset);
        placed.insert(position, (offset, end, i));
        offsets[i] = offset;
        total = total.max(end);
    }
    Some((offsets, total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn temporaries_that_live_at_once_do_not_overlap() {
        let mut state = 12345u64;
        let mut random = |n: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) as usize % n
        };
        for _ in 0..50 {
            let temporaries: Vec<Temporary> = (0..40)
                .map(|_| {
                    let first = random(30);
                    Temporary { bytes: random(1000), first, last: first + random(6) }
                })
                .collect();
            let (offsets, total) = place(&temporaries).expect("small");
            for (i, a) in temporaries.iter().enumerate() {
                assert!(offsets[i] + a.bytes <= total && offsets[i] % ALIGNMENT == 0);
                for (j, b) in temporaries.iter().enumerate().take(i) {
                    let together = a.first <= b.last && b.first <= a.last;
                    let apart =
                        offsets[i] + a.bytes <= offsets[j] || offsets[j] + b.bytes <= offsets[i];
                    assert!(!together || apart, "{a:?} {b:?}");
                }
            }
        }
    }

    #[test]
    fn a_chain_needs_room_for_two() {
        let chain: Vec<Temporary> =
            (0..10).map(|i| Temporary { bytes: 640, first: i, last: i + 1 }).collect();
        assert_eq!(place(&chain).expect("small").1, 1280);
    }

    #[test]
    fn absurd_sizes_are_refused() {
        let huge = Temporary { bytes: usize::MAX - 3, first: 0, last: 1 };
        assert!(place(&[huge, huge]).is_none());
    }
}
