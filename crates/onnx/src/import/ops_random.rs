//! Importers of operators: random.

use super::table::Row;

pub(crate) const ROWS: &[Row] = &[];
