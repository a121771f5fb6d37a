//! The only list of targets.

use anychip_chips::Chip;
use anychip_target::{Place, Target};

/// Every target that this build has. A new one adds a row here and a dependency and feature in `Cargo.toml`; the
/// CPU has no feature, as it is the machine that everything else is compared with.
pub fn targets() -> Vec<Box<dyn Target>> {
    vec![
        Box::new(anychip_cpu::CpuTarget::new()),
        #[cfg(feature = "pjrt")]
        Box::new(crate::plugins::pjrt().clone()),
        // After what runs on devices: a chip that is here is measured, not simulated.
        Box::new(anychip_systolic::SystolicTarget::new()),
    ]
}

/// The target and the place that run programs for a chip on this machine, if there is one. `NAME:1` is the second device of a
/// kind, `NAME` and `NAME:0` the first.
pub fn find_place(chip: &Chip) -> Option<(Box<dyn Target>, Place)> {
    targets().into_iter().find_map(|target| {
        let place = target.place(chip)?;
        Some((target, place))
    })
}

/// Whether a chip is a device of this machine, whose runs a clock can time.
pub(crate) fn is_attached(chip: &Chip) -> bool {
    matches!(find_place(chip), Some((_, Place::Device { .. })))
}

/// Whether a chip is no device of this machine and a target simulates it.
pub fn is_simulated(chip: &Chip) -> bool {
    matches!(find_place(chip), Some((_, Place::Simulator { .. })))
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
