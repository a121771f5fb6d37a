//! Networks of integer operators: convolutions plain, grouped and depthwise, residual sums, pooling, means and products, of odd
//! sizes, either sign and any zero point. They are held to their definition bit for bit.

use anychip_ir::{IrError, Prim, ReduceKind, ValueId, Window};
use anychip_ops::{QuantizedAdd, QuantizedConvolution, QuantizedDot, QuantizedMean};
use anychip_tensor::{DType, Dim};

use super::draft::{Draft, Fill, sizes};

/// What a result is quantized to.
struct Codes {
    to: DType,
    zero: i64,
    low: i64,
    high: i64,
}

/// The codes of a type and the range that fills them.
fn all(to: DType) -> Fill {
    if to == DType::U8 { Fill::Between(0.0, 255.99) } else { Fill::Between(-128.0, 127.99) }
}

fn code(d: &mut Draft, to: DType) -> i64 {
    d.random.below(256) as i64 - if to == DType::U8 { 0 } else { 128 }
}

fn codes(d: &mut Draft) -> Codes {
    let to = d.random.pick(&[DType::U8, DType::U8, DType::I8]);
    let (least, most) = if to == DType::U8 { (0, 255) } else { (-128, 127) };
    let zero = code(d, to);
    let low = if d.random.chance(50) { zero } else { least };
    let high = if d.random.chance(25) { low.midpoint(most) } else { most };
    Codes { to, zero, low, high }
}

/// Bias, multipliers and shifts of `count` filters whose sums are of about `range`.
fn parameters(d: &mut Draft, count: usize, range: f64) -> [ValueId; 3] {
    // A multiplier of 31 bits brings the range to some hundred steps; now and then fewer bits and a short shift.
    let bits = 30.0 + (range / 300.0).max(1.0).log2();
    let short = if d.random.chance(15) { 20.0 } else { 0.0 };
    let (low, high) = (2f64.powf(29.0 - short), 2f64.powf(31.0 - short) - 1.0);
    let shift = (bits - short).floor().clamp(1.0, 60.0);
    let bias = d.weights(DType::I32, &[count], Fill::Between(-range / 4.0, range / 4.0), 100);
    let multiplier = d.weights(DType::I32, &[count], Fill::Between(low, high), 100);
    let shift = d.weights(DType::I32, &[count], Fill::Between(shift, shift + 2.99), 100);
    [bias, multiplier, shift]
}

fn zero_of(d: &mut Draft, v: ValueId) -> i64 {
    let dtype = d.b.dtype(v);
    code(d, dtype)
}

fn convolution(d: &mut Draft, x: ValueId) -> Result<ValueId, IrError> {
    let dims = sizes(&d.b, x);
    let channels = dims[1];
    let random = &mut d.random;
    let (filters, groups) = match random.below(8) {
        0..=4 => (random.range(1, 50), 1),
        5..=6 => (channels, channels),
        _ if channels.is_multiple_of(2) => (2 * random.range(1, 10), 2),
        _ => (random.range(1, 20), 1),
    };
    let kernel = random.pick(&[1, 1, 3, 3, 2, 5]);
    let stride = random.pick(&[1, 1, 1, 2, 3]);
    let dilation = random.pick(&[1, 1, 1, 2]);
    let mut pads = || -> Vec<i64> {
        (0..2).map(|_| random.below((kernel - 1) * dilation + 2) as i64).collect()
    };
    let (padding_low, padding_high) = (pads(), pads());
    let w_type = random.pick(&[DType::I8, DType::I8, DType::U8]);
    let w_zero = if random.chance(70) { 0 } else { code(d, w_type) };
    let x_zero = zero_of(d, x);
    let Codes { to, zero: y_zero, low, high } = codes(d);
    let per_group = channels / groups;
    let depth = per_group * kernel * kernel;
    let w = d.weights(w_type, &[filters, per_group, kernel, kernel], all(w_type), 100);
    let rest = parameters(d, filters, 10_000.0 * (depth as f64).sqrt());
    d.say(&format!(
        "[{filters}, {per_group}, {kernel}, {kernel}] by {stride}, {dilation}, {padding_low:?}, {groups} groups"
    ));
    let op = QuantizedConvolution {
        strides: vec![stride; 2],
        padding_low,
        padding_high,
        dilation: vec![dilation; 2],
        groups,
        x_zero,
        w_zero,
        to,
        y_zero,
        low,
        high,
    };
    let y = d.b.composite(op, &[x, w, rest[0], rest[1], rest[2]])?;
    d.spend(depth * sizes(&d.b, y)[1..].iter().product::<usize>());
    Ok(y)
}

fn add(d: &mut Draft, a: ValueId, b: ValueId) -> Result<ValueId, IrError> {
    let Codes { to, zero: y_zero, low, high } = codes(d);
    let mut multiplier = || d.random.below(1 << 22) as i64;
    let (a_multiplier, b_multiplier) = (multiplier(), multiplier());
    let (a_zero, b_zero) = (zero_of(d, a), zero_of(d, b));
    let shift = d.random.range(18, 24) as i64;
    d.say("sum");
    let op =
        QuantizedAdd { a_zero, b_zero, a_multiplier, b_multiplier, shift, to, y_zero, low, high };
    d.b.composite(op, &[a, b])
}

/// A few of them after each other.
pub(super) fn network(d: &mut Draft) -> Result<(), IrError> {
    let batch = d.batch();
    let random = &mut d.random;
    let channels = if random.chance(30) { random.range(1, 4) } else { random.range(1, 50) };
    let (height, width) = (random.range(1, 20), random.range(1, 20));
    let from = random.pick(&[DType::U8, DType::U8, DType::I8]);
    d.say(&format!("{from} [{channels}, {height}, {width}]"));
    let shape = [batch, Dim::Fixed(channels), Dim::Fixed(height), Dim::Fixed(width)];
    let mut x = d.input(from, &shape, all(from));
    for _ in 0..d.random.range(1, 3) {
        let before = x;
        x = convolution(d, x)?;
        if d.b.dims(before) == d.b.dims(x) && d.random.chance(70) {
            x = add(d, x, before)?;
        }
        if d.random.chance(25) {
            d.say("largest");
            let window = Window {
                size: vec![3, 3],
                strides: vec![2, 2],
                dilation: vec![1, 1],
                padding: vec![(1, 1), (1, 1)],
            };
            x = d.b.prim(Prim::ReduceWindow { kind: ReduceKind::Max, window }, &[x])?;
        }
    }
    if d.random.chance(40) {
        let count: usize = sizes(&d.b, x)[2..].iter().product();
        let x_zero = zero_of(d, x);
        let Codes { to, zero: y_zero, low, high } = codes(d);
        d.say("mean");
        let multiplier = (2f64.powi(30) / count as f64) as i64;
        let axes = vec![2, 3];
        let op = QuantizedMean { axes, x_zero, multiplier, shift: 30, to, y_zero, low, high };
        x = d.b.composite(op, &[x])?;
        let dims = d.b.dims(x)[..2].to_vec();
        x = d.b.reshape(x, &dims)?;
        x = dot(d, x)?;
    }
    d.output(x);
    Ok(())
}

fn dot(d: &mut Draft, x: ValueId) -> Result<ValueId, IrError> {
    let k = sizes(&d.b, x)[d.b.rank(x) - 1];
    let n = d.random.range(1, 70);
    let x_zero = zero_of(d, x);
    let w_type = d.random.pick(&[DType::I8, DType::U8]);
    let w_zero = if d.random.chance(60) { 0 } else { code(d, w_type) };
    let Codes { to, zero: y_zero, low, high } = codes(d);
    let w = d.weights(w_type, &[k, n], all(w_type), 100);
    let rest = parameters(d, n, 10_000.0 * (k as f64).sqrt());
    d.say(&format!("product [{k}, {n}]"));
    let op = QuantizedDot { x_zero, w_zero, to, y_zero, low, high };
    let y = d.b.composite(op, &[x, w, rest[0], rest[1], rest[2]])?;
    d.spend(k * sizes(&d.b, y).iter().product::<usize>());
    Ok(y)
}

/// A product of rows with a matrix.
pub(super) fn product(d: &mut Draft) -> Result<(), IrError> {
    let batch = d.batch();
    let random = &mut d.random;
    let (rows, k) = (random.range(1, 40), random.range(1, 90));
    let from = random.pick(&[DType::U8, DType::I8]);
    d.say(&format!("{from} [{rows}, {k}]"));
    let shape = [batch, Dim::Fixed(rows), Dim::Fixed(k)];
    let x = d.input(from, &shape, all(from));
    let y = dot(d, x)?;
    d.output(y);
    Ok(())
}
