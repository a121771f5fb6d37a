//! Tables and the HTML page of serialized records, and the pages of the chip catalog.
//!
//! A report knows nothing but [`Record`](anychip_record::Record)s, so an old run can be drawn again; the catalog pages
//! know nothing but [`Chip`](anychip_chips::Chip)s. Every function returns text and takes the width to fit it in:
//! a narrow terminal gets the columns that matter most, a wide one gets them all. Every number carries the mark of its
//! basis, which reads without color.

mod bench;
mod catalog;
mod changes;
mod choose;
mod compare;
mod evidence;
mod grid;
mod html;
mod layers;

pub use bench::bench_table;
pub use catalog::{chip_page, chips_table};
pub use changes::{Agreement, Change, ChangeOf, Changes, changes, changes_table};
pub use choose::{ChoiceView, choice_table};
pub use compare::compare_table;
pub use evidence::{absences, sources};
pub use html::{PageError, html_page};
pub use layers::layers_table;

pub use anychip_record::{read_json_lines, write_json_lines};
