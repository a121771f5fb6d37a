//! Importers of operators: image.

use super::table::Row;

pub(crate) const ROWS: &[Row] = &[];
