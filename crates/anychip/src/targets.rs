//! The only list of targets.

use anychip_chips::Chip;
use anychip_target::{Place, Target};

/// Every target that this build has. A new one adds a row here and a dependency and feature in `Cargo.toml`; the
/// CPU has no feature, as it is the machine that everything else is compared with.
pub fn targets() -> Vec<Box<dyn Target>> {
    vec![
        Box::new(anychip_cpu::CpuTarget::new()),
        // After what runs on devices: a chip that is here is measured, not simulated.
        Box::new(anychip_systolic::SystolicTarget::new()),
    ]
}

/// The target and the place that run programs for a chip on this machine, if there is one.
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
