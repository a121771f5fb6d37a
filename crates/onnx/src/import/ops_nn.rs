//! Importers of operators: nn.

use super::table::Row;

pub(crate) const ROWS: &[Row] = &[];
