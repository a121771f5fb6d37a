//! How often a value takes which numbers: what ranges are chosen from, in place of the numbers themselves.

/// Bins on either side of zero.
const HALF: usize = 4096;

/// Counts in bins of equal width, a power of two that doubles when a larger number comes. Exact zeros are counted apart,
/// for every grid holds them.
#[derive(Debug, Clone)]
pub struct Histogram {
    low: f32,
    high: f32,
    width: f32,
    counts: Vec<u64>,
    zeros: u64,
}

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram {
            low: f32::INFINITY,
            high: f32::NEG_INFINITY,
            width: 0.0,
            counts: vec![0; 2 * HALF],
            zeros: 0,
        }
    }
}

impl Histogram {
    /// Counts more numbers; `false`, and nothing counted, where one is NaN or infinite.
    #[must_use]
    pub fn add(&mut self, values: &[f32]) -> bool {
        let (mut low, mut high, mut sound) = (f32::INFINITY, f32::NEG_INFINITY, true);
        for &v in values {
            low = low.min(v);
            high = high.max(v);
            sound &= v.is_finite();
        }
        if !sound {
            return false;
        }
        if values.is_empty() {
            return true;
        }
        (self.low, self.high) = (self.low.min(low), self.high.max(high));
        self.widen(low.abs().max(high.abs()));
        let inverse = self.width.recip();
        for &v in values {
            if v == 0.0 {
                self.zeros += 1;
            } else {
                // Above zero, so that the cast rounds down.
                let bin = (v * inverse + HALF as f32) as usize;
                self.counts[bin.min(2 * HALF - 1)] += 1;
            }
        }
        true
    }

    /// Makes the bins reach `most`.
    fn widen(&mut self, most: f32) {
        if self.width == 0.0 {
            if most == 0.0 {
                self.width = f32::MIN_POSITIVE;
                return;
            }
            let exponent = (most / HALF as f32).log2().ceil().clamp(-100.0, 120.0);
            self.width = exponent.exp2();
        }
        while most > self.width * HALF as f32 && self.width < f32::MAX / 4.0 {
            let mut merged = vec![0; 2 * HALF];
            for (bin, &count) in self.counts.iter().enumerate() {
                merged[usize::midpoint(bin, HALF)] += count;
            }
            self.counts = merged;
            self.width *= 2.0;
        }
    }

    /// Whether nothing was counted.
    pub fn is_empty(&self) -> bool {
        self.low > self.high
    }

    /// The least and the largest number; both 0 where nothing was counted.
    pub fn limits(&self) -> (f64, f64) {
        if self.is_empty() { (0.0, 0.0) } else { (f64::from(self.low), f64::from(self.high)) }
    }

    /// How many numbers that are not 0.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// How many exact zeros.
    pub fn zeros(&self) -> u64 {
        self.zeros
    }

    /// The middle of each bin that is not empty, with its count; ascending.
    pub fn bins(&self) -> impl DoubleEndedIterator<Item = (f64, u64)> + '_ {
        let width = f64::from(self.width);
        self.counts.iter().enumerate().filter(|(_, count)| **count > 0).map(move |(bin, &count)| {
            let middle = (bin as f64 - HALF as f64 + 0.5) * width;
            (middle.clamp(f64::from(self.low), f64::from(self.high)), count)
        })
    }

    /// Takes the counts of another histogram in.
    pub fn merge(&mut self, other: &Histogram) {
        if other.is_empty() {
            return;
        }
        let most = other.low.abs().max(other.high.abs());
        (self.low, self.high) = (self.low.min(other.low), self.high.max(other.high));
        self.widen(most);
        let inverse = f64::from(self.width).recip();
        for (middle, count) in other.bins() {
            let bin = (middle * inverse).floor() as i64 + HALF as i64;
            self.counts[bin.clamp(0, 2 * HALF as i64 - 1) as usize] += count;
        }
        self.zeros += other.zeros;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bins_widen_and_keep_their_counts() {
        let mut histogram = Histogram::default();
        assert!(histogram.add(&[0.0, 0.1, -0.1]));
        assert!(histogram.add(&[100.0, -3.0]));
        assert_eq!((histogram.count(), histogram.zeros()), (4, 1));
        assert_eq!(histogram.limits(), (-3.0, 100.0));
        let total: u64 = histogram.bins().map(|(_, count)| count).sum();
        assert_eq!(total, 4);
        let largest = histogram.bins().last().unwrap().0;
        assert!((largest - 100.0).abs() < 0.1, "{largest}");
    }

    #[test]
    fn a_nan_is_refused() {
        let mut histogram = Histogram::default();
        assert!(!histogram.add(&[1.0, f32::NAN]));
        assert!(!histogram.add(&[f32::INFINITY]));
        assert!(histogram.is_empty());
    }
}
