//! Pooling and resampling of images.

use anychip_ir::{IrError, Prim, ReduceKind, Window};
use anychip_ops::{AveragePool, MaxPoolIndices, Resize};
use anychip_tensor::{DType, Dim};

use super::draft::{Draft, sizes};

pub(super) fn pool(d: &mut Draft) -> Result<(), IrError> {
    let rank = d.random.pick(&[2, 2, 2, 1, 3]);
    let largest = [60, 33, 11][rank - 1];
    let mut shape = vec![d.batch(), Dim::Fixed(d.random.range(1, 67))];
    shape.extend((0..rank).map(|_| Dim::Fixed(d.random.range(1, largest))));
    let x = d.floats(&shape);
    let random = &mut d.random;
    let size: Vec<usize> = (0..rank).map(|_| random.range(1, 7)).collect();
    let strides: Vec<usize> = (0..rank).map(|_| random.range(1, 3)).collect();
    let dilated = random.chance(30);
    let dilation: Vec<usize> =
        (0..rank).map(|_| if dilated { random.range(1, 4) } else { 1 }).collect();
    let mut edge = || -> Vec<i64> { (0..rank).map(|i| random.below(size[i]) as i64).collect() };
    let (low, high) = (edge(), edge());
    let kind = d.random.below(6);
    let name = ["maximum", "maximum", "sum", "average", "average", "maximum and where"][kind];
    d.say(&format!(
        "{:?} {name} {size:?} {strides:?} {dilation:?} {low:?} {high:?}",
        sizes(&d.b, x)
    ));
    let y = match kind {
        0..=2 => {
            let padding = low.into_iter().zip(high).collect();
            let window = Window { size: size.clone(), strides, dilation, padding };
            let kind = if kind < 2 { ReduceKind::Max } else { ReduceKind::Sum };
            d.b.prim(Prim::ReduceWindow { kind, window }, &[x])?
        }
        3..=4 => {
            let count_padding = d.random.chance(40);
            let overhang = vec![i64::from(d.random.chance(20)); rank];
            d.say(&format!("count padding {count_padding}, overhang {overhang:?}"));
            let pool = AveragePool {
                size: size.clone(),
                strides,
                dilation,
                padding_low: low,
                padding_high: high,
                overhang,
                count_padding,
            };
            d.b.composite(pool, &[x])?
        }
        _ => {
            let pool = MaxPoolIndices {
                size: size.clone(),
                strides,
                dilation,
                padding_low: low,
                padding_high: high,
                column_major: d.random.chance(30),
            };
            let both = d.b.node(pool, &[x], Vec::new())?;
            d.output(both[1]);
            both[0]
        }
    };
    d.spend(size.iter().product::<usize>() * sizes(&d.b, y).iter().product::<usize>());
    let y = if kind < 5 { d.activation(y)? } else { y };
    d.output(y);
    Ok(())
}

pub(super) fn resize(d: &mut Draft) -> Result<(), IrError> {
    let spatial = d.random.pick(&[2, 2, 2, 1, 3]);
    let largest = [60, 33, 9][spatial - 1];
    let mut shape = vec![d.batch(), Dim::Fixed(d.random.range(1, 33))];
    shape.extend((0..spatial).map(|_| Dim::Fixed(d.random.range(1, largest))));
    let x = d.floats(&shape);
    let random = &mut d.random;
    // Eighths, so that the positions of nearest neighbors are exact and no rounding decides between two.
    let scales: Vec<f32> = (0..spatial).map(|_| random.range(2, 28) as f32 / 8.0).collect();
    let mode = random.pick(&["nearest", "linear", "linear", "cubic"]);
    let coordinates = random.pick(&[
        "half_pixel",
        "half_pixel",
        "half_pixel_symmetric",
        "pytorch_half_pixel",
        "align_corners",
        "asymmetric",
    ]);
    // Dividing by sizes is not exact: both neighbors of a half are right there.
    let exact = scales.iter().all(|s| s.log2().fract() == 0.0) && coordinates != "align_corners";
    if mode == "nearest" && !exact {
        return Err(IrError::Setting {
            op: "resize",
            reason: "positions that fall on halves",
            found: format!("{scales:?}"),
        });
    }
    let resize = Resize {
        axes: (2..2 + spatial).collect(),
        mode: mode.to_string(),
        coordinates: coordinates.to_string(),
        nearest: random
            .pick(&["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"])
            .to_string(),
        cubic: -0.75,
        exclude_outside: mode == "cubic" && random.chance(30),
        antialias: mode != "nearest" && random.chance(20),
        extrapolation: 0.0,
        region: Vec::new(),
        scales,
        policy: "stretch".to_string(),
    };
    d.say(&format!("{:?} {resize:?}", sizes(&d.b, x)));
    d.slack = 5.0;
    let y = d.b.composite(resize, &[x])?;
    d.spend(32 * sizes(&d.b, y).iter().product::<usize>());
    debug_assert_eq!(d.b.dtype(y), DType::F32);
    d.output(y);
    Ok(())
}
