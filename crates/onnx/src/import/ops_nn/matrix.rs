//! Products of matrices, and determinants.

use anychip_ir::{DotDims, Prim, ValueId};
use anychip_ops::Determinant;

use crate::import::call::{Call, ImportError};

type Results = Result<Vec<ValueId>, ImportError>;

pub(super) fn matmul(call: &mut Call<'_>) -> Results {
    let (x, w) = (call.input(0)?, call.input(1)?);
    let dtype = call.b.dtype(x);
    Ok(vec![call.b.matmul(x, w, dtype)?])
}

/// `alpha · a b + beta · c`, the transposes folded into which dims are contracted.
pub(in crate::import) fn gemm(call: &mut Call<'_>) -> Results {
    let (x, w) = (call.input(0)?, call.input(1)?);
    if call.b.rank(x) != 2 || call.b.rank(w) != 2 {
        return Err(call.invalid("takes matrices"));
    }
    let dims = DotDims {
        lhs_contract: vec![usize::from(!call.flag("transA", false))],
        rhs_contract: vec![usize::from(call.flag("transB", false))],
        ..DotDims::default()
    };
    let dtype = call.b.dtype(x);
    let mut y = call.b.prim(Prim::DotGeneral(dims, dtype), &[x, w])?;
    let (alpha, beta) = (call.float("alpha", 1.0), call.float("beta", 1.0));
    if alpha != 1.0 {
        y = call.b.scale(y, f64::from(alpha))?;
    }
    if let Some(mut c) = call.optional(2) {
        if beta != 1.0 {
            c = call.b.scale(c, f64::from(beta))?;
        }
        y = call.b.add(y, c)?;
    }
    Ok(vec![y])
}

pub(super) fn det(call: &mut Call<'_>) -> Results {
    let x = call.input(0)?;
    Ok(vec![call.b.composite(Determinant {}, &[x])?])
}
