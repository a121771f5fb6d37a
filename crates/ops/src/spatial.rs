//! Settings that have one entry a spatial dim.

use anychip_ir::IrError;

/// Sums and products of two numbers up to this size hold in 64 bits.
const MOST: u64 = 1 << 31;

/// Checks that each list of settings has `spatial` entries, of a size with which expansions can compute.
pub(crate) fn check_spatial(
    op: &'static str,
    spatial: usize,
    counts: &[&[usize]],
    paddings: &[&[i64]],
) -> Result<(), IrError> {
    let lengths =
        counts.iter().map(|list| list.len()).chain(paddings.iter().map(|list| list.len()));
    let large = counts.iter().any(|list| list.iter().any(|&n| n as u64 > MOST))
        || paddings.iter().any(|list| list.iter().any(|&n| n.unsigned_abs() > MOST));
    let reason = if lengths.into_iter().any(|length| length != spatial) {
        "one entry a spatial dim"
    } else if large {
        "no entry above 2^31"
    } else {
        return Ok(());
    };
    Err(IrError::Setting { op, reason, found: format!("{counts:?} and {paddings:?}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_and_sizes_are_checked() {
        assert_eq!(check_spatial("pool", 2, &[&[1, 2], &[3, 4]], &[&[0, -1]]), Ok(()));
        assert!(check_spatial("pool", 2, &[&[1, 2], &[3]], &[]).is_err());
        assert!(check_spatial("pool", 1, &[], &[&[0, 0]]).is_err());
        assert!(check_spatial("pool", 1, &[&[usize::MAX]], &[]).is_err());
        assert!(check_spatial("pool", 1, &[], &[&[i64::MIN]]).is_err());
    }
}
