//! Importers of operators: movement.

use super::table::Row;

pub(crate) const ROWS: &[Row] = &[];
