//! The accelerator catalog: one TOML file a chip, each figure with its source.
//!
//! A [`Chip`] is a product: one head ([`Chip`] itself) and one [`Body`] by technology. What nobody stated is absent,
//! never a default. The catalog is data, so a new chip is one file in `data/`; a user's own chip is one file anywhere,
//! read with [`Catalog::load`]; this machine's processor is built from code with [`Spec::measured`] figures.
//!
//! ```
//! let catalog = anychip_chips::Catalog::builtin()?;
//! let chip = catalog.find("nvidia-a100-sxm4-80gb")?;
//! let power = chip.power_w.as_ref().expect("stated");
//! assert_eq!((power.value, power.source.is_empty()), (400.0, false));
//! # Ok::<(), anychip_chips::ChipError>(())
//! ```

mod catalog;
mod check;
mod chip;
mod compute;
mod error;
mod fabric;
mod quantum;
mod spec;
mod spiking;

pub use catalog::Catalog;
pub use chip::{Body, Chip, Family};
pub use compute::{Compute, Link, Memory, Peak, Precision};
pub use error::{ChipError, Problem};
pub use fabric::{Blocks, Fabric};
pub use quantum::{Gate, Quantum};
pub use spec::{Entry, Spec};
pub use spiking::Spiking;
