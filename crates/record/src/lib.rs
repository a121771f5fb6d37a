//! The serialized result of one model on one chip: the only thing a report reads.
//!
//! A [`Record`] is one flat JSON object per model, chip, stack, batch and number format. Every figure of a record that
//! runs is either there, with its basis and source, or absent with a reason; never zero, never a default.
//!
//! ```
//! use anychip_record::{Field, Key, Record};
//! use anychip_units::Figure;
//! let mut record = Record::new(Key {
//!     model: "digits-cnn".into(), model_sha256: "…".into(), chip: "cpu".into(), stack: "anychip".into(),
//!     target: Some("cpu".into()), batch: 8, dtype: "f32".into(),
//! });
//! record.set_latency(Figure::measured(0.004, "stopwatch, median of 100")?)?;
//! assert_eq!(record.throughput_per_s.as_ref().map(Figure::value), Some(2000.0));
//! record.mark_absent([Field::Power, Field::Energy], "no power meter on this machine");
//! let missing = record.unexplained();
//! record.mark_absent(missing, "not part of this example");
//! let line = record.to_json_line()?;
//! assert_eq!(Record::from_json(&line)?, record);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod context;
mod derive;
mod json;
mod layer;
mod percentile;
mod record;
mod verdict;

pub use context::{ChipRow, Origin, Roof};
pub use derive::Ownership;
pub use json::{RecordError, read_json_lines, write_json_lines};
pub use layer::Layer;
pub use percentile::{Percentiles, percentiles};
pub use record::{Field, Key, Record, SCHEMA, View};
pub use verdict::{Standing, Verdict};
