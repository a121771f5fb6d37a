//! The settings of primitives as data, both ways: with these, primitives print and parse as composites do.

use anychip_tensor::DType;

use crate::{
    Attribute, Binary, Combine, Compare, ConvolutionDims, Distribution, DotDims, Prim, ReduceKind,
    Rounding, Unary, Window,
};

type Settings = Vec<(&'static str, Attribute)>;

fn ints(values: &[usize]) -> Attribute {
    Attribute::Ints(values.iter().map(|&v| v as i64).collect())
}

fn int(value: usize) -> Attribute {
    Attribute::Int(value as i64)
}

fn text(value: &str) -> Attribute {
    Attribute::Text(value.to_string())
}

fn pairs(values: &[(i64, i64)]) -> (Attribute, Attribute) {
    let (low, high) = values.iter().copied().unzip();
    (Attribute::Ints(low), Attribute::Ints(high))
}

const ROUNDINGS: [(Rounding, &str); 4] = [
    (Rounding::NearestEven, "nearest-even"),
    (Rounding::Up, "up"),
    (Rounding::Down, "down"),
    (Rounding::NearestUp, "nearest-up"),
];

fn name_in<T: PartialEq>(table: &[(T, &'static str)], value: &T) -> Attribute {
    text(table.iter().find(|(member, _)| member == value).map_or("", |(_, name)| name))
}

/// The settings in the order in which they print.
pub(super) fn of_prim(prim: &Prim) -> Settings {
    match prim {
        Prim::Constant(_)
        | Prim::Iota
        | Prim::Unary(_)
        | Prim::Binary(_)
        | Prim::Compare(_)
        | Prim::Select
        | Prim::ShapeOf
        | Prim::Reshape
        | Prim::Broadcast
        | Prim::Pad
        | Prim::NonZero
        | Prim::If => Vec::new(),
        Prim::Random { distribution, dtype, seed } => {
            let mut settings = vec![("dtype", Attribute::DType(*dtype))];
            match distribution {
                Distribution::Uniform { low, high } => {
                    settings.push(("low", Attribute::Float(*low)));
                    settings.push(("high", Attribute::Float(*high)));
                }
                Distribution::Normal { mean, deviation } => {
                    settings.push(("mean", Attribute::Float(*mean)));
                    settings.push(("deviation", Attribute::Float(*deviation)));
                }
            }
            // A seed has 64 bits without sign; it travels as the signed number of the same bits.
            settings.extend(seed.map(|seed| ("seed", Attribute::Int(seed as i64))));
            settings
        }
        Prim::Cast { to, saturate, rounding } => vec![
            ("to", Attribute::DType(*to)),
            ("saturate", Attribute::Bool(*saturate)),
            ("rounding", name_in(&ROUNDINGS, rounding)),
        ],
        Prim::BitCast { to } | Prim::Dequantize { to } | Prim::Requantize { to } => {
            vec![("to", Attribute::DType(*to))]
        }
        Prim::Quantize { to, saturate } => {
            vec![("to", Attribute::DType(*to)), ("saturate", Attribute::Bool(*saturate))]
        }
        Prim::DotGeneral(dims, output) => vec![
            ("output", Attribute::DType(*output)),
            ("lhs_batch", ints(&dims.lhs_batch)),
            ("rhs_batch", ints(&dims.rhs_batch)),
            ("lhs_contract", ints(&dims.lhs_contract)),
            ("rhs_contract", ints(&dims.rhs_contract)),
        ],
        Prim::Convolution(dims, output) => {
            let (low, high) = pairs(&dims.padding);
            vec![
                ("output", Attribute::DType(*output)),
                ("strides", ints(&dims.strides)),
                ("padding_low", low),
                ("padding_high", high),
                ("dilation", ints(&dims.dilation)),
                ("input_dilation", ints(&dims.input_dilation)),
                ("groups", int(dims.groups)),
            ]
        }
        Prim::Reduce { kind, axes } => {
            vec![("kind", name_in(&ReduceKind::ALL, kind)), ("axes", ints(axes))]
        }
        Prim::ArgReduce { kind, axis, last } => vec![
            ("kind", name_in(&ReduceKind::ALL, kind)),
            ("axis", int(*axis)),
            ("last", Attribute::Bool(*last)),
        ],
        Prim::ReduceWindow { kind, window } => {
            let (low, high) = pairs(&window.padding);
            vec![
                ("kind", name_in(&ReduceKind::ALL, kind)),
                ("size", ints(&window.size)),
                ("strides", ints(&window.strides)),
                ("dilation", ints(&window.dilation)),
                ("padding_low", low),
                ("padding_high", high),
            ]
        }
        Prim::Cumulative { kind, axis, exclusive, reverse } => vec![
            ("kind", name_in(&ReduceKind::ALL, kind)),
            ("axis", int(*axis)),
            ("exclusive", Attribute::Bool(*exclusive)),
            ("reverse", Attribute::Bool(*reverse)),
        ],
        Prim::TopK { axis, largest } => {
            vec![("axis", int(*axis)), ("largest", Attribute::Bool(*largest))]
        }
        Prim::Transpose { permutation } => vec![("permutation", ints(permutation))],
        Prim::Slice { axes } => vec![("axes", ints(axes))],
        Prim::Concat { axis } | Prim::Take { axis } | Prim::TakeAlong { axis } => {
            vec![("axis", int(*axis))]
        }
        Prim::GatherNd { batch } => vec![("batch", int(*batch))],
        Prim::ScatterAlong { axis, combine } => {
            vec![("axis", int(*axis)), ("combine", name_in(&Combine::ALL, combine))]
        }
        Prim::ScatterNd { combine } => vec![("combine", name_in(&Combine::ALL, combine))],
        Prim::Loop { carried } => vec![("carried", int(*carried))],
    }
}

/// Settings as parsed, taken one by one; what is left over at the end was not expected.
struct Taken<'a>(Vec<&'a (String, Attribute)>);

impl<'a> Taken<'a> {
    fn take(&mut self, key: &str) -> Option<&'a Attribute> {
        let i = self.0.iter().position(|(own, _)| own == key)?;
        Some(&self.0.remove(i).1)
    }

    fn value<T: crate::AttributeValue>(&mut self, key: &str) -> Option<T> {
        T::from_attribute(Some(self.take(key)?))
    }

    fn usize(&mut self, key: &str) -> Option<usize> {
        self.value(key)
    }

    fn list(&mut self, key: &str) -> Option<Vec<usize>> {
        self.value(key)
    }

    fn dtype(&mut self, key: &str) -> Option<DType> {
        self.value(key)
    }

    fn flag(&mut self, key: &str) -> Option<bool> {
        self.value(key)
    }

    fn member<T: Copy>(&mut self, key: &str, table: &[(T, &str)]) -> Option<T> {
        let name: String = self.value(key)?;
        table.iter().find(|(_, own)| *own == name).map(|(member, _)| *member)
    }

    fn padding(&mut self) -> Option<Vec<(i64, i64)>> {
        let (low, high): (Vec<i64>, Vec<i64>) =
            (self.value("padding_low")?, self.value("padding_high")?);
        (low.len() == high.len()).then(|| low.into_iter().zip(high).collect())
    }
}

/// The primitive of a name with settings; `None` when a setting is missing, unknown or of the wrong type, or
/// when there is no primitive of that name but `constant`, which is written apart.
pub(super) fn to_prim(name: &str, settings: &[(String, Attribute)]) -> Option<Prim> {
    let mut s = Taken(settings.iter().collect());
    let prim = build(name, &mut s)?;
    s.0.is_empty().then_some(prim)
}

/// Whether a primitive has this name.
pub(super) fn is_prim(name: &str) -> bool {
    const OTHERS: &[&str] = &[
        "iota",
        "random",
        "select",
        "cast",
        "bit-cast",
        "dot-general",
        "convolution",
        "reduce",
        "arg-reduce",
        "reduce-window",
        "cumulative",
        "top-k",
        "shape-of",
        "reshape",
        "broadcast",
        "transpose",
        "slice",
        "pad",
        "concat",
        "take",
        "take-along",
        "gather-nd",
        "scatter-along",
        "scatter-nd",
        "non-zero",
        "quantize",
        "dequantize",
        "requantize",
        "if",
        "loop",
    ];
    OTHERS.contains(&name) || elementwise(name).is_some()
}

fn elementwise(name: &str) -> Option<Prim> {
    let unary = Unary::ALL.iter().find(|(_, n)| *n == name).map(|(u, _)| Prim::Unary(*u));
    let binary = || Binary::ALL.iter().find(|(_, n)| *n == name).map(|(b, _)| Prim::Binary(*b));
    let compare = || Compare::ALL.iter().find(|(_, n)| *n == name).map(|(c, _)| Prim::Compare(*c));
    unary.or_else(binary).or_else(compare)
}

fn build(name: &str, s: &mut Taken<'_>) -> Option<Prim> {
    Some(match name {
        "iota" => Prim::Iota,
        "random" => {
            let dtype = s.dtype("dtype")?;
            let distribution = match s.value("low") {
                Some(low) => Distribution::Uniform { low, high: s.value("high")? },
                None => Distribution::Normal {
                    mean: s.value("mean")?,
                    deviation: s.value("deviation")?,
                },
            };
            let seed = match s.take("seed") {
                Some(Attribute::Int(seed)) => Some(*seed as u64),
                Some(_) => return None,
                None => None,
            };
            Prim::Random { distribution, dtype, seed }
        }
        "select" => Prim::Select,
        "cast" => Prim::Cast {
            to: s.dtype("to")?,
            saturate: s.flag("saturate")?,
            rounding: s.member("rounding", &ROUNDINGS)?,
        },
        "bit-cast" => Prim::BitCast { to: s.dtype("to")? },
        "dot-general" => {
            let output = s.dtype("output")?;
            let dims = DotDims {
                lhs_batch: s.list("lhs_batch")?,
                rhs_batch: s.list("rhs_batch")?,
                lhs_contract: s.list("lhs_contract")?,
                rhs_contract: s.list("rhs_contract")?,
            };
            Prim::DotGeneral(dims, output)
        }
        "convolution" => {
            let output = s.dtype("output")?;
            let dims = ConvolutionDims {
                strides: s.list("strides")?,
                padding: s.padding()?,
                dilation: s.list("dilation")?,
                input_dilation: s.list("input_dilation")?,
                groups: s.usize("groups")?,
            };
            Prim::Convolution(dims, output)
        }
        "reduce" => {
            Prim::Reduce { kind: s.member("kind", &ReduceKind::ALL)?, axes: s.list("axes")? }
        }
        "arg-reduce" => Prim::ArgReduce {
            kind: s.member("kind", &ReduceKind::ALL)?,
            axis: s.usize("axis")?,
            last: s.flag("last")?,
        },
        "reduce-window" => {
            let kind = s.member("kind", &ReduceKind::ALL)?;
            let window = Window {
                size: s.list("size")?,
                strides: s.list("strides")?,
                dilation: s.list("dilation")?,
                padding: s.padding()?,
            };
            Prim::ReduceWindow { kind, window }
        }
        "cumulative" => Prim::Cumulative {
            kind: s.member("kind", &ReduceKind::ALL)?,
            axis: s.usize("axis")?,
            exclusive: s.flag("exclusive")?,
            reverse: s.flag("reverse")?,
        },
        "top-k" => Prim::TopK { axis: s.usize("axis")?, largest: s.flag("largest")? },
        "shape-of" => Prim::ShapeOf,
        "reshape" => Prim::Reshape,
        "broadcast" => Prim::Broadcast,
        "transpose" => Prim::Transpose { permutation: s.list("permutation")? },
        "slice" => Prim::Slice { axes: s.list("axes")? },
        "pad" => Prim::Pad,
        "concat" => Prim::Concat { axis: s.usize("axis")? },
        "take" => Prim::Take { axis: s.usize("axis")? },
        "take-along" => Prim::TakeAlong { axis: s.usize("axis")? },
        "gather-nd" => Prim::GatherNd { batch: s.usize("batch")? },
        "scatter-along" => Prim::ScatterAlong {
            axis: s.usize("axis")?,
            combine: s.member("combine", &Combine::ALL)?,
        },
        "scatter-nd" => Prim::ScatterNd { combine: s.member("combine", &Combine::ALL)? },
        "non-zero" => Prim::NonZero,
        "quantize" => Prim::Quantize { to: s.dtype("to")?, saturate: s.flag("saturate")? },
        "dequantize" => Prim::Dequantize { to: s.dtype("to")? },
        "requantize" => Prim::Requantize { to: s.dtype("to")? },
        "if" => Prim::If,
        "loop" => Prim::Loop { carried: s.usize("carried")? },
        _ => return elementwise(name),
    })
}
