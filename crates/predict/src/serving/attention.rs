//! Single calls of attention in the software of language models: a prompt at once, or one more position each.

use super::engine::{Engine, roofline};
use super::product::Regime;

/// One call: for each of `batch` sequences, `queries` new positions of `heads` heads against `keys` positions.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AttentionCall {
    /// Sequences.
    pub batch: f64,
    /// New positions of each; with one the keys come from the cache, with more they are the prompt itself.
    pub queries: f64,
    /// Positions that the last query sees.
    pub keys: f64,
    /// Heads of the queries.
    pub heads: f64,
    /// Heads of keys and values.
    pub key_heads: f64,
    /// Width of a head.
    pub depth: f64,
    /// Positions that a query sees at most.
    pub window: f64,
    /// Bytes of one kept element.
    pub cache_bytes: f64,
}

/// How many features a call has.
pub const ATTENTION_FEATURES: usize = 18;

/// Queries that share one pass over the keys in a prompt.
const QUERY_TILE: f64 = 128.0;

/// Keys that one unit takes of a long cache when several share a sequence.
const KEY_TILE: f64 = 256.0;

impl AttentionCall {
    /// Whether it works on a prompt.
    pub fn is_prefill(&self) -> bool {
        self.queries > 1.0
    }

    /// Multiply-accumulates: scores and sums, each query with the keys it sees.
    pub fn macs(&self) -> f64 {
        let Self { batch, queries, keys, heads, depth, window, .. } = *self;
        let first = (keys - queries + 1.0).max(1.0);
        // The sum of min(keys seen, window) over the queries.
        let growing = (window.min(keys) - first).clamp(0.0, queries);
        let seen = growing * (first + growing / 2.0) + (queries - growing) * window.min(keys);
        2.0 * batch * heads * depth * seen
    }

    /// Bytes that must be read and written.
    pub fn bytes(&self) -> f64 {
        let Self { batch, queries, keys, heads, key_heads, depth, window, cache_bytes } = *self;
        let kept = 2.0 * key_heads * (keys.min(window + queries)) * cache_bytes;
        batch * depth * (kept + 2.0 * 2.0 * heads * queries)
    }

    /// The logarithm of the roofline's seconds, what bounds it, and the features of what it leaves over.
    pub fn features(&self, engine: &Engine) -> (f64, Regime, Vec<f64>) {
        let Self { batch, queries, keys, heads, key_heads, depth, window, cache_bytes } = *self;
        let seen = keys.min(window);
        let bytes = self.bytes();
        let arithmetic = 2.0 * self.macs() / engine.peak;
        let start = engine.start(0.0);
        let tiles = if self.is_prefill() {
            batch * heads * (queries / QUERY_TILE).ceil()
        } else {
            batch * key_heads * (seen / KEY_TILE).ceil()
        };
        let traffic = bytes / engine.bandwidth;
        let drawn = bytes / engine.drawn(tiles);
        let seconds = roofline(arithmetic, drawn, start);
        let waves = tiles / engine.units;
        let unsplit = batch * key_heads / engine.units;
        let row = vec![
            batch.ln(),
            keys.ln(),
            heads.ln(),
            key_heads.ln(),
            (heads / key_heads).ln(),
            depth.ln(),
            (arithmetic / start).ln(),
            (traffic / start).ln(),
            (arithmetic / traffic).ln(),
            (drawn / start).ln(),
            waves.ln(),
            waves.ceil() / waves,
            unsplit.ln(),
            unsplit.ceil() / unsplit,
            (bytes / engine.cache).ln(),
            cache_bytes,
            if window < keys { window.ln() } else { 20.0 },
            engine.operations_per_clock().ln(),
        ];
        debug_assert_eq!(row.len(), ATTENTION_FEATURES);
        (seconds.ln(), Regime::of(arithmetic, traffic, start), row)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROMPT: AttentionCall = AttentionCall {
        batch: 2.0,
        queries: 1000.0,
        keys: 1000.0,
        heads: 32.0,
        key_heads: 8.0,
        depth: 128.0,
        window: f64::INFINITY,
        cache_bytes: 2.0,
    };

    #[test]
    fn a_prompt_sees_half_of_the_square() {
        let whole = 2.0 * 2.0 * 32.0 * 128.0 * 1000.0 * 1000.0;
        assert!((PROMPT.macs() / whole - 0.5).abs() < 0.002);
        let windowed = AttentionCall { window: 10.0, ..PROMPT };
        assert!((windowed.macs() / whole - 0.01).abs() < 0.0002);
    }

    #[test]
    fn one_more_position_reads_the_cache_once() {
        let decode = AttentionCall { queries: 1.0, ..PROMPT };
        assert_eq!(decode.macs(), 2.0 * 2.0 * 32.0 * 128.0 * 1000.0);
        let kept = 2.0 * 2.0 * 8.0 * 1000.0 * 128.0 * 2.0;
        assert_eq!(decode.bytes(), kept + 2.0 * 2.0 * 2.0 * 32.0 * 128.0);
        let windowed = AttentionCall { window: 99.0, ..decode };
        assert!(windowed.bytes() < 0.11 * decode.bytes());
    }

    #[test]
    fn features_are_as_many_as_said_and_finite() {
        let engine = Engine { peak: 3e14, bandwidth: 2e12, cache: 4e7, units: 108.0, clock: 1.4e9 };
        for call in [PROMPT, AttentionCall { queries: 1.0, ..PROMPT }] {
            let (roofline, _, row) = call.features(&engine);
            assert_eq!(row.len(), ATTENTION_FEATURES);
            assert!(roofline.is_finite() && row.iter().all(|v| v.is_finite()));
        }
    }
}
