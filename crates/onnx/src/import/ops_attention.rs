//! Importers of operators: attention.

use super::table::Row;

pub(crate) const ROWS: &[Row] = &[];
