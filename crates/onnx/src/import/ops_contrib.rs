//! Importers of operators: contrib.

use super::table::Row;

pub(crate) const ROWS: &[Row] = &[];
