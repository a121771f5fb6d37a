//! Counting of n-grams.

use anychip_ir::{DotDims, Prim, ReduceKind, ValueId};
use anychip_tensor::{DType, Dim, Tensor};

use crate::import::call::{Call, ImportError};

/// N-grams of one length, and the column that each is counted in.
struct Grams {
    length: usize,
    items: Vec<i64>,
    columns: Vec<usize>,
}

/// How often each n-gram of the pool occurs in a row of numbers.
pub(super) fn tf_idf_vectorizer(call: &mut Call<'_>) -> Result<Vec<ValueId>, ImportError> {
    let x = call.input(0)?;
    let pool = call.ints("pool_int64s").ok_or_else(|| call.unsupported("n-grams of texts"))?;
    let starts = call.need_ints("ngram_counts")?;
    let columns: Option<Vec<usize>> =
        call.need_ints("ngram_indexes")?.iter().map(|&c| usize::try_from(c).ok()).collect();
    let columns =
        columns.ok_or_else(|| call.bad_attribute("ngram_indexes", "must not be negative"))?;
    let width = columns.iter().max().map_or(0, |c| c + 1);
    let (shortest, longest) =
        (call.need_int("min_gram_length")?, call.need_int("max_gram_length")?);
    let skips = call.need_int("max_skip_count")?;
    if width > 1 << 24 || !(0..=1024).contains(&skips) {
        return Err(call.unsupported("a vocabulary or a number of skips this large"));
    }
    let groups = grams(call, &pool, &starts, &columns)?;

    let dims = call.b.dims(x);
    let flat = dims.len() == 1;
    let rows = if flat { call.b.unsqueeze(x, &[0])? } else { x };
    let rows = call.b.cast(rows, DType::I64)?;
    let (Some(batch), Some(items)) =
        (call.b.dims(rows).first().cloned(), dims.last().and_then(Dim::fixed))
    else {
        return Err(ImportError::NeedsSizes { input: 0, what: "how many windows there are" });
    };
    let zero = call.b.scalar(DType::F32, 0.0)?;
    let mut total = call.b.broadcast(zero, &[batch, Dim::Fixed(width)])?;
    for group in &groups {
        if !(shortest..=longest).contains(&(group.length as i64)) {
            continue;
        }
        for distance in 1..=skips as usize + 1 {
            // Single items do not depend on the distance and count once.
            if group.length == 1 && distance > 1 {
                break;
            }
            let reach = (group.length - 1) * distance;
            if reach >= items {
                break;
            }
            let counts = occurrences(call, rows, group, distance, items - reach, width)?;
            total = call.b.add(total, counts)?;
        }
    }
    let weights = call.floats("weights");
    let mode = call.string("mode", "");
    let b = &mut *call.b;
    let mut result = match mode.as_str() {
        "TF" | "TFIDF" => total,
        "IDF" => {
            let found = b.gt(total, zero)?;
            b.cast(found, DType::F32)?
        }
        _ => return Err(call.bad_attribute("mode", "is TF, IDF or TFIDF")),
    };
    if mode != "TF"
        && let Some(weights) = weights
    {
        // Weights lie in the order of the pool.
        let mut by_column = vec![0.0f32; width];
        for (&column, weight) in columns.iter().zip(weights) {
            by_column[column] = weight;
        }
        let weights = b.constant(Tensor::from_vec(vec![width], by_column)?);
        result = b.mul(result, weights)?;
    }
    Ok(vec![if flat { b.squeeze(result, &[0])? } else { result }])
}

/// The pool cut into its n-grams; `starts` says where those of each length begin.
fn grams(
    call: &Call<'_>,
    pool: &[i64],
    starts: &[i64],
    columns: &[usize],
) -> Result<Vec<Grams>, ImportError> {
    let mut groups = Vec::new();
    let mut used = 0;
    for (i, &start) in starts.iter().enumerate() {
        let end = starts.get(i + 1).copied().unwrap_or(pool.len() as i64);
        let length = i + 1;
        let items = usize::try_from(start)
            .ok()
            .zip(usize::try_from(end).ok())
            .and_then(|(start, end)| pool.get(start..end))
            .ok_or_else(|| call.bad_attribute("ngram_counts", "must ascend within the pool"))?;
        let count = items.len() / length;
        let columns = columns
            .get(used..used + count)
            .ok_or_else(|| call.bad_attribute("ngram_indexes", "needs one for each n-gram"))?;
        used += count;
        if count > 0 {
            let items = items[..count * length].to_vec();
            groups.push(Grams { length, items, columns: columns.to_vec() });
        }
    }
    Ok(groups)
}

/// Entries of a table that is written out at import.
const MOST_WRITTEN: usize = 1 << 22;

/// How often each n-gram occurs with its items `distance` apart, `f32 [rows, width]`.
fn occurrences(
    call: &mut Call<'_>,
    rows: ValueId,
    group: &Grams,
    distance: usize,
    windows: usize,
    width: usize,
) -> Result<ValueId, ImportError> {
    let count = group.columns.len();
    // Both tables are written out; a few bytes of a file may ask for any size.
    if windows.saturating_mul(group.length).max(count.saturating_mul(width)) > MOST_WRITTEN {
        return Err(call.unsupported(format!("{windows} windows over {count} n-grams")));
    }
    let b = &mut *call.b;
    let places: Vec<i64> = (0..windows)
        .flat_map(|start| (0..group.length).map(move |k| (start + k * distance) as i64))
        .collect();
    let places = b.constant(Tensor::from_vec(vec![windows, group.length], places)?);
    let seen = b.prim(Prim::Take { axis: 1 }, &[rows, places])?;
    let seen = b.unsqueeze(seen, &[2])?;
    let wanted = b.constant(Tensor::from_vec(vec![count, group.length], group.items.clone())?);
    // [rows, windows, grams, items]
    let equal = b.eq(seen, wanted)?;
    let whole = b.reduce(ReduceKind::Min, equal, &[3], false)?;
    let hits = b.cast(whole, DType::F32)?;
    let hits = b.reduce(ReduceKind::Sum, hits, &[1], false)?;
    let mut table = vec![0.0f32; count * width];
    for (gram, &column) in group.columns.iter().enumerate() {
        table[gram * width + column] = 1.0;
    }
    let table = b.constant(Tensor::from_vec(vec![count, width], table)?);
    let dims = DotDims { lhs_contract: vec![1], rhs_contract: vec![0], ..DotDims::default() };
    Ok(b.prim(Prim::DotGeneral(dims, DType::F32), &[hits, table])?)
}
