//! One model on several chips of a kind: tensor parallelism inside a group, pipeline stages across groups.
//!
//! With tensor parallelism every chip keeps a share of each matrix and of the attention heads, and the chips add up their
//! results twice a layer (arXiv:1909.08053). With a pipeline each chip keeps some layers and hands the activations on. No
//! measured run of several chips went into any of this: whatever comes of it is marked unvalidated.

use anychip_chips::{Compute, LinkEnd};

use crate::serving::{Call, Work};

/// How many chips, and how they share the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Split {
    /// Chips that share each layer.
    pub(crate) tensor: u32,
    /// Groups of such chips, each with its own layers.
    pub(crate) stages: u32,
}

/// Chips that share a layer at most: as many as one machine connects directly.
const LARGEST_GROUP: u32 = 8;

/// The share of a link's rate that is counted with.
const LINK_SHARE: f64 = 0.8;

/// Seconds from the call of an exchange until it has begun on all chips: three kernels' starts, of the local sum, the
/// exchange and its end, at the 3 µs that the roofline counts for one.
const EXCHANGE_SECONDS: f64 = 9e-6;

/// The factor that an exchange may take more or less, since none was measured.
pub(crate) const EXCHANGE_FACTOR: f64 = 2.0;

impl Split {
    /// `devices` chips: decoders are split inside their layers first, as far as attention heads divide evenly; anything
    /// else is cut between its layers only.
    pub(crate) fn of(devices: u32, calls: Option<&[Call]>) -> Self {
        let heads = calls.into_iter().flatten().find_map(|call| match call.work {
            Work::Attention(attention) => Some(attention.heads as u32),
            Work::Product { .. } | Work::Moving { .. } => None,
        });
        let tensor = heads.map_or(1, |heads| {
            (1..=LARGEST_GROUP.min(devices))
                .rev()
                .find(|t| devices.is_multiple_of(*t) && heads.is_multiple_of(*t))
                .unwrap_or(1)
        });
        Self { tensor, stages: devices / tensor }
    }

    /// Whether there is anything to split.
    pub(crate) fn is_one(self) -> bool {
        self.tensor == 1 && self.stages == 1
    }

    /// The share of `calls` that each chip of a group does.
    pub(crate) fn share(self, calls: &[Call]) -> Vec<Call> {
        let tensor = f64::from(self.tensor);
        let mut shared = calls.to_vec();
        for call in &mut shared {
            match &mut call.work {
                // By columns or by the dimension summed over, so that what lies between two products stays on its chip.
                Work::Product { n, k, .. } => {
                    let longer = if n >= k { n } else { k };
                    *longer = (*longer / tensor).max(1.0);
                }
                Work::Attention(attention) => {
                    attention.heads = (attention.heads / tensor).max(1.0);
                    // With fewer key heads than chips each is kept more than once.
                    attention.key_heads = (attention.key_heads / tensor).max(1.0);
                }
                Work::Moving { .. } => {}
            }
        }
        shared
    }

    /// Seconds that exchanges take in one run: two sums a layer inside groups, one hand-over between stages. `boundary` is
    /// the bytes that stages hand on.
    pub(crate) fn exchange(self, calls: Option<&[Call]>, boundary: f64, link: f64) -> f64 {
        let link = link * LINK_SHARE;
        let mut seconds = f64::from(self.stages - 1) * (boundary / link + EXCHANGE_SECONDS);
        if self.tensor > 1 {
            let tensor = f64::from(self.tensor);
            let layers: f64 = calls
                .into_iter()
                .flatten()
                .filter(|call| matches!(call.work, Work::Attention(_)))
                .map(|call| call.count)
                .sum();
            // Each chip sends and receives its part of everything twice: once to add up, once to spread.
            let sum = 2.0 * (tensor - 1.0) / tensor * boundary / link + EXCHANGE_SECONDS;
            seconds += 2.0 * layers * sum;
        }
        seconds
    }
}

/// The bytes of activations between two layers of a decoder, at `bytes` an element.
pub(crate) fn boundary(calls: &[Call], bytes: f64) -> f64 {
    // What every layer begins with: rows by the width that the first product contracts.
    calls
        .iter()
        .find_map(|call| match call.work {
            Work::Product { m, k, .. } => Some(m * k * bytes),
            Work::Attention(_) | Work::Moving { .. } => None,
        })
        .unwrap_or(0.0)
}

/// The rate at which chips of a kind exchange, one direction, and the link's name: their own link, else the host's.
pub(crate) fn link(compute: &Compute) -> Option<(f64, String)> {
    let to = |end: LinkEnd| {
        compute
            .links
            .iter()
            .filter(|l| l.to == end)
            .find_map(|l| l.bytes_per_second.as_ref().map(|rate| (rate.value, l.name.clone())))
    };
    to(LinkEnd::Chips).or_else(|| {
        to(LinkEnd::Host).map(|(rate, name)| (rate, format!("{name} through the host")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serving::AttentionCall;

    fn calls() -> Vec<Call> {
        let product =
            |n, k| Call { work: Work::Product { m: 4.0, n, k, quantized: true }, count: 2.0 };
        let attention = AttentionCall {
            batch: 4.0,
            queries: 1.0,
            keys: 100.0,
            heads: 12.0,
            key_heads: 2.0,
            depth: 64.0,
            window: f64::INFINITY,
            cache_bytes: 2.0,
        };
        vec![
            product(1024.0, 768.0),
            Call { work: Work::Attention(attention), count: 2.0 },
            product(768.0, 768.0),
        ]
    }

    #[test]
    fn groups_divide_heads_and_stages_take_the_rest() {
        let calls = calls();
        let split = |n| Split::of(n, Some(&calls));
        assert_eq!(split(4), Split { tensor: 4, stages: 1 });
        assert_eq!(split(8), Split { tensor: 4, stages: 2 }, "12 heads do not divide by 8");
        assert_eq!(split(5), Split { tensor: 1, stages: 5 });
        assert_eq!(Split::of(4, None), Split { tensor: 1, stages: 4 });
        assert!(split(1).is_one());
    }

    #[test]
    fn each_chip_does_its_share_and_exchanges_twice_a_layer() {
        let calls = calls();
        let split = Split { tensor: 4, stages: 1 };
        let shared = split.share(&calls);
        let size = |call: &Call| match call.work {
            Work::Product { n, k, .. } => n * k,
            Work::Attention(a) => a.heads * a.key_heads,
            Work::Moving { .. } => 0.0,
        };
        assert_eq!(size(&shared[0]), size(&calls[0]) / 4.0);
        assert_eq!(size(&shared[1]), 3.0, "two key heads on four chips: one each");
        assert_eq!(size(&shared[2]), size(&calls[2]) / 4.0);
        let bytes = boundary(&calls, 2.0);
        assert_eq!(bytes, 4.0 * 768.0 * 2.0);
        let seconds = split.exchange(Some(&calls), bytes, 1e9);
        let expected = 4.0 * (1.5 * bytes / 0.8e9 + EXCHANGE_SECONDS);
        assert!((seconds - expected).abs() < 1e-12);
        let staged = Split { tensor: 1, stages: 3 }.exchange(None, bytes, 1e9);
        assert!((staged - 2.0 * (bytes / 0.8e9 + EXCHANGE_SECONDS)).abs() < 1e-12);
        assert_eq!(Split { tensor: 1, stages: 1 }.exchange(Some(&calls), bytes, 1e9), 0.0);
    }
}
