//! A graph as text.

use std::fmt::Write;

use anychip_tensor::{Atom, DType, Dim, Tensor};

use super::lex::is_plain;
use super::settings;
use crate::{Attribute, Graph, Node, Op, Prim, TensorType, ValueId};

/// Constants of more elements than this are written as bytes, or left out for people.
const FEW: usize = 32;

/// The whole graph; [`super::parse`] gives it back.
pub fn print(graph: &Graph) -> String {
    let mut printer = Printer { text: String::new(), whole: true };
    printer.graph(graph, 0);
    printer.text.push('\n');
    printer.text
}

/// The graph for people: the elements of large constants are left out, so it does not parse back.
pub fn print_summary(graph: &Graph) -> String {
    let mut printer = Printer { text: String::new(), whole: false };
    printer.graph(graph, 0);
    printer.text.push('\n');
    printer.text
}

struct Printer {
    text: String,
    whole: bool,
}

impl Printer {
    fn put(&mut self, text: &str) {
        self.text.push_str(text);
    }

    fn line(&mut self, depth: usize) {
        self.text.push('\n');
        self.text.extend(std::iter::repeat_n("  ", depth));
    }

    fn graph(&mut self, graph: &Graph, depth: usize) {
        // Numbers in the order of definition as printed, whatever order the builder made them in.
        let mut numbers = vec![usize::MAX; graph.value_count()];
        let results = graph.nodes().iter().flat_map(|node| &node.outputs);
        for (number, value) in graph.inputs().iter().chain(results).enumerate() {
            numbers[value.index()] = number;
        }
        self.put("graph ");
        self.quoted(graph.name());
        self.put(" (");
        self.list(graph.inputs(), |printer, &value| printer.value(graph, &numbers, value));
        self.put(") {");
        for node in graph.nodes() {
            self.line(depth + 1);
            self.node(graph, &numbers, node, depth + 1);
        }
        self.line(depth + 1);
        self.put("return ");
        let outputs: Vec<_> = graph.outputs().iter().zip(graph.output_names()).collect();
        self.list(&outputs, |printer, (value, name)| {
            printer.put(&format!("%{} ", numbers[value.index()]));
            printer.quoted(name);
        });
        self.line(depth);
        self.put("}");
    }

    fn list<T>(&mut self, items: &[T], mut one: impl FnMut(&mut Printer, &T)) {
        for (i, item) in items.iter().enumerate() {
            if i > 0 {
                self.put(", ");
            }
            one(self, item);
        }
    }

    /// `%3 "name": f32[n]`
    fn value(&mut self, graph: &Graph, numbers: &[usize], value: ValueId) {
        self.put(&format!("%{}", numbers[value.index()]));
        if let Some(name) = graph.value_name(value) {
            self.put(" ");
            self.quoted(name);
        }
        self.put(": ");
        self.ty(graph.ty(value));
    }

    fn ty(&mut self, ty: &TensorType) {
        self.put(ty.dtype.name());
        self.put("[");
        self.list(&ty.shape, Printer::dim);
        self.put("]");
    }

    fn node(&mut self, graph: &Graph, numbers: &[usize], node: &Node, depth: usize) {
        self.list(&node.outputs, |printer, &value| printer.value(graph, numbers, value));
        self.put(" = ");
        self.put(node.op.name());
        let settings = match &node.op {
            Op::Prim(Prim::Constant(tensor)) => {
                self.constant(tensor);
                Vec::new()
            }
            _ if node.inputs.is_empty() => {
                self.put(" ()");
                attributes(&node.op)
            }
            op => attributes(op),
        };
        if !node.inputs.is_empty() {
            self.put(" ");
            self.list(&node.inputs, |printer, value| {
                printer.put(&format!("%{}", numbers[value.index()]));
            });
        }
        if !settings.is_empty() {
            self.put(" {");
            self.list(&settings, |printer, (key, value)| {
                printer.put(&format!("{key} = "));
                printer.attribute(value);
            });
            self.put("}");
        }
        if !node.regions.is_empty() {
            self.put(" regions (");
            for (i, region) in node.regions.iter().enumerate() {
                self.put(if i > 0 { "," } else { "" });
                self.line(depth + 1);
                self.graph(region, depth + 1);
            }
            self.line(depth);
            self.put(")");
        }
        if !node.name.is_empty() {
            self.put(" @");
            self.quoted(&node.name);
        }
    }

    fn constant(&mut self, tensor: &Tensor) {
        if tensor.len() <= FEW
            && let Some(elements) = exact_elements(tensor)
        {
            self.put(&format!(" [{elements}]"));
        } else if self.whole {
            self.put(" hex \"");
            for byte in tensor.bytes() {
                write!(self.text, "{byte:02x}").expect("a string takes any text");
            }
            self.put("\"");
        } else {
            self.put(" …");
        }
    }

    fn attribute(&mut self, attribute: &Attribute) {
        match attribute {
            Attribute::Bool(value) => self.put(if *value { "true" } else { "false" }),
            Attribute::Int(value) => self.put(&value.to_string()),
            Attribute::Float(value) => self.put(&float(*value)),
            Attribute::Text(value) => self.quoted(value),
            Attribute::DType(value) => self.put(value.name()),
            Attribute::Ints(values) => {
                self.put("[");
                self.list(values, |printer, value| printer.put(&value.to_string()));
                self.put("]");
            }
            // The element type of an empty list would be lost, so these two say it.
            Attribute::Floats(values) => {
                self.put("floats [");
                self.list(values, |printer, value| printer.put(&float(*value)));
                self.put("]");
            }
            Attribute::Texts(values) => {
                self.put("texts [");
                self.list(values, |printer, value| printer.quoted(value));
                self.put("]");
            }
        }
    }

    fn quoted(&mut self, text: &str) {
        self.put("\"");
        for c in text.chars() {
            match c {
                '"' | '\\' => {
                    self.put("\\");
                    self.text.push(c);
                }
                control if control.is_control() => {
                    self.put(&format!("\\u{{{:x}}}", u32::from(control)));
                }
                plain => self.text.push(plain),
            }
        }
        self.put("\"");
    }

    /// As [`Dim`] displays, with quotes where a name needs them.
    fn dim(&mut self, dim: &Dim) {
        match dim {
            Dim::Fixed(n) => self.put(&n.to_string()),
            Dim::Sym(name) => self.symbol(name),
            Dim::Expr(polynomial) => {
                let terms: Vec<_> = polynomial.terms().collect();
                if terms.is_empty() {
                    self.put("0");
                }
                for (i, (coefficient, atoms)) in terms.iter().rev().enumerate() {
                    match (i, *coefficient < 0) {
                        (0, false) => {}
                        (0, true) => self.put("-"),
                        (_, false) => self.put(" + "),
                        (_, true) => self.put(" - "),
                    }
                    let magnitude = coefficient.unsigned_abs();
                    if atoms.is_empty() || magnitude != 1 {
                        self.put(&magnitude.to_string());
                    }
                    for (j, atom) in atoms.iter().enumerate() {
                        if j > 0 || magnitude != 1 {
                            self.put("*");
                        }
                        self.atom(atom);
                    }
                }
            }
        }
    }

    fn atom(&mut self, atom: &Atom) {
        let (name, a, b) = match atom {
            Atom::Sym(name) => return self.symbol(name),
            Atom::FloorDiv(a, b) => ("floordiv", a, b),
            Atom::Max(a, b) => ("max", a, b),
            Atom::Min(a, b) => ("min", a, b),
        };
        self.put(name);
        self.put("(");
        self.dim(a);
        self.put(", ");
        self.dim(b);
        self.put(")");
    }

    fn symbol(&mut self, name: &str) {
        if is_plain(name) { self.put(name) } else { self.quoted(name) }
    }
}

fn attributes(op: &Op) -> crate::Attributes {
    match op {
        Op::Prim(prim) => settings::of_prim(prim),
        Op::Composite(composite) => composite.attributes(),
    }
}

/// The shortest decimal that reads back as the same number, always with a point or exponent.
fn float(value: f64) -> String {
    if value.is_nan() { "nan".to_string() } else { format!("{value:?}") }
}

/// The elements as decimals, when reading them gives the same bits.
fn exact_elements(tensor: &Tensor) -> Option<String> {
    let words: Vec<String> = match tensor.dtype() {
        DType::F32 => tensor.to_f64().iter().map(|&v| short_single(v as f32)).collect(),
        dtype if dtype.is_float() => tensor.to_f64().iter().map(|&v| float(v)).collect(),
        DType::Bool => tensor
            .to_i64()
            .iter()
            .map(|&v| if v != 0 { "true" } else { "false" }.to_string())
            .collect(),
        _ => tensor.to_integers().iter().map(ToString::to_string).collect(),
    };
    let read = if tensor.dtype().is_float() {
        let values: Vec<f64> = words.iter().map(|w| w.parse().ok()).collect::<Option<_>>()?;
        Tensor::from_f64(tensor.dtype(), tensor.shape(), &values).ok()?
    } else {
        Tensor::from_integers(tensor.dtype(), tensor.shape(), &tensor.to_integers()).ok()?
    };
    (&read == tensor).then(|| words.join(", "))
}

fn short_single(value: f32) -> String {
    if value.is_nan() { "nan".to_string() } else { format!("{value:?}") }
}
