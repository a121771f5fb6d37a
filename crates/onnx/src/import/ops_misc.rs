//! Importers of operators: misc.

use super::table::Row;

pub(crate) const ROWS: &[Row] = &[];
