//! Importers of operators: control.

use super::table::Row;

pub(crate) const ROWS: &[Row] = &[];
