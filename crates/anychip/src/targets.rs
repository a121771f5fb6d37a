//! The only list of targets.

use anychip_target::{Place, Target};

/// Every target that this build has. A new one adds a row here and a dependency and feature in `Cargo.toml`; the
/// CPU has no feature, as it is the machine that everything else is compared with.
pub fn targets() -> Vec<Box<dyn Target>> {
    vec![Box::new(anychip_cpu::CpuTarget::new())]
}

/// The target and the place that run programs for a chip on this machine, if there is one.
pub fn find_place(chip: &str) -> Option<(Box<dyn Target>, Place)> {
    targets().into_iter().find_map(|target| {
        let place = target.places().into_iter().find(|place| match place {
            Place::Device { chip: id, .. } | Place::Simulator { chip: id } => id == chip,
        })?;
        Some((target, place))
    })
}
