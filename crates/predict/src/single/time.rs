//! How long a model's kernels in 32-bit floats take together on a GPU.

use anychip_chips::{Chip, Precision};

use super::kernels::apart;
use super::sized::{platform, single_kernel};
use super::table::SingleTable;
use crate::kernel::{Class, Kernel};
use crate::serving::table::KernelTable;
use crate::serving::{Engine, Kind};
use crate::whole::Span;

/// A run of all kernels.
#[derive(Debug, Clone, PartialEq)]
pub struct Single {
    /// The time.
    pub span: Span,
    /// Where it comes from.
    pub source: String,
}

/// Seconds of each of `kernels`, as often as it is launched; `None` where the vendor's kernels were not measured, the
/// catalog does not describe the chip well enough, or a product is of a kind that was never measured.
pub fn each_kernel(table: &KernelTable, kernels: &[Kernel], chip: &Chip) -> Option<Vec<f64>> {
    let platform = platform(chip)?;
    let engine = Engine::of(chip, Precision::F32)?;
    // Networks repeat their blocks: what was asked once is not asked again.
    let mut asked: Vec<(Kernel, f64)> = Vec::new();
    let mut found = Vec::with_capacity(kernels.len());
    for kernel in kernels {
        let one = Kernel { count: 1.0, ..*kernel };
        let known = asked.iter().find(|(known, _)| *known == one).map(|(_, seconds)| *seconds);
        let seconds = if let Some(seconds) = known {
            seconds
        } else {
            let part = |part: &Kernel| {
                let sized = single_kernel(part, &engine);
                part.count * table.log_seconds(platform, part.class.word(), &sized).exp()
            };
            let seconds = apart(&one)?.iter().map(part).sum();
            asked.push((one, seconds));
            seconds
        };
        found.push(kernel.count * seconds);
    }
    Some(found)
}

/// The time of a run of `kernels` on a chip; `None` as for [`each_kernel`], and for no kernels.
pub fn single(table: &SingleTable, kernels: &[Kernel], chip: &Chip) -> Option<Single> {
    let each = each_kernel(&table.kernels, kernels, chip)?;
    let seconds: f64 = each.iter().sum();
    if seconds <= 0.0 {
        return None;
    }
    let convolutions = each.iter().zip(kernels).filter(|(_, k)| k.class == Class::Convolution);
    let convolved: f64 = convolutions.map(|(seconds, _)| seconds).sum();
    let seen = table.kernels.has_seen(&chip.id);
    let mut band = if seen { table.known } else { table.unknown };
    let mut judged = format!("interval from {} whole transformers", table.models);
    // Whole models that were measured have no convolutions: errors of single kernels, all of one sign, are what is known.
    if convolved > MOST_CONVOLVED * seconds {
        let single = if seen { table.kernels.known } else { table.kernels.unknown };
        band = [band[0].min(single[0]), band[1].max(single[1])];
        judged = "interval from single kernels, whole networks like it not validated".to_string();
    }
    let span = Span {
        seconds,
        low: seconds * band[0].min(0.0).exp(),
        high: seconds * band[1].max(0.0).exp(),
    };
    let platform = platform(chip)?;
    let measured =
        |kind: &Kind| kind.software == platform && kind.format == Class::Convolution.word();
    if convolved > 0.0 && !table.kernels.kinds.iter().any(measured) {
        judged += "; convolutions as on another vendor's chips";
    }
    let left_out = if seen { "" } else { " on devices left out; not measured on this chip" };
    let source =
        format!("predict/single v{}, sum of kernels in f32; {judged}{left_out}", table.version);
    Some(Single { span, source })
}

/// The share of convolutions in the time from which on whole transformers say too little about a model.
const MOST_CONVOLVED: f64 = 0.3;

#[cfg(test)]
mod tests {
    use super::*;

    fn time(chip: &str, kernels: &[Kernel]) -> Option<Single> {
        let catalog = anychip_chips::Catalog::builtin().expect("built in");
        let table = SingleTable::builtin().expect("built in");
        single(table, kernels, catalog.find(chip).expect("in the catalog"))
    }

    fn linear(rows: f64) -> Kernel {
        let (columns, depth) = (4096.0, 1024.0);
        Kernel {
            count: 24.0,
            macs: rows * columns * depth,
            rows,
            columns,
            depth,
            groups: 1.0,
            ..Kernel::moving(Class::Linear, 4.0 * (rows * depth + rows * columns))
        }
    }

    #[test]
    fn more_rows_and_slower_cards_take_longer() {
        let seconds = |chip, rows| time(chip, &[linear(rows)]).expect("measured").span.seconds;
        assert!(seconds("nvidia-t4", 8192.0) > 1.5 * seconds("nvidia-t4", 4096.0));
        assert!(seconds("nvidia-t4", 8192.0) > 2.0 * seconds("nvidia-a100-pcie-40gb", 8192.0));
        assert!(seconds("amd-mi210", 8192.0) < seconds("nvidia-v100-pcie-32gb", 8192.0));
    }

    #[test]
    fn what_was_not_measured_is_said_or_not_answered() {
        let kernels = [linear(4096.0)];
        let known = time("nvidia-t4", &kernels).expect("measured");
        assert!(known.span.low < known.span.seconds && known.span.seconds < known.span.high);
        assert!(!known.source.contains("not measured"));
        let other = time("nvidia-rtx-3090", &kernels).expect("of the vendor");
        assert!(other.source.contains("not measured on this chip"), "{}", other.source);
        let width = |s: &Single| s.span.high / s.span.low;
        assert!(width(&other) > width(&known), "{} {}", width(&other), width(&known));
        let convolution = [Kernel { class: Class::Convolution, ..linear(4096.0) }];
        let borrowed = time("amd-mi210", &convolution).expect("of the vendor");
        assert!(borrowed.source.contains("another vendor"), "{}", borrowed.source);
        assert!(width(&borrowed) > width(&known));
        assert_eq!(time("intel-arc-a770", &kernels), None);
        assert_eq!(time("nvidia-t4", &[Kernel { class: Class::Grouped, ..linear(1.0) }]), None);
        assert_eq!(time("nvidia-t4", &[]), None);
    }
}
