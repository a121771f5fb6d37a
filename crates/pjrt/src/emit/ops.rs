//! The operations that rows are made of, each with its types filled in.

use super::writer::{Value, Writer, array};
use crate::element::Element;

impl Writer {
    /// An elementwise operation whose result has its first operand's type.
    pub(super) fn map(&mut self, name: &str, operands: &[&Value]) -> Value {
        let (element, shape) = (operands[0].element, operands[0].shape.clone());
        self.op(name, operands, "", element, &shape)
    }

    pub(super) fn add(&mut self, a: &Value, b: &Value) -> Value {
        self.map("stablehlo.add", &[a, b])
    }

    pub(super) fn and(&mut self, a: &Value, b: &Value) -> Value {
        self.map("stablehlo.and", &[a, b])
    }

    pub(super) fn or(&mut self, a: &Value, b: &Value) -> Value {
        self.map("stablehlo.or", &[a, b])
    }

    /// `EQ`, `NE`, `LT`, `LE`, `GT` or `GE`.
    pub(super) fn compare(&mut self, direction: &str, a: &Value, b: &Value) -> Value {
        let attribute =
            format!("comparison_direction = #stablehlo<comparison_direction {direction}>");
        self.op("stablehlo.compare", &[a, b], &attribute, Element::Bool, &a.shape)
    }

    /// Compares with one number.
    pub(super) fn compare_with(&mut self, direction: &str, a: &Value, b: f64) -> Value {
        let b = self.splat(a.element, &a.shape, b);
        self.compare(direction, a, &b)
    }

    pub(super) fn is_nan(&mut self, x: &Value) -> Value {
        self.compare("NE", x, x)
    }

    pub(super) fn select(&mut self, condition: &Value, on_true: &Value, on_false: &Value) -> Value {
        let (element, shape) = (on_true.element, on_true.shape.clone());
        self.op("stablehlo.select", &[condition, on_true, on_false], "", element, &shape)
    }

    /// To another element type as the device converts it: exact, rounded to nearest, or the low bits of an integer.
    pub(super) fn convert(&mut self, x: &Value, to: Element) -> Value {
        if x.element == to {
            return x.clone();
        }
        self.op("stablehlo.convert", &[x], "", to, &x.shape)
    }

    /// Repeats along dims of size 1 and new leading ones, as NumPy does.
    pub(super) fn broadcast(&mut self, x: &Value, shape: &[usize]) -> Value {
        if x.shape == shape {
            return x.clone();
        }
        let first = shape.len() - x.rank();
        self.broadcast_in(x, shape, &(first..shape.len()).collect::<Vec<_>>())
    }

    /// The same with each dim of `x` at a given place of `shape`.
    pub(super) fn broadcast_in(&mut self, x: &Value, shape: &[usize], places: &[usize]) -> Value {
        let attribute = format!("broadcast_dimensions = {}", array(places));
        self.op("stablehlo.broadcast_in_dim", &[x], &attribute, x.element, shape)
    }

    pub(super) fn reshape(&mut self, x: &Value, shape: &[usize]) -> Value {
        if x.shape == shape {
            return x.clone();
        }
        self.op("stablehlo.reshape", &[x], "", x.element, shape)
    }

    /// `0, 1, 2 …` along a dim of `shape`.
    pub(super) fn iota(&mut self, element: Element, shape: &[usize], dim: usize) -> Value {
        let attribute = format!("iota_dimension = {dim} : i64");
        self.op("stablehlo.iota", &[], &attribute, element, shape)
    }

    pub(super) fn concatenate(&mut self, parts: &[&Value], dim: usize) -> Value {
        if let [only] = parts {
            return (*only).clone();
        }
        let mut shape = parts[0].shape.clone();
        shape[dim] = parts.iter().map(|part| part.shape[dim]).sum();
        let attribute = format!("dimension = {dim} : i64");
        self.op("stablehlo.concatenate", parts, &attribute, parts[0].element, &shape)
    }

    /// Elements at `start, start + stride …` below `limit` along each dim.
    pub(super) fn slice(
        &mut self,
        x: &Value,
        starts: &[usize],
        limits: &[usize],
        strides: &[usize],
    ) -> Value {
        let shape: Vec<usize> = (0..x.rank())
            .map(|d| limits[d].saturating_sub(starts[d]).div_ceil(strides[d]))
            .collect();
        if shape == x.shape {
            return x.clone();
        }
        let attributes = format!(
            "start_indices = {}, limit_indices = {}, strides = {}",
            array(starts),
            array(limits),
            array(strides)
        );
        self.op("stablehlo.slice", &[x], &attributes, x.element, &shape)
    }

    /// Constant padding; negative amounts crop. `shape` is that of the result.
    pub(super) fn pad(
        &mut self,
        x: &Value,
        value: &Value,
        low: &[i64],
        high: &[i64],
        shape: &[usize],
    ) -> Value {
        let attributes = format!(
            "edge_padding_low = {}, edge_padding_high = {}, interior_padding = {}",
            array(low),
            array(high),
            array(vec![0; low.len()])
        );
        self.op("stablehlo.pad", &[x, value], &attributes, x.element, shape)
    }

    /// Combines elements of `x` over `axes`, which disappear, with an elementwise operation.
    pub(super) fn reduce(
        &mut self,
        combine: &str,
        x: &Value,
        start: &Value,
        axes: &[usize],
    ) -> Value {
        let shape: Vec<usize> =
            (0..x.rank()).filter(|d| !axes.contains(d)).map(|d| x.shape[d]).collect();
        let region = self.combiner(combine, x.element);
        let attribute = format!("dimensions = {}", array(axes));
        self.ops("stablehlo.reduce", &[x, start], &[region], &attribute, &[(x.element, shape)])
            .remove(0)
    }

    /// A region that combines two elements with an elementwise operation.
    pub(super) fn combiner(&mut self, combine: &str, element: Element) -> String {
        let scalar = (element, Vec::new());
        let region = self.region(&[scalar.clone(), scalar], |w, x| {
            Ok::<_, std::convert::Infallible>(vec![w.map(combine, &[&x[0], &x[1]])])
        });
        match region {
            Ok(region) => region,
            Err(never) => match never {},
        }
    }
}
