//! Importers of operators: recurrent.

use super::table::Row;

pub(crate) const ROWS: &[Row] = &[];
