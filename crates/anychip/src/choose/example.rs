//! Records made by hand for the tests of a choice.

use anychip_record::{Key, Record};
use anychip_units::Figure;

/// A record under construction: figures as value, low, high; what is not given is not known.
pub(super) struct Example(Record);

impl Example {
    pub(super) fn new(chip: &str) -> Self {
        Self(Record::new(Key {
            model: "m".into(),
            model_sha256: "0".into(),
            chip: chip.into(),
            stack: "s".into(),
            target: None,
            batch: 1,
            dtype: "f16".into(),
        }))
    }

    pub(super) fn batch(mut self, batch: u64) -> Self {
        self.0.batch = batch;
        self
    }

    pub(super) fn dtype(mut self, dtype: &str) -> Self {
        self.0.dtype = dtype.into();
        self
    }

    pub(super) fn latency(mut self, value: f64, low: f64, high: f64) -> Self {
        self.0.latency_s = Some(Figure::estimated(value, low, high, "example").expect("sound"));
        self
    }

    /// Sets the throughput that follows from latency and batch.
    pub(super) fn streaming(mut self) -> Self {
        let latency = self.0.latency_s.clone().expect("set before");
        self.0.set_latency(latency).expect("sound");
        self
    }

    pub(super) fn power(mut self, value: f64, low: f64, high: f64) -> Self {
        self.0.power_w = Some(Figure::estimated(value, low, high, "example").expect("sound"));
        self
    }

    pub(super) fn price(self, value: f64) -> Self {
        self.prices(value, value, value)
    }

    pub(super) fn prices(mut self, value: f64, low: f64, high: f64) -> Self {
        self.0.price_usd = Some(Figure::estimated(value, low, high, "example").expect("sound"));
        self
    }

    pub(super) fn per_dollar(mut self, value: f64, low: f64, high: f64) -> Self {
        self.0.throughput_per_usd =
            Some(Figure::estimated(value, low, high, "example").expect("sound"));
        self
    }

    /// Board and silicon, mm².
    pub(super) fn size(mut self, board: Option<f64>, die: Option<f64>) -> Self {
        let figure = |value| Figure::stated(value, "example").expect("sound");
        (self.0.board_mm2, self.0.die_mm2) = (board.map(figure), die.map(figure));
        self
    }

    pub(super) fn record(self) -> Record {
        self.0
    }
}

/// Records with random intervals, some figures not known.
pub(super) fn random_records(seed: u64, count: usize) -> Vec<Record> {
    // A linear congruential generator (Knuth's MMIX constants).
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    let mut uniform = move || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 11) as f64 / (1u64 << 53) as f64
    };
    (0..count)
        .map(|index| {
            let mut interval = || {
                let value = 1.0 + 9.0 * uniform();
                let width = 1.0 + uniform();
                (value, value / width, value * width)
            };
            let (latency, power, price) = (interval(), interval(), interval());
            let mut one = Example::new(&format!("c{index}"))
                .latency(latency.0, latency.1, latency.2)
                .power(power.0, power.1, power.2);
            if uniform() < 0.7 {
                one = one.prices(price.0, price.1, price.2);
            }
            one.record()
        })
        .collect()
}
