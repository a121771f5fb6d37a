//! Writes StableHLO as text, one operation a line.
//!
//! Every operation is written in MLIR's generic form, which says all types and attributes by name and has not changed for as
//! long as plugins have read text.

use anychip_tensor::Tensor;

use crate::element::{Element, to_device};

/// A value of the program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Value {
    name: String,
    pub(crate) element: Element,
    pub(crate) shape: Vec<usize>,
}

impl Value {
    /// A value that another place of the text defines.
    pub(super) fn named(name: String, element: Element, shape: Vec<usize>) -> Value {
        Value { name, element, shape }
    }

    pub(crate) fn rank(&self) -> usize {
        self.shape.len()
    }

    /// The number of elements.
    pub(crate) fn len(&self) -> usize {
        self.shape.iter().product()
    }
}

/// `tensor<2x3xf32>`
pub(super) fn type_of(element: Element, shape: &[usize]) -> String {
    let mut text = "tensor<".to_string();
    for size in shape {
        text.push_str(&format!("{size}x"));
    }
    text + element.name() + ">"
}

/// `array<i64: 1, 2>`
pub(super) fn array(numbers: impl IntoIterator<Item = impl ToString>) -> String {
    let numbers = list(numbers);
    if numbers.is_empty() { "array<i64>".to_string() } else { format!("array<i64: {numbers}>") }
}

/// `1, 2`
pub(super) fn list(items: impl IntoIterator<Item = impl ToString>) -> String {
    items.into_iter().map(|item| item.to_string()).collect::<Vec<_>>().join(", ")
}

/// Text of a program's body.
#[derive(Debug, Default)]
pub(super) struct Writer {
    text: String,
    next: usize,
    depth: usize,
    /// The node that is being written, for the compiler's own reports.
    location: String,
}

impl Writer {
    /// What has been written.
    pub(super) fn into_text(self) -> String {
        self.text
    }

    /// Names the node that what follows belongs to.
    pub(super) fn set_location(&mut self, name: &str) {
        let plain = |c: char| c.is_ascii_graphic() && c != '"' && c != '\\';
        let name: String = name.chars().map(|c| if plain(c) { c } else { '_' }).collect();
        self.location = if name.is_empty() { name } else { format!(" loc(\"{name}\")") };
    }

    fn fresh(&mut self, element: Element, shape: &[usize]) -> Value {
        let name = format!("%{}", self.next);
        self.next += 1;
        Value::named(name, element, shape.to_vec())
    }

    fn line(&mut self, text: &str) {
        for _ in 0..=self.depth {
            self.text.push_str("  ");
        }
        self.text.push_str(text);
        self.text.push('\n');
    }

    /// An operation with one result.
    pub(super) fn op(
        &mut self,
        name: &str,
        operands: &[&Value],
        attributes: &str,
        element: Element,
        shape: &[usize],
    ) -> Value {
        self.ops(name, operands, &[], attributes, &[(element, shape.to_vec())]).remove(0)
    }

    /// An operation with regions (as [`Writer::region`] gives them) and any number of results.
    pub(super) fn ops(
        &mut self,
        name: &str,
        operands: &[&Value],
        regions: &[String],
        attributes: &str,
        results: &[(Element, Vec<usize>)],
    ) -> Vec<Value> {
        let values: Vec<Value> =
            results.iter().map(|(element, shape)| self.fresh(*element, shape)).collect();
        let mut text = list(values.iter().map(|v| &v.name));
        if !values.is_empty() {
            text.push_str(" = ");
        }
        let names = list(operands.iter().map(|v| &v.name));
        text.push_str(&format!("\"{name}\"({names})"));
        if !regions.is_empty() {
            text.push_str(&format!(" ({})", regions.join(", ")));
        }
        if !attributes.is_empty() {
            text.push_str(&format!(" {{{attributes}}}"));
        }
        let from = list(operands.iter().map(|v| type_of(v.element, &v.shape)));
        let to = list(values.iter().map(|v| type_of(v.element, &v.shape)));
        let to = if values.len() == 1 { to } else { format!("({to})") };
        text.push_str(&format!(" : ({from}) -> {to}{}", self.location));
        self.line(&text);
        values
    }

    /// The text of a region with one block: `write` gets its arguments and gives its results.
    pub(super) fn region<E>(
        &mut self,
        arguments: &[(Element, Vec<usize>)],
        write: impl FnOnce(&mut Writer, &[Value]) -> Result<Vec<Value>, E>,
    ) -> Result<String, E> {
        let values: Vec<Value> =
            arguments.iter().map(|(element, shape)| self.fresh(*element, shape)).collect();
        let outside = std::mem::take(&mut self.text);
        self.depth += 1;
        let results = write(self, &values);
        if let Ok(results) = &results {
            self.finish("stablehlo.return", results);
        }
        self.depth -= 1;
        let inside = std::mem::replace(&mut self.text, outside);
        results?;
        let indent = "  ".repeat(self.depth + 1);
        let head = if values.is_empty() {
            String::new()
        } else {
            let typed = |v: &Value| format!("{}: {}", v.name, type_of(v.element, &v.shape));
            format!("{indent}^bb0({}):\n", list(values.iter().map(typed)))
        };
        Ok(format!("{{\n{head}{inside}{indent}}}"))
    }

    /// The end of a block.
    pub(super) fn finish(&mut self, name: &str, results: &[Value]) {
        let operands: Vec<&Value> = results.iter().collect();
        let location = std::mem::take(&mut self.location);
        self.ops(name, &operands, &[], "", &[]);
        self.location = location;
    }

    /// A constant of one value everywhere.
    pub(super) fn splat(&mut self, element: Element, shape: &[usize], value: f64) -> Value {
        let one = Tensor::from_f64(element.dtype(), [], &[value]);
        let literal = one.map_or_else(|_| "0".to_string(), |one| literal(&one));
        self.constant_of(&literal, element, shape)
    }

    /// The same for an integer, which need not fit an `f64`.
    pub(super) fn splat_integer(
        &mut self,
        element: Element,
        shape: &[usize],
        value: i128,
    ) -> Value {
        if element.is_float() {
            return self.splat(element, shape, value as f64);
        }
        let literal =
            if element == Element::Bool { (value != 0).to_string() } else { value.to_string() };
        self.constant_of(&literal, element, shape)
    }

    /// A constant of the elements of a small tensor.
    pub(super) fn constant(&mut self, tensor: &Tensor) -> Value {
        let (element, shape) = (Element::of(tensor.dtype()), tensor.shape());
        let literal = match tensor.len() {
            0 => String::new(),
            1 => literal(tensor),
            _ if element == Element::Bool => {
                nested(shape, &mut tensor.codes().iter().map(|&b| (b != 0).to_string()))
            }
            _ => {
                let bytes = to_device(&tensor.view()).into_owned();
                format!("\"0x{}\"", digits(bytes.iter()))
            }
        };
        self.constant_of(&literal, element, shape)
    }

    fn constant_of(&mut self, literal: &str, element: Element, shape: &[usize]) -> Value {
        let literal = if shape.contains(&0) { "" } else { literal };
        let attribute = format!("value = dense<{literal}> : {}", type_of(element, shape));
        self.op("stablehlo.constant", &[], &attribute, element, shape)
    }
}

/// Bytes as digits to the base 16.
fn digits<'a>(bytes: impl Iterator<Item = &'a u8>) -> String {
    let mut text = String::new();
    for byte in bytes {
        text += &format!("{byte:02X}");
    }
    text
}

/// The one element of a tensor: a number, floats by their bits.
fn literal(tensor: &Tensor) -> String {
    let element = Element::of(tensor.dtype());
    if element.is_float() {
        return format!("0x{}", digits(tensor.bytes().iter().rev()));
    }
    if element == Element::Bool {
        return tensor.codes().first().is_some_and(|&b| b != 0).to_string();
    }
    if tensor.dtype().is_small_float() {
        return tensor.codes().first().copied().unwrap_or(0).to_string();
    }
    tensor.to_integers().first().copied().unwrap_or(0).to_string()
}

/// Elements in brackets, a pair a dim.
fn nested(shape: &[usize], elements: &mut dyn Iterator<Item = String>) -> String {
    match shape {
        [] => elements.next().unwrap_or_default(),
        [n, rest @ ..] => {
            let parts: Vec<String> = (0..*n).map(|_| nested(rest, elements)).collect();
            format!("[{}]", parts.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anychip_tensor::DType;

    fn told(tensor: &Tensor) -> String {
        let mut w = Writer::default();
        w.constant(tensor);
        w.into_text().trim().to_string()
    }

    #[test]
    fn constants_are_written_by_their_bits() {
        assert_eq!(
            told(&Tensor::scalar(1.5f32)),
            "%0 = \"stablehlo.constant\"() {value = dense<0x3FC00000> : tensor<f32>} : () -> tensor<f32>"
        );
        assert!(
            told(&Tensor::from_i64s(&[1, -1]))
                .contains("dense<\"0x0100000000000000FFFFFFFFFFFFFFFF\">")
        );
        let flags = Tensor::from_bools([2, 2], [true, false, false, true]).expect("four");
        assert!(told(&flags).contains("dense<[[true, false], [false, true]]> : tensor<2x2xi1>"));
        let none = Tensor::zeros(DType::F32, [0, 3]).expect("none");
        assert!(told(&none).contains("dense<> : tensor<0x3xf32>"));
        let four = Tensor::from_integers(DType::I4, [], &[-3]).expect("one");
        assert!(told(&four).contains("dense<-3> : tensor<i8>"));
    }

    #[test]
    fn names_of_nodes_cannot_break_the_text() {
        let mut w = Writer::default();
        w.set_location("a\"b\n\\c é");
        w.splat(Element::I32, &[], 3.0);
        assert!(w.into_text().ends_with("tensor<i32> loc(\"a_b__c__\")\n"));
    }
}
