//! Which crate lives in which layer: the one table behind "no edge of the crate graph points up".

/// Crates without their `anychip-` prefix, lowest layer first.
pub(crate) const LAYERS: &[&[&str]] = &[
    &["units", "tensor"],
    &["ir", "chips", "record"],
    &["ops", "passes", "quantize"],
    &["onnx", "zoo", "target", "predict"],
    &["cpu", "pjrt", "systolic", "null", "conformance"],
    &["anychip"],
    &["report", "cli"],
];

/// Edges within a layer that are part of the plan.
const WITHIN: &[(&str, &str, &str)] = &[
    ("passes", "ops", "passes recognize composites in graphs of primitives"),
    ("quantize", "ops", "where integers go depends on what an operator is"),
    ("quantize", "passes", "a quantized graph is a rewrite like any other"),
    ("cli", "report", "the binary prints what the report draws"),
];

/// The layer of a crate given by its package name.
pub(crate) fn layer(package: &str) -> Option<usize> {
    let name = short(package);
    LAYERS.iter().position(|crates| crates.contains(&name))
}

/// The name in the table.
pub(crate) fn short(package: &str) -> &str {
    package.strip_prefix("anychip-").unwrap_or(package)
}

/// Why `from` must not depend on `to`; `None` when it may.
///
/// Tests may also use their own layer: a target runs the conformance suite, which knows targets.
pub(crate) fn fault(from: &str, to: &str, in_tests: bool) -> Option<String> {
    let (Some(upper), Some(lower)) = (layer(from), layer(to)) else {
        let unknown = if layer(from).is_none() { from } else { to };
        return Some(format!("`{unknown}` has no row in xtask/src/layers.rs"));
    };
    let planned = WITHIN.iter().any(|&(a, b, _)| a == short(from) && b == short(to));
    if lower < upper || planned || (in_tests && lower == upper) {
        return None;
    }
    Some(format!("`{from}` (layer {upper}) must not depend on `{to}` (layer {lower})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edges_point_down() {
        assert_eq!(fault("anychip-ir", "anychip-tensor", false), None);
        assert_eq!(fault("anychip-passes", "anychip-ops", false), None);
        assert!(fault("anychip-ops", "anychip-passes", false).is_some());
        assert!(fault("anychip-ir", "anychip-onnx", false).is_some());
        assert!(fault("anychip-cpu", "anychip-null", false).is_some());
        assert_eq!(fault("anychip-cpu", "anychip-conformance", true), None);
        assert!(fault("anychip-cpu", "anychip", true).is_some());
        assert!(fault("anychip-novel", "anychip-ir", false).is_some());
    }

    #[test]
    fn every_crate_has_one_layer() {
        let mut all: Vec<&str> = LAYERS.iter().flat_map(|l| l.iter().copied()).collect();
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count);
    }
}
