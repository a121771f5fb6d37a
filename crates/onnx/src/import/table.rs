//! The table of operators: one row each, in the file of its family.

use anychip_ir::ValueId;

use super::call::{Call, ImportError};
use super::{
    ops_attention, ops_contrib, ops_control, ops_elementwise, ops_generate, ops_image, ops_index,
    ops_misc, ops_movement, ops_nn, ops_quantize, ops_random, ops_recurrent, ops_reduce,
    ops_signal,
};

/// Adds an operator to the graph being built; its results, in the standard's order. Results that the node
/// does not name may be left out at the end.
pub(crate) type ImportFn = fn(&mut Call<'_>) -> Result<Vec<ValueId>, ImportError>;

/// Where an operator is defined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Domain {
    /// The standard's default domain, `""` or `ai.onnx`.
    Onnx,
    /// ONNX Runtime's `com.microsoft`.
    Microsoft,
    /// The standard's classical machine learning, `ai.onnx.ml`.
    Ml,
    /// What the standard tries out, `ai.onnx.preview`.
    Preview,
    /// Training, `ai.onnx.preview.training`.
    Training,
}

impl Domain {
    /// The domain of a node; `None` for others.
    pub(crate) fn parse(name: &str) -> Option<Domain> {
        match name {
            "" | "ai.onnx" => Some(Domain::Onnx),
            "com.microsoft" => Some(Domain::Microsoft),
            "ai.onnx.ml" => Some(Domain::Ml),
            "ai.onnx.preview" => Some(Domain::Preview),
            "ai.onnx.preview.training" => Some(Domain::Training),
            _ => None,
        }
    }
}

/// One operator.
#[derive(Clone, Copy)]
pub(crate) struct Row {
    pub(crate) domain: Domain,
    /// The operator's type as files spell it.
    pub(crate) name: &'static str,
    /// The oldest version of its definition that `import` reads. Several rows of one name differ here, and
    /// the newest that is not newer than the model's opset is used.
    pub(crate) since: i64,
    pub(crate) import: ImportFn,
}

impl Row {
    /// A row of the default domain.
    pub(crate) const fn onnx(name: &'static str, since: i64, import: ImportFn) -> Row {
        Row { domain: Domain::Onnx, name, since, import }
    }

    /// A row of `com.microsoft`.
    pub(crate) const fn microsoft(name: &'static str, import: ImportFn) -> Row {
        Row { domain: Domain::Microsoft, name, since: 1, import }
    }

    /// A row of `ai.onnx.preview`.
    pub(crate) const fn preview(name: &'static str, import: ImportFn) -> Row {
        Row { domain: Domain::Preview, name, since: 1, import }
    }

    /// A row of `ai.onnx.preview.training`.
    pub(crate) const fn training(name: &'static str, import: ImportFn) -> Row {
        Row { domain: Domain::Training, name, since: 1, import }
    }

    /// A row of `ai.onnx.ml`.
    pub(crate) const fn ml(name: &'static str, since: i64, import: ImportFn) -> Row {
        Row { domain: Domain::Ml, name, since, import }
    }
}

const FAMILIES: [&[Row]; 15] = [
    ops_elementwise::ROWS,
    ops_movement::ROWS,
    ops_index::ROWS,
    ops_generate::ROWS,
    ops_reduce::ROWS,
    ops_control::ROWS,
    ops_nn::ROWS,
    ops_recurrent::ROWS,
    ops_image::ROWS,
    ops_signal::ROWS,
    ops_quantize::ROWS,
    ops_random::ROWS,
    ops_attention::ROWS,
    ops_contrib::ROWS,
    ops_misc::ROWS,
];

/// Every row.
pub(crate) fn rows() -> impl Iterator<Item = &'static Row> {
    FAMILIES.iter().flat_map(|family| family.iter())
}

/// The row for an operator at a version of its domain. Below the oldest row that one is tried.
pub(crate) fn find(domain: Domain, name: &str, opset: i64) -> Option<&'static Row> {
    let candidates = || rows().filter(|row| row.domain == domain && row.name == name);
    candidates()
        .filter(|row| row.since <= opset)
        .max_by_key(|row| row.since)
        .or_else(|| candidates().min_by_key(|row| row.since))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn no_operator_has_two_rows_of_one_version() {
        let mut seen = BTreeSet::new();
        for row in rows() {
            let key = (format!("{:?}", row.domain), row.name, row.since);
            assert!(seen.insert(key.clone()), "{key:?} is there twice");
        }
    }
}
