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
//!
//! # A row
//!
//! ```
//! let row = r#"
//! id = "acme-one"                 # the file's name
//! name = "Acme One"
//! vendor = "Acme"
//! family = "asic"                 # see `Family`
//! architecture = "acme-1"         # what its maker calls the design of its units
//! target = "systolic"             # what can compile for it; left out where nothing can
//! stacks = ["acme-runtime"]       # the software it runs with, the default first
//!
//! power_w = { value = 10, low = 8, high = 12, source = "sheet" }
//! price_usd = [{ value = 99, source = "shop", date = "2026-11" }]
//!
//! [sources]                       # each used by some figure, each figure names one
//! sheet = { text = "Acme One data sheet, revision 2", date = "2026-03" }
//! shop = { text = "acme.example, list price", seen = "2026-11-22" }  # bears no date: when it was read
//!
//! [compute]                       # or [fabric], [spiking], [quantum]
//! unit = "core"
//! units = { value = 4, source = "sheet" }
//! clock_hz = { value = 1e9, source = "sheet" }
//!
//! [compute.peaks.int8]            # see `Precision`, `Peak`
//! dense = { value = 8.192e12, source = "sheet" }
//! lanes = { value = 1024, source = "sheet", note = "8.192e12 = 2 × 1024 × 4 × 1e9, checked" }
//!
//! [[compute.memory]]              # nearest first
//! name = "SRAM"
//! bytes = { value = 8e6, source = "sheet" }
//! "#;
//! anychip_chips::Chip::from_toml(row, "acme-one.toml")?;
//! # Ok::<(), anychip_chips::ChipError>(())
//! ```

mod catalog;
mod check;
mod chip;
mod compute;
mod error;
mod fabric;
mod file;
mod quantum;
mod select;
mod spec;
mod spiking;
mod systolic;

pub use catalog::Catalog;
pub use chip::{Body, Chip, Family};
pub use compute::{Compute, Link, LinkEnd, Memory, Peak, Precision};
pub use error::{ChipError, Problem};
pub use fabric::{Blocks, Fabric};
pub use quantum::{Gate, Quantum};
pub use select::{Filter, MOST_TELLING, Order, Verdict};
pub use spec::{Entry, Spec};
pub use spiking::Spiking;
pub use systolic::{Dataflow, Systolic};
