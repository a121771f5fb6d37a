//! The discrete Fourier transform.

use anychip_ir::{Builder, DotDims, Expand, IrError, Prim, ValueId, composite, operands};
use anychip_tensor::{DType, Dim, Tensor};

composite! {
    /// `(x […, n, …, 1 or 2]) → […, m, …, 2]` along `axis`, the last dim real and imaginary part:
    /// `yₖ = Σⱼ xⱼ e^(−2πijk/n)`, or with `inverse` `1/n Σⱼ xⱼ e^(2πijk/n)`. With `one_sided` only the first `n/2 + 1`
    /// of the `n` results are kept; with both, `x` holds those and the result is the real signal of `length`,
    /// `[…, length, …, 1]`.
    pub struct Dft = "dft" {
        /// Which dim is transformed.
        pub axis: usize,
        /// From frequencies to a signal.
        pub inverse: bool,
        /// Half of the spectrum of a real signal.
        pub one_sided: bool,
        /// Length of the signal when half of its spectrum is given; else unused.
        pub length: usize,
    }
    example: Dft { axis: 1, inverse: false, one_sided: true, length: 0 }
}

impl Expand for Dft {
    fn expand(&self, b: &mut Builder, x: &[ValueId]) -> Result<Vec<ValueId>, IrError> {
        let [x] = operands("dft", x)?;
        let dims = b.dims(x);
        let last = dims.len().saturating_sub(1);
        if self.axis >= last {
            return Err(IrError::Setting {
                op: "dft",
                reason: "the axis must lie before the dim of real and imaginary parts",
                found: self.axis.to_string(),
            });
        }
        let Some(parts @ (1 | 2)) = dims[last].fixed() else {
            return Err(IrError::Shapes {
                op: "dft",
                reason: "the last dim holds real and imaginary parts",
                types: vec![b.ty(x).clone()],
            });
        };
        let dtype = b.dtype(x);
        let given = dims[self.axis].clone();
        let to_real = self.inverse && self.one_sided;
        let n = if to_real { Dim::Fixed(self.length) } else { given.clone() };
        let kept = if self.one_sided && !self.inverse {
            n.floor_div(&Dim::Fixed(2)) + Dim::Fixed(1)
        } else {
            n.clone()
        };
        // cos and sin of 2πjk/n, [given, kept]; jk is reduced modulo n first, which keeps the angle exact.
        let rows = b.iota(&given)?;
        let rows = b.unsqueeze(rows, &[1])?;
        let columns = b.iota(&kept)?;
        let product = b.mul(rows, columns)?;
        let period = b.dim_value(&n)?;
        let turns = b.rem(product, period)?;
        let turns = b.cast(turns, DType::F64)?;
        let angle = b.scale(turns, 2.0 * std::f64::consts::PI)?;
        let period = b.cast(period, DType::F64)?;
        let angle = b.div(angle, period)?;
        let (mut cos, mut sin) = (b.cos(angle)?, b.sin(angle)?);
        if self.inverse {
            (cos, sin) = (b.div(cos, period)?, b.div(sin, period)?);
        } else {
            sin = b.neg(sin)?;
        }
        if to_real {
            // The half that is not given mirrors the given one, so its terms count twice.
            let weight = self.mirrored(b, &given)?;
            (cos, sin) = (b.mul(cos, weight)?, b.mul(sin, weight)?);
        }
        let (cos, sin) = (b.cast(cos, dtype)?, b.cast(sin, dtype)?);
        let real = b.index(x, last, 0)?;
        let imaginary = if parts == 2 { Some(b.index(x, last, 1)?) } else { None };
        let sum = |b: &mut Builder, factor: ValueId, of: ValueId| -> Result<ValueId, IrError> {
            let contraction = DotDims {
                lhs_contract: vec![self.axis],
                rhs_contract: vec![0],
                ..DotDims::default()
            };
            b.prim(Prim::DotGeneral(contraction, dtype), &[of, factor])
        };
        let mut out_real = sum(b, cos, real)?;
        let mut results = Vec::new();
        if let Some(imaginary) = imaginary {
            let term = sum(b, sin, imaginary)?;
            out_real = b.sub(out_real, term)?;
        }
        results.push(out_real);
        if !to_real {
            let mut out_imaginary = sum(b, sin, real)?;
            if let Some(imaginary) = imaginary {
                let term = sum(b, cos, imaginary)?;
                out_imaginary = b.add(out_imaginary, term)?;
            }
            results.push(out_imaginary);
        }
        // The transformed dim came out last; put it back and the parts behind.
        let mut permutation: Vec<usize> = (0..last - 1).collect();
        permutation.insert(self.axis, last - 1);
        let mut parts = Vec::new();
        for result in results {
            let placed = b.transpose(result, &permutation)?;
            parts.push(b.unsqueeze(placed, &[last])?);
        }
        Ok(vec![b.concat(&parts, last)?])
    }
}

impl Dft {
    /// 2 for frequencies with a mirror image, 1 for 0 and for half the length, `[given, 1]`.
    fn mirrored(&self, b: &mut Builder, given: &Dim) -> Result<ValueId, IrError> {
        let order = b.iota(given)?;
        let zero = b.constant(Tensor::scalar(0i64));
        let twice = b.add(order, order)?;
        let length = b.constant(Tensor::scalar(self.length as i64));
        let (own, middle) = (b.eq(order, zero)?, b.eq(twice, length)?);
        let alone = b.or(own, middle)?;
        let (one, two) = (b.scalar(DType::F64, 1.0)?, b.scalar(DType::F64, 2.0)?);
        let weight = b.select(alone, one, two)?;
        b.unsqueeze(weight, &[1])
    }
}
