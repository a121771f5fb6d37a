//! Importers of signal processing.

use anychip_ir::{Prim, ValueId};
use anychip_ops::Dft;
use anychip_tensor::{DType, Dim};

use super::call::{Call, ImportError};
use super::table::Row;

type Results = Result<Vec<ValueId>, ImportError>;

pub(crate) const ROWS: &[Row] = &[
    Row::onnx("BlackmanWindow", 17, blackman),
    Row::onnx("DFT", 17, dft_17),
    Row::onnx("DFT", 20, dft_20),
    Row::onnx("HammingWindow", 17, hamming),
    Row::onnx("HannWindow", 17, hann),
    Row::onnx("MelWeightMatrix", 17, mel_weight_matrix),
    Row::onnx("STFT", 17, stft),
];

fn dft_17(call: &mut Call<'_>) -> Results {
    let axis = call.int("axis", 1);
    dft(call, axis)
}

fn dft_20(call: &mut Call<'_>) -> Results {
    let axis = match call.optional(2) {
        Some(_) => {
            call.need_integers(2, "the dim that is transformed")?.first().copied().unwrap_or(-2)
        }
        None => -2,
    };
    dft(call, axis)
}

fn dft(call: &mut Call<'_>, axis: i64) -> Results {
    let mut x = call.input(0)?;
    let rank = call.b.rank(x);
    let axis = call.axis(axis, rank)?;
    let (inverse, one_sided) = (call.flag("inverse", false), call.flag("onesided", false));
    let mut length = 0;
    let wanted = match call.optional(1) {
        Some(_) => call.need_integers(1, "the length of the transform")?.first().copied(),
        None => None,
    };
    let mut given = call.b.dims(x)[axis].clone();
    if inverse && one_sided {
        // The operand holds half a spectrum; the signal has twice its steps.
        let signal = match wanted {
            Some(wanted) => wanted,
            None => match given.constant() {
                Some(n) => 2 * (n - 1),
                None => {
                    return Err(ImportError::NeedsSizes {
                        input: 0,
                        what: "the length of the signal",
                    });
                }
            },
        };
        length =
            usize::try_from(signal).map_err(|_| call.invalid("the length must be positive"))?;
        x = fit(call, x, axis, &Dim::Fixed(length / 2 + 1))?;
    } else if let Some(wanted) = wanted {
        given = Dim::from_i64(wanted);
        x = fit(call, x, axis, &given)?;
    }
    Ok(vec![call.b.composite(Dft { axis, inverse, one_sided, length }, &[x])?])
}

/// `x` cut, or continued with zeros, to `length` along `axis`.
fn fit(call: &mut Call<'_>, x: ValueId, axis: usize, length: &Dim) -> Result<ValueId, ImportError> {
    let dims = call.b.dims(x);
    if dims[axis] == *length {
        return Ok(x);
    }
    let b = &mut *call.b;
    let mut high = vec![Dim::Fixed(0); dims.len()];
    high[axis] = length.clone() - dims[axis].clone();
    let low = b.integers(&vec![0; dims.len()]);
    let high = b.dims_value(&high)?;
    let zero = b.scalar_like(x, 0.0)?;
    Ok(b.prim(Prim::Pad, &[x, low, high, zero])?)
}

fn stft(call: &mut Call<'_>) -> Results {
    let signal = call.input(0)?;
    let dims = call.b.dims(signal);
    if dims.len() != 3 {
        return Err(call.invalid("the signal needs batch, time, and real and imaginary parts"));
    }
    let step = call.need_integers(1, "the number of frames")?;
    let window = call.optional(2);
    let length = match (call.optional(3), window) {
        (Some(_), _) => call
            .need_integers(3, "the length of a frame")?
            .first()
            .map_or(Dim::Fixed(0), |&n| Dim::from_i64(n)),
        (None, Some(window)) => call.b.dims(window).first().cloned().unwrap_or(Dim::Fixed(0)),
        (None, None) => dims[1].clone(),
    };
    let Some(step) = step.first().and_then(|&s| usize::try_from(s).ok()).filter(|&s| s > 0) else {
        return Err(call.invalid("the step must be positive"));
    };
    let step = Dim::Fixed(step);
    let b = &mut *call.b;
    // Which sample each element of each frame is.
    let frames = (dims[1].clone() - length.clone()).floor_div(&step) + Dim::Fixed(1);
    let starts = b.iota(&frames)?;
    let step = b.dim_value(&step)?;
    let starts = b.mul(starts, step)?;
    let starts = b.unsqueeze(starts, &[1])?;
    let within = b.iota(&length)?;
    let places = b.add(starts, within)?;
    let mut cut = b.prim(Prim::Take { axis: 1 }, &[signal, places])?;
    if let Some(window) = window {
        let window = b.cast(window, b.dtype(cut))?;
        let window = b.unsqueeze(window, &[1])?;
        cut = b.mul(cut, window)?;
    }
    let one_sided = call.flag("onesided", true);
    let dft = Dft { axis: 2, inverse: false, one_sided, length: 0 };
    Ok(vec![call.b.composite(dft, &[cut])?])
}

/// `a₀ − a₁ cos(2πi/n) + a₂ cos(4πi/n)` for each `i`, where `n` is the size or, when symmetric, one less.
fn cosine_window(call: &mut Call<'_>, terms: [f64; 3]) -> Results {
    let size = call.input(0)?;
    let dtype = call.dtype("output_datatype")?.unwrap_or(DType::F32);
    let periodic = call.flag("periodic", true);
    let b = &mut *call.b;
    let size = b.cast(size, DType::I64)?;
    let size = b.reshape(size, &[])?;
    let order = b.prim(Prim::Iota, &[size])?;
    let order = b.cast(order, DType::F64)?;
    let mut period = b.cast(size, DType::F64)?;
    if !periodic {
        period = b.offset(period, -1.0)?;
    }
    let turns = b.div(order, period)?;
    let mut sum = b.scalar(DType::F64, terms[0])?;
    for (i, factor) in [(1.0, -terms[1]), (2.0, terms[2])] {
        let angle = b.scale(turns, 2.0 * std::f64::consts::PI * i)?;
        let wave = b.cos(angle)?;
        let wave = b.scale(wave, factor)?;
        sum = b.add(sum, wave)?;
    }
    Ok(vec![b.cast(sum, dtype)?])
}

fn hann(call: &mut Call<'_>) -> Results {
    cosine_window(call, [0.5, 0.5, 0.0])
}

/// The standard's coefficients are 25/46 and 21/46.
fn hamming(call: &mut Call<'_>) -> Results {
    cosine_window(call, [25.0 / 46.0, 21.0 / 46.0, 0.0])
}

fn blackman(call: &mut Call<'_>) -> Results {
    cosine_window(call, [0.42, 0.5, 0.08])
}

/// Triangles over the frequencies of a spectrum, spaced evenly on the mel scale.
fn mel_weight_matrix(call: &mut Call<'_>) -> Results {
    let dtype = call.dtype("output_datatype")?.unwrap_or(DType::F32);
    let bands = call.input(0)?;
    let bins = call.input(1)?;
    let b = &mut *call.b;
    let mut scalar = |v: ValueId, to: DType| -> Result<ValueId, ImportError> {
        let v = b.reshape(v, &[])?;
        Ok(b.cast(v, to)?)
    };
    let (bands, length) = (scalar(bands, DType::I64)?, scalar(bins, DType::I64)?);
    let (rate, low, high) = (call.input(2)?, call.input(3)?, call.input(4)?);
    let b = &mut *call.b;
    let mut wide = |v: ValueId| -> Result<ValueId, ImportError> {
        let v = b.reshape(v, &[])?;
        Ok(b.cast(v, DType::F64)?)
    };
    let (rate, low, high) = (wide(rate)?, wide(low)?, wide(high)?);
    // The edges of the triangles: bands + 2 steps of equal size in mel = 2595 log₁₀(1 + f/700).
    let two = b.scalar(DType::I64, 2.0)?;
    let one = b.scalar(DType::I64, 1.0)?;
    let edges = b.add(bands, two)?;
    let order = b.prim(Prim::Iota, &[edges])?;
    let order = b.cast(order, DType::F64)?;
    let mut to_mel = |f: ValueId| -> Result<ValueId, ImportError> {
        let scaled = b.scale(f, 1.0 / 700.0)?;
        let shifted = b.offset(scaled, 1.0)?;
        let log = b.log(shifted)?;
        Ok(b.scale(log, 2595.0 / std::f64::consts::LN_10)?)
    };
    let (low, high) = (to_mel(low)?, to_mel(high)?);
    let span = b.sub(high, low)?;
    let steps = b.cast(edges, DType::F64)?;
    let step = b.div(span, steps)?;
    let offsets = b.mul(order, step)?;
    let mel = b.add(offsets, low)?;
    let exponent = b.scale(mel, std::f64::consts::LN_10 / 2595.0)?;
    let power = b.exp(exponent)?;
    let ratio = b.offset(power, -1.0)?;
    let frequency = b.scale(ratio, 700.0)?;
    // As bins of the spectrum: ⌊(length + 1) f / rate⌋
    let longer = b.add(length, one)?;
    let longer = b.cast(longer, DType::F64)?;
    let scaled = b.mul(frequency, longer)?;
    let bin = b.div(scaled, rate)?;
    let bin = b.floor(bin)?;
    let mut edge = |first: f64| -> Result<ValueId, ImportError> {
        let places = b.prim(Prim::Iota, &[bands])?;
        let first = b.scalar(DType::I64, first)?;
        let places = b.add(places, first)?;
        Ok(b.prim(Prim::Take { axis: 0 }, &[bin, places])?)
    };
    let (start, center, end) = (edge(0.0)?, edge(1.0)?, edge(2.0)?);
    let half = b.floor_div(length, two)?;
    let count = b.add(half, one)?;
    let bins = b.prim(Prim::Iota, &[count])?;
    let bins = b.cast(bins, DType::F64)?;
    let bins = b.unsqueeze(bins, &[1])?;
    // Up from the start to the center, and down to the end.
    let zero = b.scalar(DType::F64, 0.0)?;
    let peak = b.scalar(DType::F64, 1.0)?;
    let rise_span = b.sub(center, start)?;
    let risen = b.sub(bins, start)?;
    let rise = b.div(risen, rise_span)?;
    let flat = b.eq(rise_span, zero)?;
    let rise = b.select(flat, peak, rise)?;
    let fall_span = b.sub(end, center)?;
    let left = b.sub(end, bins)?;
    let fall = b.div(left, fall_span)?;
    let (after, up_to) = (b.ge(bins, start)?, b.le(bins, center)?);
    let rising = b.and(after, up_to)?;
    let (past, before) = (b.gt(bins, center)?, b.lt(bins, end)?);
    let falling = b.and(past, before)?;
    let weight = b.select(falling, fall, zero)?;
    let weight = b.select(rising, rise, weight)?;
    Ok(vec![b.cast(weight, dtype)?])
}
