//! Importers of image resampling.

use anychip_ir::ValueId;
use anychip_ops::Resize;
use anychip_tensor::DType;

use super::call::{Call, ImportError};
use super::table::Row;

type Results = Result<Vec<ValueId>, ImportError>;

pub(crate) const ROWS: &[Row] = &[
    Row::onnx("Resize", 10, resize_10),
    Row::onnx("Resize", 11, resize),
    Row::onnx("Upsample", 7, upsample_7),
    Row::onnx("Upsample", 9, resize_10),
];

/// A resize with the settings that nothing says otherwise.
fn plain(axes: Vec<usize>, mode: String, scales: Vec<f32>) -> Resize {
    Resize {
        axes,
        mode,
        coordinates: "asymmetric".to_string(),
        nearest: "floor".to_string(),
        cubic: -0.75,
        exclude_outside: false,
        antialias: false,
        extrapolation: 0.0,
        region: Vec::new(),
        scales,
        policy: "stretch".to_string(),
    }
}

/// The floats of an operand that decides the size of the result.
fn floats(call: &Call<'_>, input: usize, what: &'static str) -> Result<Vec<f32>, ImportError> {
    Ok(call.need_constant(input, what)?.to_f64().into_iter().map(|v| v as f32).collect())
}

fn upsample_7(call: &mut Call<'_>) -> Results {
    let x = call.input(0)?;
    let scales =
        call.floats("scales").ok_or_else(|| ImportError::MissingAttribute("scales".into()))?;
    let axes = (0..call.b.rank(x)).collect();
    let mode = call.string("mode", "nearest");
    Ok(vec![call.b.composite(plain(axes, mode, scales), &[x])?])
}

/// `Upsample` 9 and `Resize` 10: scales, and coordinates from the corner.
fn resize_10(call: &mut Call<'_>) -> Results {
    let x = call.input(0)?;
    let scales = floats(call, 1, "the size of the result")?;
    let axes = (0..call.b.rank(x)).collect();
    let mode = call.string("mode", "nearest");
    Ok(vec![call.b.composite(plain(axes, mode, scales), &[x])?])
}

fn resize(call: &mut Call<'_>) -> Results {
    let x = call.input(0)?;
    let rank = call.b.rank(x);
    let axes = match call.ints("axes") {
        Some(axes) => call.axes(&axes, rank)?,
        None => (0..rank).collect(),
    };
    // Before version 13 an operand that is not used is an empty tensor.
    let empty = |call: &Call<'_>, input: usize| match call.optional(input) {
        Some(value) => call.b.ty(value).elements().constant() == Some(0),
        None => true,
    };
    let coordinates = call.string("coordinate_transformation_mode", "half_pixel");
    let region = if coordinates == "tf_crop_and_resize" && !empty(call, 1) {
        floats(call, 1, "the region that is resized")?
    } else {
        Vec::new()
    };
    let sized = empty(call, 2);
    if sized && empty(call, 3) {
        return Err(call.invalid("needs scales or sizes"));
    }
    let scales = if sized { Vec::new() } else { floats(call, 2, "the size of the result")? };
    let mut operands = vec![x];
    if sized {
        let sizes = call.input(3)?;
        operands.push(call.b.cast(sizes, DType::I64)?);
    }
    let composite = Resize {
        coordinates,
        nearest: call.string("nearest_mode", "round_prefer_floor"),
        cubic: call.float("cubic_coeff_a", -0.75),
        exclude_outside: call.flag("exclude_outside", false),
        antialias: call.flag("antialias", false),
        extrapolation: call.float("extrapolation_value", 0.0),
        region,
        policy: call.string("keep_aspect_ratio_policy", "stretch"),
        ..plain(axes, call.string("mode", "nearest"), scales)
    };
    Ok(vec![call.b.composite(composite, &operands)?])
}
