//! Windows over spatial dims: strides, dilations and padding as attributes give them.

use anychip_ir::{Prim, ValueId};
use anychip_tensor::Dim;

use crate::import::call::{Call, ImportError};

/// Windows over the dims after batch and channel; each vector has one entry a spatial dim.
pub(crate) struct Windows {
    pub(crate) size: Vec<usize>,
    pub(crate) strides: Vec<usize>,
    pub(crate) dilation: Vec<usize>,
    /// Positions before and after.
    pub(crate) padding: Vec<(i64, i64)>,
    /// Positions to add before and after that depend on sizes only a run tells; all 0 otherwise.
    pub(crate) symbolic: Vec<(Dim, Dim)>,
}

/// Larger strides, kernels and paddings are mistakes; the limit keeps arithmetic on them exact.
pub(crate) const LARGEST: i64 = 1 << 24;

/// An attribute of positive whole numbers, one a spatial dim.
pub(crate) fn positive(
    call: &Call<'_>,
    name: &str,
    spatial: usize,
) -> Result<Vec<usize>, ImportError> {
    let Some(values) = call.ints(name) else { return Ok(vec![1; spatial]) };
    let values: Option<Vec<usize>> =
        values.iter().map(|&v| (1..=LARGEST).contains(&v).then_some(v as usize)).collect();
    values
        .filter(|v| v.len() == spatial)
        .ok_or_else(|| call.bad_attribute(name, "needs a positive number for each spatial dim"))
}

/// The sizes of a kernel operand's spatial dims, which must be numbers.
pub(crate) fn kernel_size(
    call: &Call<'_>,
    w: ValueId,
    input: usize,
) -> Result<Vec<usize>, ImportError> {
    let dims = call.b.dims(w);
    if dims.len() < 3 {
        return Err(call.invalid("the kernel needs output, input and spatial dims"));
    }
    dims[2..]
        .iter()
        .map(|d| match d.fixed() {
            Some(n) if n as i64 <= LARGEST => Ok(n),
            Some(_) => Err(call.invalid("the kernel is too large")),
            None => Err(ImportError::NeedsSizes { input, what: "the size of the kernel" }),
        })
        .collect()
}

impl Windows {
    /// Windows of `size` over the dims of `x` after batch and channel, with padding as `pads` or `auto_pad` say.
    pub(crate) fn new(
        call: &Call<'_>,
        x: ValueId,
        size: Vec<usize>,
    ) -> Result<Windows, ImportError> {
        let dims = call.b.dims(x);
        let spatial = size.len();
        if dims.len() != spatial + 2 {
            return Err(call.invalid(format!(
                "an operand of type {} does not have the {spatial} spatial dims of the window",
                call.b.ty(x)
            )));
        }
        let strides = positive(call, "strides", spatial)?;
        let dilation = positive(call, "dilations", spatial)?;
        let none = (Dim::Fixed(0), Dim::Fixed(0));
        let mut windows = Windows {
            size,
            strides,
            dilation,
            padding: vec![(0, 0); spatial],
            symbolic: vec![none; spatial],
        };
        let auto = call.string("auto_pad", "NOTSET");
        match auto.as_str() {
            "NOTSET" | "" => {
                if let Some(pads) = call.ints("pads") {
                    if pads.len() != 2 * spatial
                        || pads.iter().any(|p| !(-LARGEST..=LARGEST).contains(p))
                    {
                        return Err(
                            call.bad_attribute("pads", "needs two numbers for each spatial dim")
                        );
                    }
                    windows.padding = (0..spatial).map(|i| (pads[i], pads[spatial + i])).collect();
                }
            }
            "VALID" => {}
            "SAME_UPPER" | "SAME_LOWER" => windows.same(&dims[2..], auto == "SAME_LOWER"),
            _ => return Err(call.bad_attribute("auto_pad", "is not a way to pad")),
        }
        Ok(windows)
    }

    /// The places a window reaches over.
    pub(crate) fn span(&self, i: usize) -> usize {
        (self.size[i].max(1) - 1) * self.dilation[i] + 1
    }

    /// Pads so that there are `⌈size / stride⌉` windows.
    fn same(&mut self, dims: &[Dim], lower: bool) {
        for (i, dim) in dims.iter().enumerate() {
            let (stride, span) = (self.strides[i], self.span(i));
            let split = |total: usize| {
                let (small, large) = (total / 2, total - total / 2);
                if lower { (large as i64, small as i64) } else { (small as i64, large as i64) }
            };
            match dim.fixed() {
                Some(n) => {
                    let out = n.div_ceil(stride);
                    let total = (out.max(1) - 1) * stride + span;
                    self.padding[i] = split(total.saturating_sub(n));
                }
                None if stride == 1 => self.padding[i] = split(span - 1),
                None => {
                    let last = dim.ceil_div(stride) - Dim::Fixed(1);
                    let total = (last * Dim::Fixed(stride) + Dim::Fixed(span) - dim.clone())
                        .maximum(&Dim::Fixed(0));
                    let small = total.floor_div(&Dim::Fixed(2));
                    let large = total - small.clone();
                    self.symbolic[i] = if lower { (large, small) } else { (small, large) };
                }
            }
        }
    }

    /// Whether some padding depends on sizes that only a run tells.
    pub(crate) fn is_symbolic(&self) -> bool {
        self.symbolic.iter().any(|pair| *pair != (Dim::Fixed(0), Dim::Fixed(0)))
    }

    /// `x` with the padding that only a run tells, filled with `value`.
    pub(crate) fn pad(
        &self,
        call: &mut Call<'_>,
        x: ValueId,
        value: ValueId,
    ) -> Result<ValueId, ImportError> {
        if !self.is_symbolic() {
            return Ok(x);
        }
        let amounts = |high: bool| -> Vec<Dim> {
            let own = self.symbolic.iter().map(|(l, h)| if high { h.clone() } else { l.clone() });
            [Dim::Fixed(0), Dim::Fixed(0)].into_iter().chain(own).collect()
        };
        let low = call.b.dims_value(&amounts(false))?;
        let high = call.b.dims_value(&amounts(true))?;
        Ok(call.b.prim(Prim::Pad, &[x, low, high, value])?)
    }

    /// How far windows reach past the padding when their number is rounded up, and the most windows along each
    /// dim where that is less than what then fits (`None` where all count).
    pub(crate) fn round_up(&self, dims: &[Dim]) -> (Vec<i64>, Vec<Option<Dim>>) {
        let mut overhang = Vec::new();
        let mut most = Vec::new();
        for (i, dim) in dims.iter().enumerate() {
            let (stride, (low, high)) = (self.strides[i], self.padding[i]);
            match dim.constant() {
                Some(n) => {
                    let room = n + low + high - self.span(i) as i64;
                    let step = stride as i64;
                    let mut out = (room + step - 1).div_euclid(step) + 1;
                    // A window that would start in the padding after the elements does not count.
                    if (out - 1) * step >= n + low {
                        out -= 1;
                    }
                    overhang.push(((out - 1) * step - room).max(0));
                    most.push((room.div_euclid(step) + 1 > out).then(|| Dim::from_i64(out)));
                }
                None if stride == 1 => {
                    overhang.push(0);
                    most.push(None);
                }
                None => {
                    overhang.push(stride as i64 - 1);
                    most.push(Some((dim.clone() + Dim::from_i64(low)).ceil_div(stride)));
                }
            }
        }
        (overhang, most)
    }
}
