//! Attention with grouped heads over a cache, and the rotary embedding that goes with it.

use anychip_ir::{Prim, ValueId};
use anychip_ops::{Attention, RmsNorm, RotaryEmbedding};
use anychip_tensor::{DType, Dim};

use super::attention::take_rows;
use crate::import::call::{Call, ImportError};
use crate::import::ops_attention::{
    Sight, as_bias, combine, heads, join_heads, scaled_queries, seen, split_heads,
};

type Results = Result<Vec<ValueId>, ImportError>;

/// `x [b, h, s, d]` turned by its places `i64 [b, s]`, with tables of cosines and sines.
fn rotate(
    call: &mut Call<'_>,
    x: ValueId,
    places: ValueId,
    tables: [ValueId; 2],
    interleaved: bool,
) -> Result<ValueId, ImportError> {
    let mut operands = vec![x];
    for table in tables {
        let read = call.b.prim(Prim::Take { axis: 0 }, &[table, places])?;
        operands.push(call.b.unsqueeze(read, &[1])?);
    }
    let Some(half) = call.b.dims(tables[0]).last().and_then(Dim::fixed) else {
        return Err(ImportError::NeedsSizes { input: 0, what: "how many elements are turned" });
    };
    let composite = RotaryEmbedding { interleaved, turned: 2 * half };
    Ok(call.b.composite(composite, &operands)?)
}

pub(super) fn rotary_embedding(call: &mut Call<'_>) -> Results {
    let (x, places) = (call.input(0)?, call.input(1)?);
    let tables = [call.input(2)?, call.input(3)?];
    if call.flag("is_packed_batching", false) {
        return Err(call.unsupported("batch entries packed into one sequence"));
    }
    let dims = call.b.dims(x);
    let flat = dims.len() == 3;
    if (!flat && dims.len() != 4) || call.b.rank(tables[0]) != 2 {
        return Err(call.invalid("takes three or four dims, and tables of two"));
    }
    let own = if flat {
        let count = match call.int("num_heads", 0) {
            0 => {
                // The heads are as wide as the table says.
                let width = call.b.dims(tables[0])[1].clone() * Dim::Fixed(2);
                dims[2]
                    .floor_div(&width)
                    .fixed()
                    .ok_or(ImportError::NeedsSizes { input: 0, what: "the number of heads" })?
            }
            _ => heads(call, "num_heads")?,
        };
        split_heads(call.b, x, count)?
    } else {
        x
    };
    let (batch, sequence) = {
        let own = call.b.dims(own);
        (own[0].clone(), own[2].clone())
    };
    let mut places = call.b.cast(places, DType::I64)?;
    if call.b.rank(places) == 1 {
        // Where the first element lies; the others follow.
        let start = call.b.reshape(places, &[])?;
        let order = call.b.iota(&sequence)?;
        let all = call.b.add(order, start)?;
        places = call.b.broadcast(all, &[batch, sequence])?;
    }
    let y = rotate(call, own, places, tables, call.flag("interleaved", false))?;
    let scale = call.float("scale", 1.0);
    let y = if scale == 1.0 { y } else { call.b.scale(y, f64::from(scale))? };
    Ok(vec![if flat { join_heads(call.b, y)? } else { y }])
}

pub(super) fn attention(call: &mut Call<'_>) -> Results {
    let (query_heads, key_heads) = (heads(call, "num_heads")?, heads(call, "kv_num_heads")?);
    for name in ["k_quant_type", "v_quant_type"] {
        if call.string(name, "NONE") != "NONE" {
            return Err(call.unsupported("a quantized cache"));
        }
    }
    if call.optional(16).is_some() || call.flag("sliding_window_cache", false) {
        return Err(call.unsupported("padded query chunks or a cache that slides"));
    }
    let query = call.input(0)?;
    let (mut q, mut k, mut v) =
        if let (Some(key), Some(value)) = (call.optional(1), call.optional(2)) {
            (
                split_heads(call.b, query, query_heads)?,
                split_heads(call.b, key, key_heads)?,
                split_heads(call.b, value, key_heads)?,
            )
        } else {
            // Heads of queries, keys and values side by side.
            let all = split_heads(call.b, query, query_heads + 2 * key_heads)?;
            let (first, second) = (Dim::Fixed(query_heads), Dim::Fixed(query_heads + key_heads));
            (
                call.b.slice(all, 1, &Dim::Fixed(0), &first)?,
                call.b.slice(all, 1, &first, &second)?,
                call.b.slice(all, 1, &second, &Dim::Fixed(query_heads + 2 * key_heads))?,
            )
        };
    let (dims, dtype) = (call.b.dims(q), call.b.dtype(q));
    let (batch, sequence) = (dims[0].clone(), dims[2].clone());
    for (x, weight, name) in [(&mut q, 14, "q_norm_epsilon"), (&mut k, 15, "k_norm_epsilon")] {
        if let Some(weight) = call.optional(weight) {
            let epsilon = call.float(name, call.float("qk_norm_epsilon", 1e-6));
            *x = call.b.composite(RmsNorm { axis: 3, epsilon }, &[*x, weight])?;
        }
    }

    // How many keys each entry has in all, and how many of them were there before.
    let last = call.input(5)?;
    let b = &mut *call.b;
    let last = b.cast(last, DType::I64)?;
    let last = b.reshape(last, std::slice::from_ref(&batch))?;
    let lengths = b.offset(last, 1.0)?;
    let own = b.dim_value(&sequence)?;
    let total = call.input(6)?;
    let b = &mut *call.b;
    let total = b.cast(total, DType::I64)?;
    let total = b.reshape(total, &[])?;
    let first_run = b.eq(total, own)?;
    let earlier = b.sub(lengths, own)?;
    let none = b.scalar(DType::I64, 0.0)?;
    let before = b.select(first_run, none, earlier)?;
    let before = b.unsqueeze(before, &[1])?;

    if call.flag("do_rotary", false) {
        let tables = [call.input(7)?, call.input(8)?];
        let order = call.b.iota(&sequence)?;
        let places = match call.optional(9) {
            Some(places) => call.b.cast(places, DType::I64)?,
            None => call.b.add(before, order)?,
        };
        let interleaved = call.flag("rotary_interleaved", false);
        q = rotate(call, q, places, tables, interleaved)?;
        k = rotate(call, k, places, tables, interleaved)?;
    }

    if let (Some(past_key), Some(past_value)) = (call.optional(3), call.optional(4)) {
        // The cache is as long as what was there or what is there now, whichever is more: before each entry's
        // new keys lie its old ones.
        let Some(room) = call.b.dims(past_key).get(2).cloned() else {
            return Err(call.invalid("a cache has [batch, heads, sequence, size]"));
        };
        let b = &mut *call.b;
        let room_value = b.dim_value(&room)?;
        let most = b.max(room_value, total)?;
        let order = b.prim(Prim::Iota, &[most])?;
        let is_old = b.lt(order, before)?;
        let since = b.sub(order, before)?;
        let one = b.scalar(DType::I64, 1.0)?;
        let newest = b.sub(own, one)?;
        let since = b.min(since, newest)?;
        let moved = b.add(since, room_value)?;
        let places = b.select(is_old, order, moved)?;
        let all_keys = b.concat(&[past_key, k], 2)?;
        let all_values = b.concat(&[past_value, v], 2)?;
        k = take_rows(call, all_keys, places)?;
        v = take_rows(call, all_values, places)?;
    }
    let (present_key, present_value) = (k, v);

    let keys = call.b.dims(k)[2].clone();
    let offset = call.b.unsqueeze(before, &[2, 3])?;
    let window = call.int("local_window_size", -1);
    let causal = call.int("causal", 1) != 0;
    // The window counts the query's own place.
    let sight = Sight { causal, left: if window > 0 { window - 1 } else { -1 }, right: -1 };
    let mut bias = Vec::new();
    if let Some(seen) = seen(call.b, &sequence, &keys, offset, &sight)? {
        bias.push(as_bias(call.b, seen, dtype)?);
    }
    if !causal {
        let each = call.b.unsqueeze(lengths, &[1, 2, 3])?;
        let places = call.b.iota(&keys)?;
        let valid = call.b.lt(places, each)?;
        bias.push(as_bias(call.b, valid, dtype)?);
    }
    bias.extend(call.optional(10));
    let mut bias = combine(call.b, &bias)?;

    let sink = call.optional(11);
    if sink.is_some() || call.int("smooth_softmax", 0) == 1 {
        // A key of zeros with a value of zeros: its score, 0 plus the sink, only enlarges the divisor.
        let b = &mut *call.b;
        let zero = b.scalar(dtype, 0.0)?;
        let one = Dim::Fixed(1);
        for x in [&mut k, &mut v] {
            let mut shape = b.dims(*x);
            shape[2] = one.clone();
            let row = b.broadcast(zero, &shape)?;
            *x = b.concat(&[*x, row], 2)?;
        }
        let wide = [batch, Dim::Fixed(query_heads), sequence];
        let column = match sink {
            Some(sink) => {
                let sink = b.cast(sink, dtype)?;
                b.unsqueeze(sink, &[1, 2])?
            }
            None => zero,
        };
        let column =
            b.broadcast(column, &[wide.as_slice(), std::slice::from_ref(&one)].concat())?;
        let own = bias.unwrap_or(zero);
        let own = b.broadcast(own, &[wide.as_slice(), std::slice::from_ref(&keys)].concat())?;
        bias = Some(b.concat(&[own, column], 3)?);
    }
    let given = call.float_opt("scale").filter(|&s| s != 0.0);
    let (q, scale) = scaled_queries(call, q, given)?;
    let scores = match call.int("qk_output", 0) {
        0 => None,
        1 => Some("masked".to_string()),
        2 => Some("weights".to_string()),
        _ => return Err(call.bad_attribute("qk_output", "is 0, 1 or 2")),
    };
    let composite =
        Attention { softcap: call.float("softcap", 0.0), scores, ..Attention::new(scale, false) };
    let mut operands = vec![q, k, v];
    operands.extend(bias);
    let results = call.b.node(composite, &operands, Vec::new())?;
    let mut all = vec![join_heads(call.b, results[0])?, present_key, present_value];
    all.extend(results.get(1));
    Ok(all)
}
