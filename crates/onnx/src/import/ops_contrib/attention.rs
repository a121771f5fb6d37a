//! Attention with the projections or the caches built in.

use anychip_ir::{Prim, ValueId};
use anychip_ops::Attention;
use anychip_tensor::{DType, Dim};

use crate::import::call::{Call, ImportError};
use crate::import::ops_attention::{
    Sight, as_bias, combine, heads, join_heads, scaled_queries, seen, split_heads,
};
use crate::import::ops_quantize::{centered, per_column};

type Results = Result<Vec<ValueId>, ImportError>;

/// A mask operand of ONNX Runtime as a bias that broadcasts to `[b, h, s, t]`: `mask_filter_value` where it is 0.
fn mask(
    call: &mut Call<'_>,
    mask: ValueId,
    keys: &Dim,
    dtype: DType,
) -> Result<ValueId, ImportError> {
    let filter = f64::from(call.float("mask_filter_value", -10000.0));
    let b = &mut *call.b;
    let visible = match b.rank(mask) {
        // The number of keys of each batch entry.
        1 => {
            let lengths = b.cast(mask, DType::I64)?;
            let lengths = b.unsqueeze(lengths, &[1, 2, 3])?;
            let places = b.iota(keys)?;
            b.lt(places, lengths)?
        }
        rank @ 2..=4 => {
            let zero = b.scalar_like(mask, 0.0)?;
            let visible = b.gt(mask, zero)?;
            match rank {
                2 => b.unsqueeze(visible, &[1, 2])?,
                3 => b.unsqueeze(visible, &[1])?,
                _ => visible,
            }
        }
        _ => return Err(call.invalid("a mask has one to four dims")),
    };
    let (zero, filter) = (call.b.scalar(dtype, 0.0)?, call.b.scalar(dtype, filter)?);
    Ok(call.b.select(visible, zero, filter)?)
}

/// How many keys there are, in operands of four dims each.
fn keys_of(call: &Call<'_>, heads: [ValueId; 3]) -> Result<Dim, ImportError> {
    if heads.iter().any(|&x| call.b.rank(x) != 4) {
        return Err(call.invalid("queries, keys and values do not split into heads"));
    }
    Ok(call.b.dims(heads[1])[2].clone())
}

/// The composite with what the two operators share: the scale, a mask, and a causal limit after `past` keys.
fn core(
    call: &mut Call<'_>,
    [q, k, v]: [ValueId; 3],
    mut bias: Vec<ValueId>,
    past: &Dim,
    scores: bool,
) -> Results {
    let (dims, keys, dtype) = (call.b.dims(q), keys_of(call, [q, k, v])?, call.b.dtype(q));
    if call.flag("unidirectional", false) {
        let offset = call.b.dim_value(past)?;
        let sight = Sight { causal: true, left: -1, right: -1 };
        if let Some(seen) = seen(call.b, &dims[2], &keys, offset, &sight)? {
            bias.push(as_bias(call.b, seen, dtype)?);
        }
    }
    let given = call.float_opt("scale").filter(|&s| s != 0.0);
    let (q, scale) = scaled_queries(call, q, given)?;
    let mut operands = vec![q, k, v];
    operands.extend(combine(call.b, &bias)?);
    let composite =
        Attention { scores: scores.then(|| "masked".to_string()), ..Attention::new(scale, false) };
    Ok(call.b.node(composite, &operands, Vec::new())?)
}

/// Queries, keys and values side by side → heads, attention, and the cache `[2, b, h, t, d]`.
fn projected(
    call: &mut Call<'_>,
    all: ValueId,
    [own_q, own_k, _]: &[Dim; 3],
    mask_input: usize,
    past_input: usize,
    bias_input: Option<usize>,
) -> Results {
    let count = heads(call, "num_heads")?;
    if call.flag("do_rotary", false) || call.flag("past_present_share_buffer", false) {
        return Err(call.unsupported("a built-in rotary embedding or a shared cache"));
    }
    let end = call.b.dims(all)[2].clone();
    let middle = own_q.clone() + own_k.clone();
    let q = call.b.slice(all, 2, &Dim::Fixed(0), own_q)?;
    let k = call.b.slice(all, 2, own_q, &middle)?;
    let v = call.b.slice(all, 2, &middle, &end)?;
    let q = split_heads(call.b, q, count)?;
    let mut k = split_heads(call.b, k, count)?;
    let mut v = split_heads(call.b, v, count)?;
    let mut past_size = Dim::Fixed(0);
    if let Some(past) = call.optional(past_input) {
        past_size = call.b.dims(past).get(3).cloned().unwrap_or(Dim::Fixed(0));
        let (past_k, past_v) = (call.b.index(past, 0, 0)?, call.b.index(past, 0, 1)?);
        k = call.b.concat(&[past_k, k], 2)?;
        v = call.b.concat(&[past_v, v], 2)?;
    }
    let (keys, dtype) = (keys_of(call, [q, k, v])?, call.b.dtype(q));
    let mut bias = Vec::new();
    if let Some(given) = call.optional(mask_input) {
        let batch = call.b.dims(q)[0].fixed();
        let long = call.b.rank(given) == 1
            && batch.is_some_and(|n| call.b.dims(given)[0].fixed().is_some_and(|m| m != n));
        if long {
            return Err(call.unsupported("a mask of starts and ends"));
        }
        bias.push(mask(call, given, &keys, dtype)?);
    }
    bias.extend(bias_input.and_then(|i| call.optional(i)));
    let y = core(call, [q, k, v], bias, &past_size, false)?[0];
    let y = join_heads(call.b, y)?;
    if call.outputs < 2 {
        return Ok(vec![y]);
    }
    let (first, second) = (call.b.unsqueeze(k, &[0])?, call.b.unsqueeze(v, &[0])?);
    Ok(vec![y, call.b.concat(&[first, second], 0)?])
}

/// The sizes of queries, keys and values in a merged projection.
fn parts(call: &Call<'_>, all: ValueId) -> Result<[Dim; 3], ImportError> {
    let dims = call.b.dims(all);
    let (Some(width), 3) = (dims.last(), dims.len()) else {
        return Err(call.invalid("the operand needs [batch, sequence, width]"));
    };
    match call.ints("qkv_hidden_sizes").as_deref() {
        Some(&[q, k, v]) => Ok([q, k, v].map(Dim::from_i64)),
        Some(_) => Err(call.bad_attribute("qkv_hidden_sizes", "needs three sizes")),
        None => {
            let third = width.floor_div(&Dim::Fixed(3));
            Ok([third.clone(), third.clone(), third])
        }
    }
}

pub(super) fn attention(call: &mut Call<'_>) -> Results {
    let (x, w) = (call.input(0)?, call.input(1)?);
    let dtype = call.b.dtype(x);
    let mut all = call.b.matmul(x, w, dtype)?;
    if let Some(bias) = call.optional(2) {
        all = call.b.add(all, bias)?;
    }
    let sizes = parts(call, all)?;
    projected(call, all, &sizes, 3, 4, Some(5))
}

pub(super) fn quantized(call: &mut Call<'_>) -> Results {
    let (x, w, bias) = (call.input(0)?, call.input(1)?, call.input(2)?);
    let (scale_x, scale_w) = (call.input(3)?, call.input(4)?);
    let (zero_x, zero_w) = (call.optional(6), call.optional(7));
    let x = centered(call, x, zero_x, per_column)?;
    let w = centered(call, w, zero_w, per_column)?;
    let product = call.b.matmul(x, w, DType::I32)?;
    let dtype = call.b.dtype(bias);
    let product = call.b.cast(product, dtype)?;
    let (scale_x, scale_w) = (per_column(call, scale_x)?, per_column(call, scale_w)?);
    let scale = call.b.mul(scale_x, scale_w)?;
    let all = call.b.mul(product, scale)?;
    let all = call.b.add(all, bias)?;
    let sizes = parts(call, all)?;
    projected(call, all, &sizes, 5, 8, None)
}

pub(super) fn multi_head(call: &mut Call<'_>) -> Results {
    let count = heads(call, "num_heads")?;
    let query = call.input(0)?;
    if call.optional(8).is_some() || call.optional(9).is_some() {
        return Err(call.unsupported("a shared cache or a beam's indirection"));
    }
    let (key, value) = (call.optional(1), call.optional(2));
    // Part `i` of `[b, s, h, parts, d]` as `[b, h, s, d]`.
    let part = |call: &mut Call<'_>, packed: ValueId, i: i64| -> Result<ValueId, ImportError> {
        let one = call.b.index(packed, 3, i)?;
        Ok(call.b.transpose(one, &[0, 2, 1, 3])?)
    };
    // The bias of the projections lies side by side: queries, keys, values.
    let bias = call.optional(3);
    let mut offset = Dim::Fixed(0);
    let mut biased = |call: &mut Call<'_>, x: ValueId| -> Result<ValueId, ImportError> {
        let Some(bias) = bias else { return Ok(x) };
        let width = call.b.dims(x).get(2).cloned().unwrap_or(Dim::Fixed(0));
        let end = offset.clone() + width;
        let own = call.b.slice(bias, 0, &offset, &end)?;
        offset = end;
        Ok(call.b.add(x, own)?)
    };
    let (q, mut k, mut v) = match (call.b.rank(query), key, value) {
        (5, None, None) => (part(call, query, 0)?, part(call, query, 1)?, part(call, query, 2)?),
        (3, Some(key), None) if call.b.rank(key) == 5 => {
            let query = biased(call, query)?;
            let q = split_heads(call.b, query, count)?;
            (q, part(call, key, 0)?, part(call, key, 1)?)
        }
        (3, Some(key), Some(value)) if call.b.rank(key) == 4 => {
            let query = biased(call, query)?;
            (split_heads(call.b, query, count)?, key, value)
        }
        (3, Some(key), Some(value)) => {
            let (query, key, value) =
                (biased(call, query)?, biased(call, key)?, biased(call, value)?);
            (
                split_heads(call.b, query, count)?,
                split_heads(call.b, key, count)?,
                split_heads(call.b, value, count)?,
            )
        }
        _ => return Err(call.invalid("queries, keys and values do not have a known layout")),
    };
    let mut past_size = Dim::Fixed(0);
    if let (Some(past_key), Some(past_value)) = (call.optional(6), call.optional(7)) {
        past_size = call.b.dims(past_key).get(2).cloned().unwrap_or(Dim::Fixed(0));
        k = call.b.concat(&[past_key, k], 2)?;
        v = call.b.concat(&[past_value, v], 2)?;
    }
    let (keys, dtype) = (keys_of(call, [q, k, v])?, call.b.dtype(q));
    let mut bias = Vec::new();
    if let Some(given) = call.optional(4) {
        bias.push(mask(call, given, &keys, dtype)?);
    }
    bias.extend(call.optional(5));
    let results = core(call, [q, k, v], bias, &past_size, call.outputs > 3)?;
    let mut all = vec![join_heads(call.b, results[0])?, k, v];
    all.extend(results.get(1));
    Ok(all)
}

/// `x` read along dim 2 at places that differ by batch entry, `i64 [b, t]`.
pub(super) fn take_rows(
    call: &mut Call<'_>,
    x: ValueId,
    places: ValueId,
) -> Result<ValueId, ImportError> {
    let (dims, own) = (call.b.dims(x), call.b.dims(places));
    if dims.len() != 4 || own.len() != 2 {
        return Err(call.invalid("a cache has [batch, heads, sequence, size]"));
    }
    let index = call.b.unsqueeze(places, &[1, 3])?;
    let wide = [dims[0].clone(), dims[1].clone(), own[1].clone(), Dim::Fixed(1)];
    let index = call.b.broadcast(index, &wide)?;
    Ok(call.b.prim(Prim::GatherNd { batch: 2 }, &[x, index])?)
}
