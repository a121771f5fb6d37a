//! Loops that composites expand to: a counted loop, and a recurrent cell run along a sequence.

use anychip_ir::{Builder, DotDims, IrError, Prim, TensorType, ValueId};
use anychip_tensor::{DType, Dim, Tensor};

/// What a loop body gives back: the carried values and those that are stacked.
pub(crate) type Step = (Vec<ValueId>, Vec<ValueId>);

/// Runs `body(builder, iteration, carried, captures)` `trips` times; returns the last carried values, then the
/// stacked ones.
pub(crate) fn counted_loop(
    b: &mut Builder,
    trips: ValueId,
    carried: &[ValueId],
    captures: &[ValueId],
    body: impl FnOnce(&mut Builder, ValueId, &[ValueId], &[ValueId]) -> Result<Step, IrError>,
) -> Result<Vec<ValueId>, IrError> {
    loop_while(b, trips, carried, captures, |b, iteration, carried, captures| {
        let step = body(b, iteration, carried, captures)?;
        Ok((b.constant(Tensor::from_bools([], [true])?), step))
    })
}

/// As [`counted_loop`], ending early when the body's first result, a `bool[]`, is false.
pub(crate) fn loop_while(
    b: &mut Builder,
    trips: ValueId,
    carried: &[ValueId],
    captures: &[ValueId],
    body: impl FnOnce(&mut Builder, ValueId, &[ValueId], &[ValueId]) -> Result<(ValueId, Step), IrError>,
) -> Result<Vec<ValueId>, IrError> {
    let mut inner = b.region("body");
    let iteration = inner.input("iteration", TensorType::scalar(DType::I64));
    let mut enter = |values: &[ValueId]| -> Vec<ValueId> {
        values.iter().map(|&v| inner.input("", b.ty(v).clone())).collect()
    };
    let (state, outside) = (enter(carried), enter(captures));
    let (again, (state, stacked)) = body(&mut inner, iteration, &state, &outside)?;
    let outputs = [&[again], state.as_slice(), stacked.as_slice()].concat();
    let region = inner.finish(&outputs);
    let start = b.constant(Tensor::from_bools([], [true])?);
    let operands = [&[trips, start], carried, captures].concat();
    b.node(Prim::Loop { carried: carried.len() }, &operands, vec![region])
}

/// One direction of a recurrent layer.
pub(crate) struct Direction<'a> {
    /// The input's share of the gates, `[sequence, batch, gates · hidden]`.
    pub(crate) gates: ValueId,
    /// Valid steps of each batch entry, `i64[batch]`; later ones leave the state and give zeros.
    pub(crate) lengths: Option<ValueId>,
    /// The first states, `[batch, hidden]` each; the first one is the layer's output.
    pub(crate) states: &'a [ValueId],
    /// What the cell needs besides.
    pub(crate) captures: &'a [ValueId],
    /// From the last step to the first.
    pub(crate) reverse: bool,
}

impl Direction<'_> {
    /// Runs `cell(builder, gates [batch, gates · hidden], states, captures) → states` along the sequence.
    /// Returns the outputs `[sequence, batch, hidden]`, then the last states.
    pub(crate) fn run(
        &self,
        b: &mut Builder,
        cell: impl Fn(&mut Builder, ValueId, &[ValueId], &[ValueId]) -> Result<Vec<ValueId>, IrError>,
    ) -> Result<Vec<ValueId>, IrError> {
        let steps: Dim = b.dims(self.gates)[0].clone();
        let trips = b.dim_value(&steps)?;
        let mut captures = vec![self.gates];
        captures.extend(self.lengths);
        let own = captures.len();
        captures.extend_from_slice(self.captures);
        let results = counted_loop(b, trips, self.states, &captures, |b, i, states, captures| {
            let step = if self.reverse {
                let last = b.dim_value(&(steps.clone() - Dim::Fixed(1)))?;
                b.sub(last, i)?
            } else {
                i
            };
            let gates = b.prim(Prim::Take { axis: 0 }, &[captures[0], step])?;
            let mut next = cell(b, gates, states, &captures[own..])?;
            let mut output = next[0];
            if self.lengths.is_some() {
                let valid = b.lt(step, captures[1])?;
                let valid = b.unsqueeze(valid, &[1])?;
                for (new, &old) in next.iter_mut().zip(states) {
                    *new = b.select(valid, *new, old)?;
                }
                let zero = b.scalar_like(output, 0.0)?;
                output = b.select(valid, output, zero)?;
            }
            Ok((next, vec![output]))
        })?;
        let (last, stacked) = results.split_at(self.states.len());
        let outputs = if self.reverse { b.reverse(stacked[0], 0)? } else { stacked[0] };
        Ok([&[outputs], last].concat())
    }
}

/// Puts the results of the directions together: outputs `[sequence, directions, batch, hidden]`, then each
/// state as `[directions, batch, hidden]`.
pub(crate) fn join_directions(
    b: &mut Builder,
    directions: &[Vec<ValueId>],
) -> Result<Vec<ValueId>, IrError> {
    let results = directions.first().map_or(0, Vec::len);
    (0..results)
        .map(|i| {
            let axis = usize::from(i == 0);
            let parts: Vec<ValueId> =
                directions.iter().map(|d| b.unsqueeze(d[i], &[axis])).collect::<Result<_, _>>()?;
            b.concat(&parts, axis)
        })
        .collect()
}

/// Which directions of `"forward"`, `"reverse"` or `"bidirectional"` run from the end.
pub(crate) fn directions(op: &'static str, direction: &str) -> Result<Vec<bool>, IrError> {
    match direction {
        "forward" => Ok(vec![false]),
        "reverse" => Ok(vec![true]),
        "bidirectional" => Ok(vec![false, true]),
        other => Err(IrError::Setting {
            op,
            reason: "the direction is forward, reverse or bidirectional",
            found: other.to_string(),
        }),
    }
}

/// `x[…]ᵀ`: `x [sequence, batch, input]` or `[batch, input]` times a matrix `[rows, input]`.
pub(crate) fn times_transposed(
    b: &mut Builder,
    x: ValueId,
    w: ValueId,
) -> Result<ValueId, IrError> {
    let dims = DotDims {
        lhs_contract: vec![b.rank(x).saturating_sub(1)],
        rhs_contract: vec![1],
        ..DotDims::default()
    };
    let dtype = b.dtype(x);
    b.prim(Prim::DotGeneral(dims, dtype), &[x, w])
}

/// Part `i` of `x`'s last dim, which holds parts of `size` each.
pub(crate) fn part(
    b: &mut Builder,
    x: ValueId,
    axis: usize,
    i: usize,
    size: &Dim,
) -> Result<ValueId, IrError> {
    let start = Dim::Fixed(i) * size.clone();
    b.slice(x, axis, &start, &(start.clone() + size.clone()))
}
