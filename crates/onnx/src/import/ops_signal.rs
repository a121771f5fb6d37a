//! Importers of operators: signal.

use super::table::Row;

pub(crate) const ROWS: &[Row] = &[];
