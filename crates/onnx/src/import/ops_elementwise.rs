//! Importers of operators: elementwise.

use super::table::Row;

pub(crate) const ROWS: &[Row] = &[];
