//! What the kernels' tests share: seeded random data and comparison with a message.

/// A small generator (`SplitMix64`, Steele, Lea and Flood 2014), so that a failing test prints a seed and repeats.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        println!("seed {seed:#x}");
        Self(seed)
    }
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
    /// Uniform in `0..n`; in Miri in `0..6` at the most, because most of what is drawn is a size.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        let n = if cfg!(miri) { n.min(6) } else { n };
        (self.next() % n as u64) as usize
    }
    /// Uniform in −1..1.
    pub(crate) fn float(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }
    pub(crate) fn floats(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.float()).collect()
    }
}

/// How often a test draws: `n` times, or twice in Miri, which interprets some hundred times slower.
pub(crate) fn rounds(n: usize) -> usize {
    if cfg!(miri) { n.min(2) } else { n }
}

/// Element by element, relative to the larger of 1 and the wanted magnitude.
pub(crate) fn assert_close(got: &[f32], want: &[f32], tolerance: f32, what: &str) {
    assert_eq!(got.len(), want.len(), "{what}: length");
    for (i, (g, w)) in got.iter().zip(want).enumerate() {
        let close =
            (g - w).abs() <= tolerance * w.abs().max(1.0) || (g.is_nan() && w.is_nan()) || g == w;
        assert!(close, "{what}: element {i} is {g}, expected {w}");
    }
}
