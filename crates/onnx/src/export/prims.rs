//! Each primitive as the standard's operators.

use anychip_ir::{
    Binary, Combine, Compare, Distribution, Node, Op, Prim, Rounding, TensorType, Unary,
};
use anychip_tensor::{DType, Tensor};

use super::emit::{Emitter, Frame};
use super::{composites, contract, control, quantize, reduce};
use crate::tensor::dtype_to_onnx;

/// The names of a node's results, or why the opset has no operators for it.
pub(super) type Emitted = Result<Vec<String>, String>;

/// A node with what is known of its operands.
pub(super) struct Operands {
    pub(super) names: Vec<String>,
    pub(super) types: Vec<TensorType>,
}

impl Operands {
    pub(super) fn of(frame: &Frame<'_>, node: &Node) -> Operands {
        Operands {
            names: node.inputs.iter().map(|&v| frame.name(v)).collect(),
            types: node.inputs.iter().map(|&v| frame.graph.ty(v).clone()).collect(),
        }
    }

    pub(super) fn dtype(&self, i: usize) -> DType {
        self.types[i].dtype
    }

    pub(super) fn name(&self, i: usize) -> &str {
        &self.names[i]
    }
}

/// Writes a node.
pub(super) fn emit(e: &mut Emitter, frame: &mut Frame<'_>, node: &Node) -> Emitted {
    let x = Operands::of(frame, node);
    let prim = match &node.op {
        Op::Composite(_) => return composites::emit(e, frame, node, &x),
        Op::Prim(prim) => prim,
    };
    let one = |name: String| Ok(vec![name]);
    match prim {
        // Constants are weights of the file.
        Prim::Constant(tensor) => one(e.constant(tensor)),
        Prim::Iota => {
            let (zero, step) =
                (e.constant(&Tensor::scalar(0i64)), e.constant(&Tensor::scalar(1i64)));
            one(e.add(frame, "Range", &[&zero, x.name(0), &step], vec![]))
        }
        Prim::Random { distribution, dtype, seed } => {
            one(random(e, frame, &x, *distribution, *dtype, *seed))
        }
        Prim::Unary(op) => one(unary(e, frame, &x, *op)?),
        Prim::Binary(op) => one(binary(e, frame, &x, *op)?),
        Prim::Compare(op) => one(compare(e, frame, &x, *op)),
        Prim::Select => one(e.add(frame, "Where", &[x.name(0), x.name(1), x.name(2)], vec![])),
        Prim::Cast { to, saturate, rounding } => {
            one(cast(e, frame, &x, *to, *saturate, *rounding)?)
        }
        Prim::BitCast { to } => {
            if e.opset < 26 {
                return Err("reading bits as another type needs opset 26".into());
            }
            let to = i64::from(dtype_to_onnx(*to));
            one(e.add(frame, "BitCast", &[x.name(0)], vec![("to", to.into())]))
        }
        Prim::DotGeneral(dims, output) => one(contract::dot(e, frame, &x, dims, *output)?),
        Prim::Convolution(dims, output) => {
            one(contract::convolution(e, frame, &x, dims, *output, None)?)
        }
        Prim::Reduce { kind, axes } => one(reduce::reduce(e, frame, &x, *kind, axes)),
        Prim::ArgReduce { kind, axis, last } => one(reduce::arg(e, frame, &x, *kind, *axis, *last)),
        Prim::ReduceWindow { kind, window } => one(reduce::window(e, frame, &x, *kind, window)?),
        Prim::Cumulative { kind, axis, exclusive, reverse } => {
            one(reduce::cumulative(e, frame, &x, *kind, *axis, *exclusive, *reverse)?)
        }
        Prim::TopK { axis, largest } => {
            let k = e.reshape(frame, x.name(1), &[1]);
            let inputs = [x.names[0].clone(), k];
            let attributes =
                vec![("axis", (*axis as i64).into()), ("largest", i64::from(*largest).into())];
            Ok(e.results(frame, "TopK", &inputs, attributes, 2))
        }
        Prim::ShapeOf => one(e.add(frame, "Shape", &[x.name(0)], vec![])),
        Prim::Reshape => {
            // A size of 0 is meant as it stands where it can occur.
            let sizes = frame.graph.constant_integers(node.inputs[1]);
            let attributes = if e.opset >= 14 && sizes.is_none_or(|s| s.contains(&0)) {
                vec![("allowzero", 1.into())]
            } else {
                vec![]
            };
            one(e.add(frame, "Reshape", &[x.name(0), x.name(1)], attributes))
        }
        Prim::Broadcast => one(e.add(frame, "Expand", &[x.name(0), x.name(1)], vec![])),
        Prim::Transpose { permutation } => {
            let attributes = vec![("perm", permutation.clone().into())];
            one(e.add(frame, "Transpose", &[x.name(0)], attributes))
        }
        Prim::Slice { axes } => {
            let axes: Vec<i64> = axes.iter().map(|&a| a as i64).collect();
            let axes = e.ints(&axes);
            let inputs = [x.name(0), x.name(1), x.name(2), &axes, x.name(3)];
            one(e.add(frame, "Slice", &inputs, vec![]))
        }
        Prim::Pad => {
            let amounts = e.add(frame, "Concat", &[x.name(1), x.name(2)], vec![("axis", 0.into())]);
            one(e.add(frame, "Pad", &[x.name(0), &amounts, x.name(3)], vec![]))
        }
        Prim::Concat { axis } => {
            let attributes = vec![("axis", (*axis as i64).into())];
            one(e.results(frame, "Concat", &x.names, attributes, 1).swap_remove(0))
        }
        Prim::Take { axis } => {
            let index = index(e, frame, &x, 1, false);
            let attributes = vec![("axis", (*axis as i64).into())];
            one(e.add(frame, "Gather", &[x.name(0), &index], attributes))
        }
        Prim::TakeAlong { axis } => {
            let index = index(e, frame, &x, 1, false);
            let attributes = vec![("axis", (*axis as i64).into())];
            one(e.add(frame, "GatherElements", &[x.name(0), &index], attributes))
        }
        Prim::GatherNd { batch } => {
            let index = index(e, frame, &x, 1, true);
            let attributes = vec![("batch_dims", (*batch as i64).into())];
            one(e.add(frame, "GatherND", &[x.name(0), &index], attributes))
        }
        Prim::ScatterAlong { axis, combine } => {
            let index = index(e, frame, &x, 1, false);
            let mut attributes = reduction(e, *combine)?;
            attributes.push(("axis", (*axis as i64).into()));
            one(e.add(frame, "ScatterElements", &[x.name(0), &index, x.name(2)], attributes))
        }
        Prim::ScatterNd { combine } => {
            let index = index(e, frame, &x, 1, true);
            let attributes = reduction(e, *combine)?;
            one(e.add(frame, "ScatterND", &[x.name(0), &index, x.name(2)], attributes))
        }
        Prim::NonZero => one(e.add(frame, "NonZero", &[x.name(0)], vec![])),
        Prim::Quantize { to, saturate } => {
            one(quantize::quantize(e, frame, node, &x, *to, *saturate)?)
        }
        Prim::Dequantize { to } => one(quantize::dequantize(e, frame, node, &x, *to)?),
        Prim::Requantize { to } => one(quantize::requantize(e, frame, &x, *to)),
        Prim::If => control::conditional(e, frame, node, &x),
        Prim::Loop { carried } => control::repeat(e, frame, node, &x, *carried),
    }
}

/// An index operand as the standard takes it: `i64`, or `i32` where that is allowed too.
fn index(e: &mut Emitter, frame: &mut Frame<'_>, x: &Operands, i: usize, only_i64: bool) -> String {
    let dtype = x.dtype(i);
    let fits = dtype == DType::I64 || (dtype == DType::I32 && !only_i64);
    if fits { x.names[i].clone() } else { e.cast(frame, x.name(i), dtype, DType::I64) }
}

fn reduction(
    e: &Emitter,
    combine: Combine,
) -> Result<Vec<(&'static str, super::emit::Value)>, String> {
    let (name, since) = match combine {
        Combine::Set => return Ok(vec![]),
        Combine::Add => ("add", 16),
        Combine::Mul => ("mul", 16),
        Combine::Max => ("max", 18),
        Combine::Min => ("min", 18),
    };
    if e.opset < since {
        return Err(format!("scattering with {name} needs opset {since}"));
    }
    Ok(vec![("reduction", name.into())])
}

fn random(
    e: &mut Emitter,
    frame: &mut Frame<'_>,
    x: &Operands,
    distribution: Distribution,
    dtype: DType,
    seed: Option<u64>,
) -> String {
    let wide = if dtype == DType::BF16 { DType::F32 } else { dtype };
    let like = e.add(frame, "ConstantOfShape", &[x.name(0)], vec![]);
    let (op, mut attributes) = match distribution {
        Distribution::Uniform { low, high } => (
            "RandomUniformLike",
            vec![("low", (low as f32).into()), ("high", (high as f32).into())],
        ),
        Distribution::Normal { mean, deviation } => (
            "RandomNormalLike",
            vec![("mean", (mean as f32).into()), ("scale", (deviation as f32).into())],
        ),
    };
    attributes.push(("dtype", i64::from(dtype_to_onnx(wide)).into()));
    if let Some(seed) = seed {
        attributes.push(("seed", (seed as f32).into()));
    }
    let drawn = e.add(frame, op, &[&like], attributes);
    e.cast(frame, &drawn, wide, dtype)
}

/// `f(x)` in a type that the operator takes, where it does not take that of `x`.
fn in_type(
    e: &mut Emitter,
    frame: &mut Frame<'_>,
    x: &Operands,
    op: &str,
    compute: DType,
    result: DType,
) -> String {
    let wide = e.cast(frame, x.name(0), x.dtype(0), compute);
    let made = e.add(frame, op, &[&wide], vec![]);
    if result == DType::Bool { made } else { e.cast(frame, &made, compute, result) }
}

fn unary(
    e: &mut Emitter,
    frame: &mut Frame<'_>,
    x: &Operands,
    op: Unary,
) -> Result<String, String> {
    let dtype = x.dtype(0);
    let plain = |e: &mut Emitter, frame: &mut Frame<'_>, name: &str| {
        e.add(frame, name, &[x.name(0)], vec![])
    };
    // Functions that got bf16 only with opset 22.
    let function = |e: &mut Emitter, frame: &mut Frame<'_>, name: &str| {
        let compute = if dtype == DType::BF16 && e.opset < 22 { DType::F32 } else { dtype };
        in_type(e, frame, x, name, compute, dtype)
    };
    Ok(match op {
        Unary::Neg if dtype.is_unsigned_integer() => {
            let zero = e.scalar(dtype, 0.0);
            e.add(frame, "Sub", &[&zero, x.name(0)], vec![])
        }
        Unary::Neg => plain(e, frame, "Neg"),
        Unary::Abs => plain(e, frame, "Abs"),
        Unary::Sign => plain(e, frame, "Sign"),
        Unary::Floor => plain(e, frame, "Floor"),
        Unary::Ceil => plain(e, frame, "Ceil"),
        Unary::Sqrt => plain(e, frame, "Sqrt"),
        Unary::Exp => plain(e, frame, "Exp"),
        Unary::Log => plain(e, frame, "Log"),
        Unary::Tanh => plain(e, frame, "Tanh"),
        Unary::Erf => plain(e, frame, "Erf"),
        Unary::Sigmoid => plain(e, frame, "Sigmoid"),
        Unary::Round => function(e, frame, "Round"),
        Unary::Sin => function(e, frame, "Sin"),
        Unary::Cos => function(e, frame, "Cos"),
        Unary::Tan => function(e, frame, "Tan"),
        Unary::Asin => function(e, frame, "Asin"),
        Unary::Acos => function(e, frame, "Acos"),
        Unary::Atan => function(e, frame, "Atan"),
        Unary::Sinh => function(e, frame, "Sinh"),
        Unary::Cosh => function(e, frame, "Cosh"),
        Unary::Asinh => function(e, frame, "Asinh"),
        Unary::Acosh => function(e, frame, "Acosh"),
        Unary::Atanh => function(e, frame, "Atanh"),
        Unary::Not if dtype == DType::Bool => plain(e, frame, "Not"),
        Unary::Not if e.opset >= 18 => plain(e, frame, "BitwiseNot"),
        Unary::Not => return Err("bitwise operators need opset 18".into()),
        Unary::IsNan | Unary::IsInf => {
            let compute = match dtype {
                DType::F64 => DType::F64,
                _ => DType::F32,
            };
            let name = if op == Unary::IsNan { "IsNaN" } else { "IsInf" };
            in_type(e, frame, x, name, compute, DType::Bool)
        }
    })
}

/// `f(a, b)` in a type that the operator takes.
fn pair(
    e: &mut Emitter,
    frame: &mut Frame<'_>,
    x: &Operands,
    op: &str,
    compute: DType,
    attributes: Vec<(&str, super::emit::Value)>,
) -> String {
    let a = e.cast(frame, x.name(0), x.dtype(0), compute);
    let b = e.cast(frame, x.name(1), x.dtype(1), compute);
    e.add(frame, op, &[&a, &b], attributes)
}

fn binary(
    e: &mut Emitter,
    frame: &mut Frame<'_>,
    x: &Operands,
    op: Binary,
) -> Result<String, String> {
    let dtype = x.dtype(0);
    // Arithmetic takes 8 and 16 bits since opset 14, the largest of two since 12 but for 8 and 16.
    let narrow = dtype.is_integer() && dtype.storage_bits() <= 16;
    let arithmetic = if narrow && e.opset < 14 { DType::I32 } else { dtype };
    let made = match op {
        Binary::Add => pair(e, frame, x, "Add", arithmetic, vec![]),
        Binary::Sub => pair(e, frame, x, "Sub", arithmetic, vec![]),
        Binary::Mul => pair(e, frame, x, "Mul", arithmetic, vec![]),
        Binary::Div => pair(e, frame, x, "Div", arithmetic, vec![]),
        Binary::Rem => {
            return Ok(pair(e, frame, x, "Mod", dtype, vec![("fmod", 1.into())]));
        }
        Binary::Pow => {
            // The base is of 32 bits or a float; the exponent is anything.
            let base = if narrow { DType::I32 } else { dtype };
            let base = match base {
                DType::U32 | DType::U64 => DType::I64,
                DType::BF16 if e.opset < 15 => DType::F32,
                other => other,
            };
            let a = e.cast(frame, x.name(0), dtype, base);
            let made = e.add(frame, "Pow", &[&a, x.name(1)], vec![]);
            return Ok(e.cast(frame, &made, base, dtype));
        }
        Binary::Max | Binary::Min if dtype == DType::Bool => {
            let name = if op == Binary::Max { "Or" } else { "And" };
            return Ok(pair(e, frame, x, name, dtype, vec![]));
        }
        Binary::Max | Binary::Min => {
            let name = if op == Binary::Max { "Max" } else { "Min" };
            let compute = if narrow { DType::I32 } else { dtype };
            let made = pair(e, frame, x, name, compute, vec![]);
            return Ok(e.cast(frame, &made, compute, dtype));
        }
        Binary::And | Binary::Or | Binary::Xor => {
            let name = match (op, dtype == DType::Bool) {
                (Binary::And, true) => "And",
                (Binary::Or, true) => "Or",
                (_, true) => "Xor",
                (Binary::And, false) => "BitwiseAnd",
                (Binary::Or, false) => "BitwiseOr",
                (_, false) => "BitwiseXor",
            };
            if dtype != DType::Bool && e.opset < 18 {
                return Err("bitwise operators need opset 18".into());
            }
            return Ok(pair(e, frame, x, name, dtype, vec![]));
        }
        Binary::ShiftLeft | Binary::ShiftRight => return shift(e, frame, x, op),
    };
    Ok(e.cast(frame, &made, arithmetic, dtype))
}

/// The standard shifts unsigned integers only, and not by the width or more.
#[expect(clippy::unnecessary_wraps, reason = "one of a table of functions that can fail")]
fn shift(
    e: &mut Emitter,
    frame: &mut Frame<'_>,
    x: &Operands,
    op: Binary,
) -> Result<String, String> {
    let dtype = x.dtype(0);
    let unsigned = match dtype {
        DType::I8 => DType::U8,
        DType::I16 => DType::U16,
        DType::I32 => DType::U32,
        DType::I64 => DType::U64,
        other => other,
    };
    let direction = if op == Binary::ShiftLeft { "LEFT" } else { "RIGHT" };
    let amount = e.cast(frame, x.name(1), dtype, unsigned);
    let (width, zero) = (e.scalar(unsigned, dtype.storage_bits() as f64), e.scalar(unsigned, 0.0));
    let fits = less(e, frame, &amount, &width, unsigned);
    let amount = e.add(frame, "Where", &[&fits, &amount, &zero], vec![]);
    let nothing = e.scalar(dtype, 0.0);
    let arithmetic = op == Binary::ShiftRight && unsigned != dtype;
    let mut input = x.names[0].clone();
    let mut mirror = None;
    if arithmetic {
        // Below zero the bits are turned round and back again: what comes in on the left is the sign.
        let minus_one = e.scalar(dtype, -1.0);
        let below = less(e, frame, &input, &nothing, dtype);
        let turned = e.add(frame, "Sub", &[&minus_one, &input], vec![]);
        input = e.add(frame, "Where", &[&below, &turned, &input], vec![]);
        mirror = Some((below, minus_one));
    }
    let a = e.cast(frame, &input, dtype, unsigned);
    let shifted = e.add(frame, "BitShift", &[&a, &amount], vec![("direction", direction.into())]);
    let mut result = e.cast(frame, &shifted, unsigned, dtype);
    if let Some((below, minus_one)) = mirror {
        let turned = e.add(frame, "Sub", &[&minus_one, &result], vec![]);
        result = e.add(frame, "Where", &[&below, &turned, &result], vec![]);
    }
    Ok(e.add(frame, "Where", &[&fits, &result, &nothing], vec![]))
}

/// `a < b` for integers of any width.
fn less(e: &mut Emitter, frame: &mut Frame<'_>, a: &str, b: &str, dtype: DType) -> String {
    let compute = if dtype.storage_bits() >= 32 { dtype } else { DType::I32 };
    let (a, b) = (e.cast(frame, a, dtype, compute), e.cast(frame, b, dtype, compute));
    e.add(frame, "Less", &[&a, &b], vec![])
}

fn compare(e: &mut Emitter, frame: &mut Frame<'_>, x: &Operands, op: Compare) -> String {
    let dtype = x.dtype(0);
    let ordered = !matches!(op, Compare::Eq | Compare::Ne);
    let compute = match dtype {
        DType::Bool if ordered => DType::I32,
        small if small.is_small_float() => DType::F32,
        packed if packed.storage_bits() < 8 => DType::I32,
        other => other,
    };
    let name = match op {
        Compare::Eq | Compare::Ne => "Equal",
        Compare::Lt => "Less",
        Compare::Le => "LessOrEqual",
        Compare::Gt => "Greater",
        Compare::Ge => "GreaterOrEqual",
    };
    let made = pair(e, frame, x, name, compute, vec![]);
    if op == Compare::Ne { e.add(frame, "Not", &[&made], vec![]) } else { made }
}

fn cast(
    e: &mut Emitter,
    frame: &mut Frame<'_>,
    x: &Operands,
    to: DType,
    saturate: bool,
    rounding: Rounding,
) -> Result<String, String> {
    if to == x.dtype(0) {
        return Ok(e.add(frame, "Identity", &[x.name(0)], vec![]));
    }
    let mut attributes = vec![("to", i64::from(dtype_to_onnx(to)).into())];
    if !saturate && to.is_small_float() {
        attributes.push(("saturate", 0.into()));
    }
    if to == DType::F8E8M0 {
        let mode = match rounding {
            Rounding::Up => "up",
            Rounding::Down => "down",
            Rounding::NearestUp => "nearest",
            Rounding::NearestEven => {
                return Err("the standard has no cast to f8e8m0 that rounds to even".into());
            }
        };
        attributes.push(("round_mode", mode.into()));
    }
    let since = match to {
        DType::F8E4M3FN | DType::F8E4M3FNUZ | DType::F8E5M2 | DType::F8E5M2FNUZ => 19,
        DType::I4 | DType::U4 => 21,
        DType::F4E2M1 => 23,
        DType::F8E8M0 => 24,
        DType::I2 | DType::U2 => 25,
        DType::F6E2M3 | DType::F6E3M2 => 28,
        _ => 13,
    };
    if e.opset < since {
        return Err(format!("{to} needs opset {since}"));
    }
    Ok(e.add(frame, "Cast", &[x.name(0)], attributes))
}
