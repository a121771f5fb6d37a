//! Which chips are asked for, and in which order: [`Filter`] and [`Order`].

use std::{cmp::Ordering, ops::RangeInclusive};

use crate::{
    chip::{Body, Chip, Family},
    compute::{Memory, Peak, Precision},
    spec::Spec,
};

/// The precisions that tell chips apart best, the most telling first: what models are commonly run in.
pub const MOST_TELLING: [Precision; 4] =
    [Precision::F16, Precision::Bf16, Precision::Int8, Precision::F32];

/// What a chip must be to be listed. What is not set, or is empty, admits all.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Filter {
    /// Any of these families.
    pub families: Vec<Family>,
    /// A vendor whose name contains any of these, whatever the case.
    pub vendors: Vec<String>,
    /// At least so much main memory, bytes.
    pub min_memory: Option<f64>,
    /// At most so much power, W.
    pub max_power: Option<f64>,
    /// States a rate for this precision.
    pub precision: Option<Precision>,
    /// Came out in these years.
    pub years: Option<RangeInclusive<u16>>,
}

/// What a filter says of a chip.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is what was asked for.
    Fits,
    /// It is not.
    Fails,
    /// It would fit, but the catalog does not know this figure of it.
    Unknown(&'static str),
}

impl Filter {
    /// Whether the chip is what was asked for. One known to fail fails, whatever else is unknown of it.
    pub fn verdict(&self, chip: &Chip) -> Verdict {
        let family = self.families.is_empty() || self.families.contains(&chip.family);
        let vendor = chip.vendor.to_lowercase();
        let made = self.vendors.is_empty()
            || self.vendors.iter().any(|wanted| vendor.contains(&wanted.to_lowercase()));
        // A precision that is not stated is as a rule not there; it is no figure that may yet be found.
        let computes = self.precision.is_none_or(|precision| chip.computes(precision));
        if !family || !made || !computes {
            return Verdict::Fails;
        }
        let year = |years: &RangeInclusive<u16>| {
            chip.year.as_ref().map(|year| years.contains(&(year.value as u16)))
        };
        let memory = |least: f64| {
            chip.main_memory().and_then(|level| level.bytes.as_ref()).map(|b| b.value >= least)
        };
        let power = |most: f64| chip.power_w.as_ref().map(|power| power.value <= most);
        let limits = [
            ("memory", self.min_memory.map(memory)),
            ("power", self.max_power.map(power)),
            ("year", self.years.as_ref().map(year)),
        ];
        let mut verdict = Verdict::Fits;
        for (name, limit) in limits {
            match limit {
                Some(Some(false)) => return Verdict::Fails,
                Some(None) if verdict == Verdict::Fits => verdict = Verdict::Unknown(name),
                Some(_) | None => {}
            }
        }
        verdict
    }
}

/// What to sort chips by. Each way has its usual direction; what is unknown comes last in either.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// The newest first.
    Year,
    /// The least power first.
    Power,
    /// The largest main memory first.
    Memory,
    /// The fastest main memory first.
    Bandwidth,
    /// The highest dense rate first.
    Peak,
    /// The cheapest to buy first.
    Price,
    /// By name.
    Name,
}

impl Order {
    /// Sorts chips; `precision` is the one whose peaks are compared, the most telling one of each chip when absent.
    pub fn sort(self, chips: &mut [&Chip], precision: Option<Precision>, reverse: bool) {
        let value = |chip: &Chip| match self {
            Self::Year => number(chip.year.as_ref()),
            Self::Power => number(chip.power_w.as_ref()),
            Self::Memory => number(chip.main_memory()?.bytes.as_ref()),
            Self::Bandwidth => number(chip.main_memory()?.bytes_per_second.as_ref()),
            Self::Peak => chip.telling_rate(precision).map(|(_, rate)| rate),
            Self::Price => number(chip.price_usd.first()),
            Self::Name => None,
        };
        let falling = matches!(self, Self::Year | Self::Memory | Self::Bandwidth | Self::Peak);
        chips.sort_by(|a, b| {
            let by_name = || a.name.to_lowercase().cmp(&b.name.to_lowercase());
            if self == Self::Name {
                return if reverse { by_name().reverse() } else { by_name() };
            }
            match (value(a), value(b)) {
                (Some(a), Some(b)) => {
                    let order = a.total_cmp(&b);
                    if falling == reverse { order } else { order.reverse() }
                }
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (None, None) => Ordering::Equal,
            }
            .then_with(by_name)
        });
    }
}

fn number<U: anychip_units::Unit>(spec: Option<&Spec<U>>) -> Option<f64> {
    spec.map(|spec| spec.value)
}

impl Chip {
    fn peak(&self, precision: Precision) -> Option<&Peak> {
        match &self.body {
            Body::Compute(body) => body.peaks.get(&precision),
            Body::Fabric(body) => body.peaks.get(&precision),
            Body::Spiking(_) | Body::Quantum(_) => None,
        }
    }

    /// Whether any rate is stated for a precision, the sparse one included.
    pub fn computes(&self, precision: Precision) -> bool {
        self.peak(precision).is_some()
    }

    /// The rate for a precision on dense operands: the best unit's, else the vector units'.
    pub fn rate(&self, precision: Precision) -> Option<f64> {
        let Peak { dense, vector, .. } = self.peak(precision)?;
        Some(dense.as_ref().or(vector.as_ref())?.value)
    }

    /// The rate that tells most of the chip, and its precision: of `precision` where one is given.
    pub fn telling_rate(&self, precision: Option<Precision>) -> Option<(Precision, f64)> {
        match precision {
            Some(precision) => Some((precision, self.rate(precision)?)),
            None => MOST_TELLING.into_iter().find_map(|one| Some((one, self.rate(one)?))),
        }
    }

    /// The level where weights live: the last one, if any is known.
    pub fn main_memory(&self) -> Option<&Memory> {
        match &self.body {
            Body::Compute(body) => body.main_memory(),
            Body::Fabric(body) => body.memory.last(),
            Body::Spiking(_) | Body::Quantum(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Catalog;

    fn all() -> Catalog {
        Catalog::builtin().unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn a_filter_admits_what_was_asked_for_and_nothing_else() {
        let catalog = all();
        let filter = Filter {
            families: vec![Family::Gpu, Family::Asic],
            vendors: vec!["nvidia".to_owned(), "HAILO".to_owned()],
            min_memory: Some(40e9),
            max_power: Some(300.0),
            precision: Some(Precision::Int8),
            years: Some(2020..=2099),
        };
        let mut fits = 0;
        for chip in catalog.chips() {
            if filter.verdict(chip) != Verdict::Fits {
                continue;
            }
            fits += 1;
            assert!(matches!(chip.family, Family::Gpu | Family::Asic), "{}", chip.id);
            assert!(matches!(chip.vendor.as_str(), "NVIDIA" | "Hailo"), "{}", chip.id);
            assert!(
                chip.main_memory().unwrap().bytes.as_ref().unwrap().value >= 40e9,
                "{}",
                chip.id
            );
            assert!(chip.power_w.as_ref().unwrap().value <= 300.0, "{}", chip.id);
            assert!(chip.computes(Precision::Int8), "{}", chip.id);
            assert!(chip.year.as_ref().unwrap().value >= 2020.0, "{}", chip.id);
        }
        assert!(fits >= 5, "{fits}");
        let everything = Filter::default();
        assert!(catalog.chips().all(|chip| everything.verdict(chip) == Verdict::Fits));
    }

    #[test]
    fn what_is_unknown_is_told_apart_from_what_fails() {
        let mut chip = all().find("nvidia-t4").unwrap().clone();
        let filter = Filter { max_power: Some(75.0), min_memory: Some(8e9), ..Filter::default() };
        assert_eq!(filter.verdict(&chip), Verdict::Fits);
        chip.power_w = None;
        assert_eq!(filter.verdict(&chip), Verdict::Unknown("power"));
        let larger = Filter { min_memory: Some(80e9), ..filter };
        assert_eq!(larger.verdict(&chip), Verdict::Fails, "16 GB are known to be too few");
    }

    #[test]
    fn every_order_puts_the_unknown_last() {
        let catalog = all();
        for reverse in [false, true] {
            let mut chips: Vec<&Chip> = catalog.chips().collect();
            Order::Power.sort(&mut chips, None, reverse);
            let power: Vec<Option<f64>> =
                chips.iter().map(|chip| number(chip.power_w.as_ref())).collect();
            let known = power.iter().take_while(|value| value.is_some()).count();
            assert!(power[known..].iter().all(Option::is_none));
            let rising = power[..known].windows(2).all(|pair| pair[0] <= pair[1]);
            let falling = power[..known].windows(2).all(|pair| pair[0] >= pair[1]);
            assert!(if reverse { falling } else { rising });
            assert!(known > 100 && known < chips.len(), "{known}");
        }
        let mut chips: Vec<&Chip> = catalog.chips().collect();
        Order::Peak.sort(&mut chips, Some(Precision::Int8), false);
        let peaks: Vec<f64> = chips.iter().map_while(|chip| chip.rate(Precision::Int8)).collect();
        assert!(peaks.windows(2).all(|pair| pair[0] >= pair[1]));
        Order::Name.sort(&mut chips, None, false);
        assert!(chips.windows(2).all(|p| p[0].name.to_lowercase() <= p[1].name.to_lowercase()));
    }
}
