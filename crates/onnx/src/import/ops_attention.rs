//! Importers of attention and of what models of language use around it.

use anychip_ir::{Builder, DotDims, Prim, ValueId};
use anychip_ops::{Attention, LinearAttention, RotaryEmbedding, Softmax};
use anychip_tensor::{DType, Dim};

use super::call::{Call, ImportError};
use super::table::Row;

type Results = Result<Vec<ValueId>, ImportError>;

pub(crate) const ROWS: &[Row] = &[
    Row::onnx("Attention", 23, attention),
    Row::onnx("LinearAttention", 27, linear_attention),
    Row::onnx("RotaryEmbedding", 23, rotary_embedding),
    Row::preview("FlexAttention", flex_attention),
];

/// `[b, s, heads · d] → [b, heads, s, d]`
pub(super) fn split_heads(
    b: &mut Builder,
    x: ValueId,
    heads: usize,
) -> Result<ValueId, ImportError> {
    let dims = b.dims(x);
    if dims.len() != 3 {
        return Err(ImportError::Invalid(format!(
            "heads lie side by side in [batch, sequence, width], which {} is not",
            b.ty(x)
        )));
    }
    let heads = Dim::Fixed(heads);
    let size = dims[2].floor_div(&heads);
    let split = b.reshape(x, &[dims[0].clone(), dims[1].clone(), heads, size])?;
    Ok(b.transpose(split, &[0, 2, 1, 3])?)
}

/// `[b, heads, s, d] → [b, s, heads · d]`
pub(super) fn join_heads(b: &mut Builder, x: ValueId) -> Result<ValueId, ImportError> {
    let dims = b.dims(x);
    let rows = b.transpose(x, &[0, 2, 1, 3])?;
    let width = dims[1].clone() * dims[3].clone();
    Ok(b.reshape(rows, &[dims[0].clone(), dims[2].clone(), width])?)
}

/// A number of heads, which must be positive.
pub(super) fn heads(call: &Call<'_>, name: &str) -> Result<usize, ImportError> {
    usize::try_from(call.need_int(name)?)
        .ok()
        .filter(|h| (1..=1 << 20).contains(h))
        .ok_or_else(|| call.bad_attribute(name, "is no number of heads"))
}

/// The factor of scores, `1/√d` unless it is given; where only a run tells `d`, the queries carry it.
pub(super) fn scaled_queries(
    call: &mut Call<'_>,
    q: ValueId,
    given: Option<f32>,
) -> Result<(ValueId, f32), ImportError> {
    let size = call.b.dims(q).last().cloned().unwrap_or(Dim::Fixed(1));
    match (given, size.fixed()) {
        (Some(scale), _) => Ok((q, scale)),
        (None, Some(size)) => Ok((q, (1.0 / (size as f64).sqrt()) as f32)),
        (None, None) => {
            let b = &mut *call.b;
            let size = b.dim_value(&size)?;
            let size = b.cast(size, DType::F32)?;
            let root = b.sqrt(size)?;
            let root = b.cast(root, b.dtype(q))?;
            Ok((b.div(q, root)?, 1.0))
        }
    }
}

/// Which keys a query may see, apart from a mask operand.
pub(super) struct Sight {
    /// Keys up to the query's own place.
    pub(super) causal: bool,
    /// How many keys before and after the query's own place; negative is all.
    pub(super) left: i64,
    pub(super) right: i64,
}

/// `bool [s, t]` or `[b, 1, s, t]`: whether key `j` is one that query `i` sees, when `offset` (`i64[]`, or
/// `[b, 1, 1, 1]`) keys come before the first query. `None` when it sees all.
pub(super) fn seen(
    b: &mut Builder,
    queries: &Dim,
    keys: &Dim,
    offset: ValueId,
    sight: &Sight,
) -> Result<Option<ValueId>, ImportError> {
    let rows = b.iota(queries)?;
    let rows = b.unsqueeze(rows, &[1])?;
    let place = b.add(rows, offset)?;
    let columns = b.iota(keys)?;
    let right = match (sight.causal, sight.right) {
        (true, _) => Some(0),
        (false, r) => (r >= 0).then_some(r),
    };
    let mut seen = None;
    if let Some(right) = right {
        let most = b.offset(place, right as f64)?;
        seen = Some(b.le(columns, most)?);
    }
    if sight.left >= 0 {
        let least = b.offset(place, -(sight.left as f64))?;
        let near = b.ge(columns, least)?;
        seen = Some(match seen {
            Some(seen) => b.and(seen, near)?,
            None => near,
        });
    }
    Ok(seen)
}

/// 0 where seen, −∞ elsewhere.
pub(super) fn as_bias(
    b: &mut Builder,
    seen: ValueId,
    dtype: DType,
) -> Result<ValueId, ImportError> {
    let (zero, never) = (b.scalar(dtype, 0.0)?, b.scalar(dtype, f64::NEG_INFINITY)?);
    Ok(b.select(seen, zero, never)?)
}

/// The sum of biases.
pub(super) fn combine(b: &mut Builder, parts: &[ValueId]) -> Result<Option<ValueId>, ImportError> {
    let mut sum = None;
    for &part in parts {
        sum = Some(match sum {
            Some(sum) => b.add(sum, part)?,
            None => part,
        });
    }
    Ok(sum)
}

fn attention(call: &mut Call<'_>) -> Results {
    let (mut q, mut k, mut v) = (call.input(0)?, call.input(1)?, call.input(2)?);
    let flat = call.b.rank(q) == 3;
    if flat {
        let (query_heads, key_heads) = (heads(call, "q_num_heads")?, heads(call, "kv_num_heads")?);
        q = split_heads(call.b, q, query_heads)?;
        k = split_heads(call.b, k, key_heads)?;
        v = split_heads(call.b, v, key_heads)?;
    }
    if [q, k, v].iter().any(|&x| call.b.rank(x) != 4) {
        return Err(call.invalid("queries, keys and values have three or four dims"));
    }
    let (dtype, dims) = (call.b.dtype(q), call.b.dims(q));
    let mut past = None;
    if let (Some(past_key), Some(past_value)) = (call.optional(4), call.optional(5)) {
        past = call.b.dims(past_key).get(2).cloned();
        k = call.b.concat(&[past_key, k], 2)?;
        v = call.b.concat(&[past_value, v], 2)?;
    }
    let (present_key, present_value) = (k, v);
    let (queries, keys) = (dims[2].clone(), call.b.dims(k)[2].clone());
    let lengths = call.optional(6);

    let sight = Sight {
        causal: call.flag("is_causal", false),
        left: call.int("left_window_size", -1),
        right: call.int("right_window_size", -1),
    };
    let mut bias = Vec::new();
    if let Some(mask) = call.optional(3) {
        bias.push(mask_bias(call, mask, &keys, dtype)?);
    }
    // Without a cache or a window, the composite itself leaves out later keys.
    let plain = past.is_none() && lengths.is_none() && sight.left < 0 && sight.right < 0;
    let causal = sight.causal && plain && bias.is_empty();
    if !causal {
        let offset = match (&past, lengths) {
            (Some(past), _) => call.b.dim_value(past)?,
            (None, Some(lengths)) => {
                let each = call.b.unsqueeze(lengths, &[1, 2, 3])?;
                let own = call.b.dim_value(&queries)?;
                call.b.sub(each, own)?
            }
            (None, None) => call.b.scalar(DType::I64, 0.0)?,
        };
        if let Some(seen) = seen(call.b, &queries, &keys, offset, &sight)? {
            bias.push(as_bias(call.b, seen, dtype)?);
        }
    }
    if let Some(lengths) = lengths {
        // Keys past the end of a batch entry are padding.
        let each = call.b.unsqueeze(lengths, &[1, 2, 3])?;
        let places = call.b.iota(&keys)?;
        let valid = call.b.lt(places, each)?;
        bias.push(as_bias(call.b, valid, dtype)?);
    }
    let mask = combine(call.b, &bias)?;

    let scores = if call.outputs > 3 {
        let names = ["raw", "capped", "masked", "weights"];
        let mode = call.int("qk_matmul_output_mode", 0);
        let name = usize::try_from(mode).ok().and_then(|m| names.get(m));
        Some(
            name.ok_or_else(|| call.bad_attribute("qk_matmul_output_mode", "is 0 to 3"))?
                .to_string(),
        )
    } else {
        None
    };
    let (q, scale) = scaled_queries(call, q, call.float_opt("scale"))?;
    let composite = Attention {
        scale,
        causal,
        softcap: call.float("softcap", 0.0),
        softmax_type: call.dtype("softmax_precision")?.filter(|&t| t != dtype),
        scores,
    };
    let mut operands = vec![q, k, v];
    operands.extend(mask);
    let results = call.b.node(composite, &operands, Vec::new())?;
    let y = if flat { join_heads(call.b, results[0])? } else { results[0] };
    let mut all = vec![y, present_key, present_value];
    all.extend(results.get(1));
    Ok(all)
}

/// A mask operand as a bias that covers all keys; those it does not reach are not seen.
pub(super) fn mask_bias(
    call: &mut Call<'_>,
    mask: ValueId,
    keys: &Dim,
    dtype: DType,
) -> Result<ValueId, ImportError> {
    let b = &mut *call.b;
    let bias =
        if b.dtype(mask) == DType::Bool { as_bias(b, mask, dtype)? } else { b.cast(mask, dtype)? };
    let dims = b.dims(bias);
    match dims.last() {
        Some(last) if last != keys && *last != Dim::Fixed(1) => {
            let mut high = vec![Dim::Fixed(0); dims.len()];
            high[dims.len() - 1] = keys.clone() - last.clone();
            let low = b.integers(&vec![0; dims.len()]);
            let high = b.dims_value(&high)?;
            let never = b.scalar(dtype, f64::NEG_INFINITY)?;
            Ok(b.prim(Prim::Pad, &[bias, low, high, never])?)
        }
        _ => Ok(bias),
    }
}

/// Cosines and sines for the places, in a shape that broadcasts against `x` with its heads at `axis`.
pub(super) fn rotation(
    call: &mut Call<'_>,
    cache: ValueId,
    places: Option<ValueId>,
    axis: usize,
) -> Result<ValueId, ImportError> {
    let read = match places {
        Some(places) => call.b.prim(Prim::Take { axis: 0 }, &[cache, places])?,
        None => cache,
    };
    if call.b.rank(read) != 3 {
        return Err(call.invalid("the cosines need [batch, sequence, half of the turned elements]"));
    }
    Ok(call.b.unsqueeze(read, &[axis])?)
}

fn rotary_embedding(call: &mut Call<'_>) -> Results {
    let x = call.input(0)?;
    let (cos, sin, places) = (call.input(1)?, call.input(2)?, call.optional(3));
    let dims = call.b.dims(x);
    let flat = dims.len() == 3;
    if !flat && dims.len() != 4 {
        return Err(call.invalid("takes three or four dims"));
    }
    // Heads lie behind the sequence in the flat form and before it in the other.
    let (x, axis) = if flat {
        let heads = Dim::Fixed(heads(call, "num_heads")?);
        let size = dims[2].floor_div(&heads);
        let split = [dims[0].clone(), dims[1].clone(), heads, size];
        (call.b.reshape(x, &split)?, 2)
    } else {
        (x, 1)
    };
    let (cos, sin) = (rotation(call, cos, places, axis)?, rotation(call, sin, places, axis)?);
    let turned = match usize::try_from(call.int("rotary_embedding_dim", 0)).unwrap_or(0) {
        0 => call.b.dims(x)[3]
            .fixed()
            .ok_or(ImportError::NeedsSizes { input: 0, what: "how many elements are turned" })?,
        turned => turned,
    };
    let embedding = RotaryEmbedding { interleaved: call.flag("interleaved", false), turned };
    let y = call.b.composite(embedding, &[x, cos, sin])?;
    Ok(vec![call.b.reshape(y, &dims)?])
}

fn linear_attention(call: &mut Call<'_>) -> Results {
    let (q, k, v) = (call.input(0)?, call.input(1)?, call.input(2)?);
    let (query_heads, key_heads) = (heads(call, "q_num_heads")?, heads(call, "kv_num_heads")?);
    let rule = call.string("update_rule", "gated_delta");
    let (gated, delta) = match rule.as_str() {
        "linear" => (false, false),
        "gated" => (true, false),
        "delta" => (false, true),
        "gated_delta" => (true, true),
        _ => return Err(call.bad_attribute("update_rule", "is not a rule")),
    };
    let dtype = call.b.dtype(q);
    // [b, t, heads · d] → [t, b, heads, d] in 32 bits
    let spread = |call: &mut Call<'_>, x: ValueId, heads: usize| -> Result<ValueId, ImportError> {
        let wide = call.b.cast(x, DType::F32)?;
        let dims = call.b.dims(wide);
        if dims.len() != 3 {
            return Err(call.invalid("operands have [batch, sequence, width]"));
        }
        let heads = Dim::Fixed(heads);
        let size = dims[2].floor_div(&heads);
        let split = call.b.reshape(wide, &[dims[0].clone(), dims[1].clone(), heads, size])?;
        Ok(call.b.transpose(split, &[1, 0, 2, 3])?)
    };
    let (wide_q, wide_k, wide_v) =
        (spread(call, q, query_heads)?, spread(call, k, key_heads)?, spread(call, v, key_heads)?);
    let (key_dims, value_dims) = (call.b.dims(wide_k), call.b.dims(wide_v));
    let (state, state_type) = if let Some(state) = call.optional(3) {
        (call.b.cast(state, DType::F32)?, call.b.dtype(state))
    } else {
        let zero = call.b.scalar(DType::F32, 0.0)?;
        let shape =
            [key_dims[1].clone(), key_dims[2].clone(), key_dims[3].clone(), value_dims[3].clone()];
        (call.b.broadcast(zero, &shape)?, dtype)
    };
    let mut operands = vec![wide_q, wide_k, wide_v, state];
    if gated {
        let decay = call.input(4)?;
        operands.push(spread(call, decay, key_heads)?);
    }
    if delta {
        let rate = call.input(5)?;
        let width = call.b.dims(rate).get(2).and_then(Dim::fixed);
        let groups = if width == Some(1) { 1 } else { key_heads };
        operands.push(spread(call, rate, groups)?);
    }
    let given = call.float_opt("scale").filter(|&s| s != 0.0);
    let (wide_q, scale) = scaled_queries(call, wide_q, given)?;
    operands[0] = wide_q;
    let composite = LinearAttention { scale, decay: gated, rate: delta };
    let results = call.b.node(composite, &operands, Vec::new())?;
    // [t, b, h, e] → [b, t, h · e]
    let y = call.b.transpose(results[0], &[1, 0, 2, 3])?;
    let dims = call.b.dims(y);
    let width = dims[2].clone() * dims[3].clone();
    let y = call.b.reshape(y, &[dims[0].clone(), dims[1].clone(), width])?;
    Ok(vec![call.b.cast(y, dtype)?, call.b.cast(results[1], state_type)?])
}

/// Attention whose scores and weights pass through sub-graphs.
fn flex_attention(call: &mut Call<'_>) -> Results {
    let (q, mut k, mut v) = (call.input(0)?, call.input(1)?, call.input(2)?);
    if [q, k, v].iter().any(|&x| call.b.rank(x) != 4) {
        return Err(call.invalid("queries, keys and values have four dims"));
    }
    let dtype = call.b.dtype(q);
    let default = if dtype == DType::F64 { dtype } else { DType::F32 };
    let wide = call.dtype("softmax_precision")?.unwrap_or(default);
    let (dims, groups) = (call.b.dims(q), call.b.dims(k)[1].clone());
    if dims[1] != groups {
        // Each key head for the query heads that share it.
        let share = dims[1].floor_div(&groups);
        for x in [&mut k, &mut v] {
            let own = call.b.dims(*x);
            let split = call.b.unsqueeze(*x, &[2])?;
            let repeated =
                [own[0].clone(), own[1].clone(), share.clone(), own[2].clone(), own[3].clone()];
            let repeated = call.b.broadcast(split, &repeated)?;
            let heads = [own[0].clone(), dims[1].clone(), own[2].clone(), own[3].clone()];
            *x = call.b.reshape(repeated, &heads)?;
        }
    }
    let per_head = |contract| DotDims {
        lhs_batch: vec![0, 1],
        rhs_batch: vec![0, 1],
        lhs_contract: vec![3],
        rhs_contract: vec![contract],
    };
    let (q, scale) = scaled_queries(call, q, call.float_opt("scale"))?;
    let scores = call.b.prim(Prim::DotGeneral(per_head(3), wide), &[q, k])?;
    let scores = call.b.scale(scores, f64::from(scale))?;
    let scores = modified(call, "score_mod", scores)?;
    let weights = call.b.composite(Softmax { axis: 3 }, &[scores])?;
    let weights = modified(call, "prob_mod", weights)?;
    let weights = call.b.cast(weights, dtype)?;
    Ok(vec![call.b.prim(Prim::DotGeneral(per_head(2), dtype), &[weights, v])?])
}

/// What the sub-graph of the attribute makes of `x`; without one, `x`.
fn modified(call: &mut Call<'_>, name: &str, x: ValueId) -> Result<ValueId, ImportError> {
    if !call.has(name) {
        return Ok(x);
    }
    let graph = call.graph(name)?.clone();
    let results = call.inline_graph(&graph, &[x])?;
    results.first().copied().ok_or_else(|| call.bad_attribute(name, "gives no result"))
}
