//! The only list of targets.

use anychip_target::{Place, Target};

/// Every target that this build has. A new one adds a row here and a dependency and feature in `Cargo.toml`; the
/// CPU has no feature, as it is the machine that everything else is compared with.
pub fn targets() -> Vec<Box<dyn Target>> {
    vec![
        Box::new(anychip_cpu::CpuTarget::new()),
        #[cfg(feature = "pjrt")]
        Box::new(crate::plugins::pjrt().clone()),
    ]
}

/// The target and the place that run programs for a chip on this machine, if there is one. `NAME:1` is the second device of a
/// kind, `NAME` and `NAME:0` the first.
pub fn find_place(chip: &str) -> Option<(Box<dyn Target>, Place)> {
    let (name, wanted) = split_ordinal(chip);
    targets().into_iter().find_map(|target| {
        let place = target.places().into_iter().find(|place| match place {
            Place::Device { chip: id, ordinal } => id == name && *ordinal == wanted,
            Place::Simulator { chip: id } => id == name,
        })?;
        Some((target, place))
    })
}

/// The rows of devices that are here and have none in the catalog.
pub(crate) fn device_rows(catalog: &anychip_chips::Catalog) -> Vec<anychip_chips::Chip> {
    let mut rows = Vec::new();
    #[cfg(feature = "pjrt")]
    rows.extend(crate::plugins::rows(catalog));
    rows.retain(|row: &anychip_chips::Chip| catalog.get(&row.id).is_none());
    rows
}

/// Whether a row is this machine's own processor, whatever software drives it.
pub(crate) fn is_this_cpu(id: &str) -> bool {
    #[cfg(feature = "pjrt")]
    if crate::plugins::is_this_cpu(id) {
        return true;
    }
    id == crate::machine::THIS_CPU
}

/// A chip's name and which of its kind is meant.
pub(crate) fn split_ordinal(chip: &str) -> (&str, usize) {
    let split = chip.rsplit_once(':').and_then(|(name, n)| Some((name, n.parse().ok()?)));
    split.unwrap_or((chip, 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_may_have_a_number() {
        assert_eq!(split_ordinal("cpu"), ("cpu", 0));
        assert_eq!(split_ordinal("nvidia-t4:3"), ("nvidia-t4", 3));
        assert_eq!(split_ordinal("odd:name"), ("odd:name", 0));
        assert!(find_place("cpu:0").is_some() && find_place("cpu:7").is_none());
    }
}
