//! The checker: no number without a source, no contradiction within a chip.

use std::collections::BTreeMap;

use anychip_units::{Count, Hertz};

use crate::{
    chip::{Body, Chip, Family},
    compute::{Compute, Memory, Peak, Precision},
    error::Problem,
    spec::{Figures, Spec},
};

/// A stated peak may differ this much from units × lanes × clock × 2: vendors round clocks and peaks.
const TOLERANCE: f64 = 0.03;

/// The largest die that one exposure makes, 26 × 33 mm (the field of 193 nm immersion and 0.33 EUV scanners). What is
/// larger is of several dies, or a wafer.
const RETICLE_MM2: f64 = 26.0 * 33.0;

/// A unit for the first can do the second no slower, by widening its operands.
const NARROWER_IS_NO_SLOWER: [(Precision, Precision); 11] = [
    (Precision::F64, Precision::F32),
    (Precision::F32, Precision::Tf32),
    (Precision::F32, Precision::F16),
    (Precision::F32, Precision::Bf16),
    (Precision::Tf32, Precision::F16),
    (Precision::Tf32, Precision::Bf16),
    (Precision::F16, Precision::Fp8),
    (Precision::Bf16, Precision::Fp8),
    (Precision::Fp8, Precision::Fp4),
    (Precision::Int16, Precision::Int8),
    (Precision::Int8, Precision::Int4),
];

impl Chip {
    /// Everything wrong with the chip; empty when it may be used. The loader calls it on every file; code that makes
    /// a chip at run time may.
    pub fn problems(&self) -> Vec<Problem> {
        let mut found = Found::default();
        self.head(&mut found);
        self.figures(&mut found);
        match &self.body {
            Body::Compute(body) => compute(body, &mut found),
            Body::Fabric(body) => {
                peaks(&body.peaks, None, None, &mut found);
                memory("fabric", &body.memory, &mut found);
            }
            Body::Spiking(_) | Body::Quantum(_) => {}
        }
        self.systolic(&mut found);
        found.problems
    }

    fn head(&self, found: &mut Found) {
        let kebab = |text: &str| {
            !text.is_empty()
                && text.split('-').all(|word| {
                    !word.is_empty()
                        && word
                            .chars()
                            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '.')
                })
        };
        for name in std::iter::once(&self.id).chain(&self.aliases) {
            found.unless(kebab(name), "id", || {
                format!("`{name}` is not lower-case words and digits joined by `-`")
            });
        }
        for (path, text) in [("name", &self.name), ("vendor", &self.vendor)] {
            found.unless(!text.trim().is_empty(), path, || "is empty".to_owned());
        }
        found.unless(!self.stacks.is_empty(), "stacks", || {
            "names no software stack: a prediction is of a chip with one".to_owned()
        });
        let fits = matches!(
            (self.family, &self.body),
            (Family::Fpga, Body::Fabric(_))
                | (Family::Neuromorphic, Body::Spiking(_))
                | (Family::Quantum, Body::Quantum(_))
                | (
                    Family::Cpu
                        | Family::Gpu
                        | Family::Tpu
                        | Family::Asic
                        | Family::Soc
                        | Family::WaferScale,
                    Body::Compute(_)
                )
        );
        found.unless(fits, "family", || format!("a {} has another body than this", self.family));
        if let Some(year) = &self.year {
            let ok = (1970.0..2100.0).contains(&year.value) && year.value.fract() == 0.0;
            found.unless(ok, "year", || format!("{} is not a year", year.value));
        }
        if let (Some(die), true) = (&self.die_mm2, self.family != Family::WaferScale) {
            let dies = self.dies.as_ref().map_or(1.0, |dies| dies.value);
            found.unless(die.value <= RETICLE_MM2 * dies, "die_mm2", || {
                format!(
                    "{} mm² is more than {dies} exposures of {RETICLE_MM2} mm² make; say in `dies` of how many it is",
                    die.value
                )
            });
        }
        if let (Some(die), Some(board)) = (&self.die_mm2, &self.board_mm2) {
            found.unless(die.value <= board.value, "board_mm2", || {
                format!("a board of {} mm² cannot hold a die of {} mm²", board.value, die.value)
            });
        }
    }

    /// A described matrix engine has its size, belongs to a chip with arithmetic, and makes no more than the peaks.
    fn systolic(&self, found: &mut Found) {
        let Some(systolic) = &self.systolic else { return };
        let Some(compute) = self.compute() else {
            found.add("systolic", "goes with `[compute]`: its clock, peaks and memories are there");
            return;
        };
        let (Some(rows), Some(columns)) = (&systolic.rows, &systolic.columns) else {
            found.add(
                "systolic",
                "needs `rows` and `columns`; leave the table out where they are not known",
            );
            return;
        };
        if let (Some(cache), Some(largest)) = (
            &systolic.weight_cache_bytes,
            compute
                .memory
                .iter()
                .filter(|m| !m.off_chip)
                .filter_map(|m| m.bytes.as_ref())
                .map(|b| b.value)
                .reduce(f64::max),
        ) {
            found.unless(
                cache.value <= largest * (1.0 + TOLERANCE),
                "systolic.weight_cache_bytes",
                || format!("{:e} is more than the on-chip memory of {largest:e}", cache.value),
            );
        }
        for (precision, peak) in &compute.peaks {
            let clock = peak.clock_hz.as_ref().or(compute.clock_hz.as_ref());
            let (Some(dense), Some(clock), Some(arrays)) = (&peak.dense, clock, &systolic.arrays)
            else {
                continue;
            };
            // An engine may be slower in wide formats or faster in narrow ones, by whole factors.
            let once = 2.0 * arrays.value * rows.value * columns.value * clock.value;
            let factor = if dense.value >= once { dense.value / once } else { once / dense.value };
            found.unless((factor / factor.round() - 1.0).abs() <= TOLERANCE, "systolic", || {
                format!(
                    "the {precision} peak of {:.4e} is no whole multiple or part of 2 × {} arrays × {} × {} cells × {:.4e} Hz",
                    dense.value, arrays.value, rows.value, columns.value, clock.value
                )
            });
        }
    }

    fn figures(&self, found: &mut Found) {
        self.clone().each("", &mut |path, symbol, spec| {
            if let Some(fault) = spec.fault() {
                found.add(path, fault.to_string());
            } else if let Some(fault) = implausible(path, spec.symbol(), &spec.entry(path, symbol))
            {
                found.add(path, fault);
            }
            let entry = spec.entry(path, symbol);
            if let Some(date) = &entry.date {
                found.unless(is_date(date), path, || {
                    format!("the date `{date}` is not written 2026, 2026-11 or 2026-11-22")
                });
            } else if path.starts_with("price") || path.contains("usd") {
                found.add(path, "a price needs its date");
            }
        });
    }
}

/// What no product comes near: the mark of a slip in the unit or the exponent. By the last word of the path.
const BOUNDS: [(&str, f64, f64); 43] = [
    ("process_nm", 0.5, 1e5),
    ("die_mm2", 0.01, 1e5),
    ("dies", 1.0, 1e3),
    ("board_mm2", 1.0, 1e7),
    ("power_w", 1e-6, 1e6),
    ("price_usd", 1e-2, 1e9),
    ("price_usd_per_hour", 1e-6, 1e6),
    ("usd_per_task", 1e-6, 1e6),
    ("usd_per_shot", 1e-9, 1e6),
    ("units", 1.0, 1e8),
    ("lanes", 1.0, 1e8),
    ("clock_hz", 1e3, 1e11),
    ("base_clock_hz", 1e3, 1e11),
    ("dense", 1e3, 1e21),
    ("sparse", 1e3, 1e21),
    ("vector", 1e3, 1e21),
    ("bytes", 1.0, 1e18),
    ("bytes_per_second", 1e3, 1e19),
    ("bus_bits", 1.0, 1e6),
    ("transfers_per_second", 1e3, 1e13),
    ("luts", 1.0, 1e9),
    ("lut_inputs", 1.0, 16.0),
    ("flip_flops", 1.0, 1e10),
    ("count", 1.0, 1e9),
    ("wide_bits", 1.0, 1024.0),
    ("narrow_bits", 1.0, 1024.0),
    ("cores", 1.0, 1e8),
    ("neurons", 1.0, 1e12),
    ("qubits", 1.0, 1e6),
    ("infidelity", 1e-12, 1.0),
    ("arrays", 1.0, 1e6),
    ("rows", 1.0, 1e5),
    ("columns", 1.0, 1e5),
    ("accumulator_rows", 1.0, 1e7),
    ("tiles_ahead", 1.0, 1e4),
    ("activation_bytes", 1.0, 1e12),
    ("weight_bytes", 1.0, 1e12),
    ("weight_cache_bytes", 1.0, 1e12),
    ("vector_lanes", 1.0, 1e8),
    ("memory_latency_s", 1e-10, 1.0),
    ("transfer_s", 1e-10, 1.0),
    ("launch_s", 1e-10, 10.0),
    ("layer_s", 1e-10, 1.0),
];

fn implausible(path: &str, symbol: &str, entry: &crate::spec::Entry) -> Option<String> {
    let last = path.rsplit('.').next()?;
    let (_, least, most) = BOUNDS.into_iter().find(|(key, _, _)| *key == last)?;
    if (least..=most).contains(&entry.value) {
        return None;
    }
    let unit = if symbol.is_empty() { String::new() } else { format!(" {symbol}") };
    Some(format!(
        "{:e}{unit} is beyond anything built ({least:e} to {most:e}{unit}); check the exponent and that the number is in \
         the unit of the key",
        entry.value
    ))
}

#[derive(Default)]
struct Found {
    problems: Vec<Problem>,
}

impl Found {
    fn add(&mut self, path: &str, message: impl Into<String>) {
        self.problems.push(Problem { path: path.to_owned(), message: message.into() });
    }

    fn unless(&mut self, ok: bool, path: &str, message: impl FnOnce() -> String) {
        if !ok {
            self.add(path, message());
        }
    }
}

fn compute(body: &Compute, found: &mut Found) {
    peaks(&body.peaks, body.units.as_ref(), body.clock_hz.as_ref(), found);
    memory("compute", &body.memory, found);
    if let (Some(base), Some(top)) = (&body.base_clock_hz, &body.clock_hz) {
        found.unless(base.value <= top.value, "compute.base_clock_hz", || {
            format!("{:e} is above the highest clock, {:e}", base.value, top.value)
        });
    }
}

fn peaks(
    peaks: &BTreeMap<Precision, Peak>,
    units: Option<&Spec<Count>>,
    clock: Option<&Spec<Hertz>>,
    found: &mut Found,
) {
    for (precision, peak) in peaks {
        let path = format!("peaks.{precision}");
        let Peak { dense, sparse, vector, lanes, clock_hz } = peak;
        let any = dense.is_some() || sparse.is_some() || vector.is_some();
        found.unless(any, &path, || "states no rate".to_owned());
        let mut order = |small: &Option<Spec<_>>, large: &Option<Spec<_>>, text: &str| {
            if let (Some(small), Some(large)) = (small, large) {
                found.unless(small.value <= large.value, &path, || {
                    format!("{text}: {:e} > {:e}", small.value, large.value)
                });
            }
        };
        order(dense, sparse, "the dense rate is above the sparse one");
        order(vector, dense, "the vector rate is above the best dense one");
        let clock = clock_hz.as_ref().or(clock);
        if let (Some(dense), Some(lanes), Some(units), Some(clock)) = (dense, lanes, units, clock) {
            let expected = 2.0 * lanes.value * units.value * clock.value;
            found.unless((dense.value / expected - 1.0).abs() <= TOLERANCE, &path, || {
                format!(
                    "{:.4e} is not 2 × {} lanes × {} units × {:.4e} Hz = {expected:.4e}; correct one of the four, or \
                     give this peak the `clock_hz` at which it holds",
                    dense.value, lanes.value, units.value, clock.value
                )
            });
        }
    }
    for (wide, narrow) in NARROWER_IS_NO_SLOWER {
        let rate = |precision| Some((peaks.get(&precision)?.dense.as_ref()?, precision));
        if let (Some((wide, wide_word)), Some((narrow, narrow_word))) = (rate(wide), rate(narrow))
            && narrow.value < wide.value
            && narrow.note.is_none()
        {
            found.add(
                &format!("peaks.{narrow_word}"),
                format!(
                    "{:.4e} is below the {wide_word} rate of {:.4e}, though {wide_word} units can do the work of \
                     {narrow_word}; correct it, or say in its `note` why it is so",
                    narrow.value, wide.value
                ),
            );
        }
    }
}

fn memory(at: &str, levels: &[Memory], found: &mut Found) {
    for level in levels {
        let stated = level.bytes.is_some() || level.bytes_per_second.is_some();
        let path = format!("{at}.memory.{}", level.name);
        found.unless(stated, &path, || "states neither size nor bandwidth".to_owned());
        if let (Some(stated), Some(bits), Some(rate)) =
            (&level.bytes_per_second, &level.bus_bits, &level.transfers_per_second)
        {
            let expected = bits.value / 8.0 * rate.value;
            found.unless((stated.value / expected - 1.0).abs() <= TOLERANCE, &path, || {
                format!(
                    "{:.4e} bytes a second is not {} bits / 8 × {:.4e} transfers a second = {expected:.4e}",
                    stated.value, bits.value, rate.value
                )
            });
        }
    }
    for (index, level) in levels.iter().enumerate() {
        found.unless(
            levels[..index].iter().all(|earlier| earlier.name != level.name),
            &format!("{at}.memory.{}", level.name),
            || "there are two levels of this name".to_owned(),
        );
    }
    // Levels that all units share only ever get larger and slower outward.
    let shared: Vec<&Memory> = levels.iter().filter(|level| !level.per_unit).collect();
    for pair in shared.windows(2) {
        let path = format!("{at}.memory.{}", pair[1].name);
        if let (Some(near), Some(far)) = (&pair[0].bytes_per_second, &pair[1].bytes_per_second) {
            found.unless(far.value <= near.value, &path, || {
                format!("is faster than {}, which is nearer", pair[0].name)
            });
        }
        if let (Some(near), Some(far)) = (&pair[0].bytes, &pair[1].bytes) {
            found.unless(far.value >= near.value, &path, || {
                format!("is smaller than {}, which is nearer", pair[0].name)
            });
        }
    }
}

/// `2026`, `2026-11` or `2026-11-22`.
pub(crate) fn is_date(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let number = |part: &str, digits: usize, most: u32| {
        part.len() == digits && part.parse::<u32>().is_ok_and(|n| (1..=most).contains(&n))
    };
    match parts[..] {
        [year] => number(year, 4, 9999),
        [year, month] => number(year, 4, 9999) && number(month, 2, 12),
        [year, month, day] => number(year, 4, 9999) && number(month, 2, 12) && number(day, 2, 31),
        _ => false,
    }
}
