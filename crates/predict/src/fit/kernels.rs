//! Fits [`KernelTable`]: effects of software and format, and trees on what they leave over.

use crate::fit::whole::quantile;
use crate::serving::table::{KernelTable, Kind, Sized, effects, row};
use crate::trees::{Growth, Trees};

/// One measured kernel.
#[derive(Debug, Clone)]
pub struct MeasuredKernel {
    /// The catalog's name of the device.
    pub device: String,
    /// Software with its version.
    pub software: String,
    /// Number format.
    pub format: String,
    /// Its roofline and sizes on that device.
    pub sized: Sized,
    /// The natural logarithm of the seconds it took.
    pub log_seconds: f64,
}

/// Many small steps: rows are many and the sizes that are asked about lie among those measured.
const GROWTH: Growth =
    Growth { trees: 200, leaves: 63, least_rows: 30.0, rate: 0.1, shrink: 5.0, clip: 0.5 };

/// Rows with the mean of their format that are added to each kind's own.
const SHRINK: f64 = 5.0;

/// Effects and residual of all `kernels`; the table's intervals are still empty.
pub fn fit_kernels(kernels: &[&MeasuredKernel]) -> KernelTable {
    let kinds = kinds(kernels);
    let mut rows = Vec::with_capacity(kernels.len());
    let mut left = Vec::with_capacity(kernels.len());
    // Kinds are few: looked up once each.
    let mut known: Option<(&str, &str, [f64; 3])> = None;
    for kernel in kernels {
        let (roofline, regime, sizes) = &kernel.sized;
        let of = match known {
            Some((software, format, of))
                if software == kernel.software && format == kernel.format =>
            {
                of
            }
            _ => effects(&kinds, &kernel.software, &kernel.format),
        };
        known = Some((&kernel.software, &kernel.format, of));
        rows.push(row(&kinds, &kernel.format, &of, sizes));
        left.push(kernel.log_seconds - roofline - of[*regime as usize]);
    }
    let residual = Trees::fit(&rows, &left, &vec![1.0; left.len()], &GROWTH);
    KernelTable { kinds, residual, known: [0.0; 2], unknown: [0.0; 2] }
}

/// [`fit_kernels`] with its intervals: from halves of the rows, and from each device predicted from the others. The last
/// is `None` where there is one device only, and then says nothing.
pub fn fit_kernel_table(kernels: &[&MeasuredKernel]) -> KernelTable {
    let mut table = fit_kernels(kernels);
    table.known = band(&errors_by(kernels, |i, _| i % 2));
    table.unknown = unknown_band(kernels);
    table
}

/// The quantiles 0.1 and 0.9 of errors on each device, predicted from the others.
pub fn unknown_band(kernels: &[&MeasuredKernel]) -> [f64; 2] {
    let mut devices: Vec<&str> = kernels.iter().map(|k| k.device.as_str()).collect();
    devices.sort_unstable();
    devices.dedup();
    let place = |device: &str| devices.binary_search(&device).expect("listed from all kernels");
    band(&errors_by(kernels, |_, kernel| place(&kernel.device)))
}

/// The logarithmic errors of each fold, named by a number, predicted from all others: in the order of `kernels`.
pub fn errors_by(
    kernels: &[&MeasuredKernel],
    fold: impl Fn(usize, &MeasuredKernel) -> usize,
) -> Vec<f64> {
    let fold: Vec<usize> = kernels.iter().enumerate().map(|(i, k)| fold(i, k)).collect();
    let mut errors = vec![0.0; kernels.len()];
    for f in 0..fold.iter().max().map_or(0, |most| most + 1) {
        let inside: Vec<&MeasuredKernel> =
            kernels.iter().zip(&fold).filter(|(_, g)| **g != f).map(|(k, _)| *k).collect();
        if inside.is_empty() {
            continue;
        }
        let table = fit_kernels(&inside);
        for i in (0..kernels.len()).filter(|&i| fold[i] == f) {
            let kernel = kernels[i];
            errors[i] = kernel.log_seconds
                - table.log_seconds(&kernel.software, &kernel.format, &kernel.sized);
        }
    }
    errors
}

fn band(errors: &[f64]) -> [f64; 2] {
    let mut errors = errors.to_vec();
    [quantile(&mut errors, 0.1), quantile(&mut errors, 0.9)]
}

/// Every software and format with its devices and effects.
fn kinds(kernels: &[&MeasuredKernel]) -> Vec<Kind> {
    let mut names: Vec<(&str, &str)> =
        kernels.iter().map(|k| (k.software.as_str(), k.format.as_str())).collect();
    names.sort_unstable();
    names.dedup();
    let mut sums = vec![[(0.0, 0.0); 3]; names.len()];
    let mut devices: Vec<Vec<String>> = vec![Vec::new(); names.len()];
    for kernel in kernels {
        let (roofline, regime, _) = &kernel.sized;
        let at = names
            .binary_search(&(kernel.software.as_str(), kernel.format.as_str()))
            .expect("listed from all kernels");
        let sum = &mut sums[at][*regime as usize];
        sum.0 += kernel.log_seconds - roofline;
        sum.1 += 1.0;
        if !devices[at].contains(&kernel.device) {
            devices[at].push(kernel.device.clone());
        }
    }
    // What all software has in common in a format.
    let of_format = |format: &str, regime: usize| {
        let mine = (0..names.len()).filter(|&i| names[i].1 == format);
        let (sum, rows) =
            mine.fold((0.0, 0.0), |(s, n), i| (s + sums[i][regime].0, n + sums[i][regime].1));
        if rows > 0.0 { sum / rows } else { 0.0 }
    };
    let mut found = Vec::with_capacity(names.len());
    for (i, (software, format)) in names.iter().enumerate() {
        let effects = [0, 1, 2].map(|regime| {
            let (sum, rows) = sums[i][regime];
            (sum + SHRINK * of_format(format, regime)) / (rows + SHRINK)
        });
        let mut devices = std::mem::take(&mut devices[i]);
        devices.sort_unstable();
        found.push(Kind {
            software: (*software).to_string(),
            format: (*format).to_string(),
            devices,
            effects,
        });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serving::Regime;

    #[test]
    fn software_and_sizes_are_told_apart_and_errors_are_of_what_was_left_out() {
        let mut kernels = Vec::new();
        for i in 0..4000u32 {
            let size = f64::from(i % 97);
            let slow = f64::from(i / 2 % 2);
            kernels.push(MeasuredKernel {
                device: format!("device{}", i % 3),
                software: format!("software-{}", i / 2 % 2),
                format: "f".to_string(),
                sized: (-9.0, Regime::Traffic, vec![size]),
                log_seconds: -9.0 + slow + 0.3 * f64::from(u8::from(size > 50.0)),
            });
        }
        let all: Vec<&MeasuredKernel> = kernels.iter().collect();
        let table = fit_kernel_table(&all);
        assert_eq!(table.kinds.len(), 2);
        assert!(table.is_sound(1));
        let at = |software, size| {
            table.log_seconds(software, "f", &(-9.0, Regime::Traffic, vec![size])) + 9.0
        };
        for (software, size, truth) in [
            ("software-0", 10.0, 0.0),
            ("software-0", 90.0, 0.3),
            ("software-1", 10.0, 1.0),
            ("software-1", 90.0, 1.3),
        ] {
            assert!((at(software, size) - truth).abs() < 0.02, "{software} {size}");
        }
        for band in [table.known, table.unknown] {
            assert!(band[0].abs() < 0.02 && band[1].abs() < 0.02, "{band:?}");
        }
        // A device unlike the others is off by what sets it apart.
        for kernel in kernels.iter_mut().filter(|k| k.device == "device0") {
            kernel.log_seconds += 0.4;
        }
        let all: Vec<&MeasuredKernel> = kernels.iter().collect();
        assert!(unknown_band(&all)[1] > 0.3);
    }
}
