//! Setters that keep the figures of a record consistent: what follows from others is computed here, once.

use anychip_units::{
    Figure, FigureError, OperationsPerSecond, PerSecond, PerUsDollar, Seconds, UsDollars,
    UsDollarsPerHour, Watts,
};

use crate::{Field, Percentiles, Record};

/// The terms on which a bought chip is paid for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ownership {
    /// Years of use.
    pub years: f64,
    /// Share of the time it works.
    pub duty: f64,
    /// Tariff of energy.
    pub usd_per_kwh: f64,
}

impl Default for Ownership {
    /// Three years, always busy, 0.15 $/kWh: stated with every figure made from it.
    fn default() -> Self {
        Self { years: 3.0, duty: 1.0, usd_per_kwh: 0.15 }
    }
}

impl std::fmt::Display for Ownership {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { years, duty, usd_per_kwh } = self;
        write!(out, "bought: {years} years, {:.0} % busy, {usd_per_kwh} $/kWh", duty * 100.0)
    }
}

impl Record {
    /// Drops the absences of figures that have become known. The setters do; code that assigns a field does it after.
    pub fn settle(&mut self) {
        let known = |field: &&Field| self.view(**field).is_some();
        let known: Vec<Field> = Field::ALL.iter().filter(known).copied().collect();
        for field in known {
            self.absent.remove(field.name());
        }
    }

    /// Sets the latency of one run, and the throughput that follows when runs come one after another.
    pub fn set_latency(&mut self, latency: Figure<Seconds>) -> Result<(), FigureError> {
        self.set_throughput(latency.rate(self.batch as f64)?);
        self.latency_s = Some(latency);
        self.settle();
        Ok(())
    }

    /// Sets the throughput in inferences a second, where it was found by itself (several runs at once).
    pub fn set_throughput(&mut self, throughput: Figure<PerSecond>) {
        self.throughput_per_s = Some(throughput);
        self.settle();
    }

    /// Sets median, p90 and p99 from many runs, and the latency to the median.
    pub fn set_percentiles(&mut self, found: Percentiles) -> Result<(), FigureError> {
        let Percentiles { p50, p90, p99, runs } = found;
        self.set_latency(p50.clone())?;
        self.latency_p50_s = Some(p50);
        self.latency_p90_s = p90;
        self.latency_p99_s = p99;
        self.settle();
        let too_few = format!("{runs} runs are too few to bound it");
        self.mark_absent([Field::LatencyP90, Field::LatencyP99], too_few);
        Ok(())
    }

    /// Sets the achieved rates from the operations of one inference; throughput must be set before.
    pub fn set_work(
        &mut self,
        float_operations: f64,
        integer_operations: f64,
    ) -> Result<(), FigureError> {
        let Some(throughput) = self.throughput_per_s.clone() else {
            self.mark_absent([Field::Flops, Field::Tops], "no throughput to make a rate from");
            return Ok(());
        };
        if float_operations > 0.0 {
            self.flops = Some(throughput.convert(float_operations)?);
        } else {
            self.mark_absent([Field::Flops], "the model does no floating-point arithmetic here");
        }
        if integer_operations > 0.0 {
            self.tops = Some(throughput.convert(integer_operations * 1e-12)?);
        } else {
            self.mark_absent([Field::Tops], "the model does no integer arithmetic here");
        }
        self.settle();
        Ok(())
    }

    /// Sets the share of `peak` that the arithmetic of the record's number format reaches; rates must be set before.
    pub fn set_utilization(
        &mut self,
        peak: &Figure<OperationsPerSecond>,
    ) -> Result<(), FigureError> {
        let achieved = if self.dtype.starts_with("int") || self.dtype.starts_with("uint") {
            self.tops.as_ref().map(|tops| tops.convert::<OperationsPerSecond>(1e12))
        } else {
            self.flops.as_ref().map(|flops| flops.convert(1.0))
        };
        if let Some(achieved) = achieved.transpose()? {
            self.utilization = Some(achieved.ratio(peak)?);
            self.settle();
        } else {
            let reason = format!("no {} arithmetic rate to compare with the peak", self.dtype);
            self.mark_absent([Field::Utilization], reason);
        }
        Ok(())
    }

    /// Sets the power while running, and the energy of one inference: power over throughput.
    pub fn set_power(&mut self, power: Figure<Watts>) -> Result<(), FigureError> {
        match &self.throughput_per_s {
            Some(throughput) => {
                self.energy_j = Some(power.per(throughput)?);
            }
            None => self.mark_absent([Field::Energy], "no throughput to make an energy from"),
        }
        self.power_w = Some(power);
        self.settle();
        Ok(())
    }

    /// Sets the prices that are known, and inferences per dollar: rented where there is a rent, else bought. Throughput,
    /// and power if the chip is bought, must be set before.
    pub fn set_cost(
        &mut self,
        price: Option<Figure<UsDollars>>,
        rent: Option<Figure<UsDollarsPerHour>>,
        terms: &Ownership,
    ) -> Result<(), FigureError> {
        self.throughput_per_usd = None;
        let hourly = match (&rent, &price) {
            (Some(rent), _) => Ok(rent.clone().noting("rented")),
            (None, Some(price)) => match &self.power_w {
                Some(power) => Ok(owned_hour(price, power, terms)?),
                None => Err("bought, and no power to make its running cost from"),
            },
            (None, None) => Err("neither price nor rent in the catalog"),
        };
        match (hourly, &self.throughput_per_s) {
            (Ok(hourly), Some(throughput)) => {
                let per_dollar: Figure<PerUsDollar> = throughput.per(&hourly)?;
                self.throughput_per_usd = Some(per_dollar);
            }
            (Ok(_), None) => self.mark_absent([Field::ThroughputPerUsd], "no throughput"),
            (Err(reason), _) => self.mark_absent([Field::ThroughputPerUsd], reason),
        }
        self.price_usd = price;
        self.price_usd_per_hour = rent;
        self.settle();
        self.mark_absent([Field::Price], "no price in the catalog");
        self.mark_absent([Field::PricePerHour], "no rent in the catalog");
        Ok(())
    }
}

/// What an hour of a bought chip's work costs: its share of the price, and the energy.
fn owned_hour(
    price: &Figure<UsDollars>,
    power: &Figure<Watts>,
    terms: &Ownership,
) -> Result<Figure<UsDollarsPerHour>, FigureError> {
    const HOURS_A_YEAR: f64 = 8760.0;
    let hours = terms.years * HOURS_A_YEAR * terms.duty;
    let capital: Figure<UsDollarsPerHour> = price.convert(1.0 / hours)?;
    let energy: Figure<UsDollarsPerHour> = power.convert(terms.usd_per_kwh / 1000.0)?;
    Ok(capital.plus(&energy)?.noting(&terms.to_string()))
}

#[cfg(test)]
mod tests {
    use anychip_units::Basis;

    use super::*;
    use crate::Key;

    fn record(batch: u64, dtype: &str) -> Record {
        Record::new(Key {
            model: "m".into(),
            model_sha256: "0".into(),
            chip: "c".into(),
            stack: "s".into(),
            target: None,
            batch,
            dtype: dtype.into(),
        })
    }

    #[test]
    fn throughput_energy_and_rates_count_inferences() {
        let mut record = record(8, "f32");
        record.set_latency(Figure::measured(0.004, "clock").unwrap()).unwrap();
        record.set_work(1e9, 0.0).unwrap();
        record.set_utilization(&Figure::measured(4e12, "loop").unwrap()).unwrap();
        record.set_power(Figure::estimated(100.0, 50.0, 150.0, "sheet").unwrap()).unwrap();
        assert_eq!(record.throughput_per_s.as_ref().unwrap().value(), 2000.0);
        assert_eq!(record.flops.as_ref().unwrap().value(), 2e12);
        let utilization = record.utilization.as_ref().unwrap();
        assert_eq!((utilization.value(), utilization.basis()), (0.5, Basis::Measured));
        let energy = record.energy_j.as_ref().unwrap();
        assert_eq!((energy.value(), energy.low(), energy.high()), (0.05, 0.025, 0.075));
        assert_eq!(energy.basis(), Basis::Estimated, "measured time, estimated power");
        assert_eq!(record.absent["tops"], "the model does no integer arithmetic here");
    }

    #[test]
    fn integer_models_are_held_against_the_integer_peak() {
        let mut record = record(1, "int8");
        record.set_latency(Figure::simulated(0.001, "cycles").unwrap()).unwrap();
        record.set_work(0.0, 2e9).unwrap();
        record.set_utilization(&Figure::stated(4e12, "sheet").unwrap()).unwrap();
        assert_eq!(record.tops.as_ref().unwrap().value(), 2.0);
        assert_eq!(record.utilization.as_ref().unwrap().value(), 0.5);
        assert_eq!(record.flops, None);
    }

    #[test]
    fn rent_comes_before_purchase() {
        let mut record = record(1, "f32");
        record.set_latency(Figure::measured(0.01, "clock").unwrap()).unwrap();
        record.set_power(Figure::stated(1000.0, "sheet").unwrap()).unwrap();
        let price = Figure::stated(26_280.0, "list").unwrap();
        let rent = Figure::stated(2.0, "cloud").unwrap();
        let terms = Ownership::default();
        record.set_cost(Some(price.clone()), Some(rent), &terms).unwrap();
        assert_eq!(record.throughput_per_usd.as_ref().unwrap().value(), 180_000.0);

        record.set_cost(Some(price.clone()), None, &terms).unwrap();
        let bought = record.throughput_per_usd.as_ref().unwrap();
        // 26,280 $ over 26,280 hours is 1 $/h; 1 kW at 0.15 $/kWh is 0.15 $/h.
        assert!((bought.value() / (360_000.0 / 1.15) - 1.0).abs() < 1e-12);
        assert!(bought.source().contains("3 years, 100 % busy, 0.15 $/kWh"), "{}", bought.source());
        assert_eq!(record.absent["price_usd_per_hour"], "no rent in the catalog");

        let mut unpowered = Record { power_w: None, throughput_per_usd: None, ..record };
        unpowered.set_cost(Some(price), None, &terms).unwrap();
        assert_eq!(unpowered.throughput_per_usd, None);
        assert!(unpowered.absent["throughput_per_usd"].contains("no power"));
    }

    #[test]
    fn what_becomes_known_is_no_longer_absent() {
        let mut record = record(1, "f32");
        record.mark_absent([Field::Latency, Field::Throughput], "not yet");
        assert_eq!(record.absent.len(), 2);
        record.set_latency(Figure::measured(0.01, "clock").unwrap()).unwrap();
        assert_eq!(record.absent.len(), 0);
        record.mark_absent([Field::Latency], "too late");
        assert_eq!(record.absent.len(), 0, "a figure that is there needs no reason");
    }

    #[test]
    fn without_throughput_nothing_is_invented() {
        let mut record = record(1, "f32");
        record.set_work(1e9, 0.0).unwrap();
        record.set_power(Figure::stated(10.0, "sheet").unwrap()).unwrap();
        record.set_utilization(&Figure::stated(1e12, "sheet").unwrap()).unwrap();
        record.set_cost(None, None, &Ownership::default()).unwrap();
        for field in [Field::Flops, Field::Energy, Field::Utilization, Field::ThroughputPerUsd] {
            assert_eq!(record.view(field), None);
            assert!(record.absent.contains_key(field.name()), "{field:?}");
        }
    }
}
