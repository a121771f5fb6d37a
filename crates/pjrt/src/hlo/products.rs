//! Convolutions and dot products of an optimized program as matrix products.
//!
//! Compilers for matrix units write dot products as convolutions, with batches as spatial dims whose window meets one element at each
//! place. What counts is which element each tap of a window meets.

use super::wire::{Content, Fields, message, number, numbers, text};
use super::{Instructions, OPCODE, OPERANDS, shape};

/// A matrix product: `groups` times `[rows, depth] · [depth, columns]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Product {
    /// Independent products.
    pub groups: u64,
    /// Rows of the left operand: places and images of a convolution.
    pub rows: u64,
    /// Columns of the right operand: filters.
    pub columns: u64,
    /// Summed indices: channels and taps.
    pub depth: u64,
    /// Bits of an element of the left operand.
    pub bits: u64,
}

/// Field numbers of the messages (`xla_data.proto`, `hlo.proto`).
const ELEMENT: u64 = 2;
const DIMENSIONS: u64 = 3;
const TUPLE: u64 = 4;
const LAYOUT: u64 = 5;
const MEMORY_SPACE: u64 = 8;
const WINDOW: u64 = 15;
const CONVOLUTION: u64 = 16;
const DOT: u64 = 30;
const FEATURE_GROUPS: u64 = 50;

/// Sizes and element type of a value; or the values of a tuple.
pub(super) struct Shape {
    element: u64,
    dims: Vec<u64>,
    memory_space: u64,
    tuple: Vec<Shape>,
}

impl Shape {
    pub(super) fn read(bytes: &[u8]) -> Shape {
        let tuple = Fields(bytes).filter_map(|(field, content)| match content {
            Content::Bytes(inside) if field == TUPLE => Some(Shape::read(inside)),
            _ => None,
        });
        let layout = message(bytes, LAYOUT);
        Shape {
            element: number(bytes, ELEMENT).unwrap_or(0),
            dims: numbers(bytes, DIMENSIONS),
            memory_space: layout.and_then(|l| number(l, MEMORY_SPACE)).unwrap_or(0),
            tuple: tuple.collect(),
        }
    }

    /// Bits of an element, by the number of its type; none of a type that no tensor of ours has.
    fn bits(&self) -> u64 {
        match self.element {
            1 | 2 | 6 => 8,
            3 | 7 | 10 | 16 => 16,
            4 | 8 | 11 => 32,
            5 | 9 | 12 => 64,
            _ => 0,
        }
    }

    /// Bytes of what lies in main memory; other memories have numbers of their own.
    pub(super) fn main_memory_bytes(&self) -> u64 {
        let inside: u64 = self.tuple.iter().map(Shape::main_memory_bytes).sum();
        let own = if self.memory_space == 0 && self.tuple.is_empty() {
            self.dims.iter().fold(self.bits() / 8, |all, &dim| all.saturating_mul(dim))
        } else {
            0
        };
        inside.saturating_add(own)
    }

    fn dim(&self, at: u64) -> u64 {
        usize::try_from(at).ok().and_then(|at| self.dims.get(at)).copied().unwrap_or(1)
    }
}

/// The product that an instruction is, if it is one; `own` has its operands.
pub(super) fn products(instruction: &[u8], own: &Instructions<'_>) -> Option<Product> {
    let operands = numbers(instruction, OPERANDS);
    let operand = |i: usize| operands.get(i).and_then(|id| own.get(id)).and_then(|o| shape(o));
    match text(instruction, OPCODE)?.as_str() {
        "convolution" => {
            let (left, right) = (operand(0)?, operand(1)?);
            convolution(instruction, &left, &right, &shape(instruction)?)
        }
        "dot" => dot(instruction, &operand(0)?, &operand(1)?),
        _ => None,
    }
}

fn dot(instruction: &[u8], left: &Shape, right: &Shape) -> Option<Product> {
    let dims = message(instruction, DOT)?;
    let (contracted, batch) = (numbers(dims, 1), numbers(dims, 3));
    let (right_contracted, right_batch) = (numbers(dims, 2), numbers(dims, 4));
    let of = |shape: &Shape, dims: &[u64]| dims.iter().map(|&d| shape.dim(d)).product::<u64>();
    let free = |shape: &Shape, a: &[u64], b: &[u64]| {
        let all: u64 = shape.dims.iter().product();
        all / (of(shape, a) * of(shape, b)).max(1)
    };
    Some(Product {
        groups: of(left, &batch),
        rows: free(left, &contracted, &batch),
        columns: free(right, &right_contracted, &right_batch),
        depth: of(left, &contracted),
        bits: left.bits(),
    })
}

/// One dim of a window.
struct Along {
    size: u64,
    stride: u64,
    padding: i64,
    dilation: u64,
    base_dilation: u64,
}

impl Along {
    fn read(bytes: &[u8]) -> Along {
        let at = |field, usual: u64| number(bytes, field).filter(|&n| n > 0).unwrap_or(usual);
        Along {
            size: at(1, 1),
            stride: at(2, 1),
            padding: number(bytes, 3).unwrap_or(0).cast_signed(),
            dilation: at(5, 1),
            base_dilation: at(6, 1),
        }
    }

    /// Whether each place meets exactly one element, and each a place of its own: then the dim counts products.
    fn is_batch(&self, elements: u64, places: u64) -> bool {
        if self.size < 2 || places != self.size || places > LONGEST_WINDOW {
            return false;
        }
        let meets = |place: u64, tap: u64| {
            let at = (place * self.stride + tap * self.dilation).cast_signed() - self.padding;
            let base = self.base_dilation.cast_signed();
            at >= 0 && at % base == 0 && at / base < elements.cast_signed()
        };
        (0..places).all(|place| (0..self.size).filter(|&tap| meets(place, tap)).count() == 1)
    }
}

/// A dim with more places is a dim of places.
const LONGEST_WINDOW: u64 = 4096;

fn convolution(instruction: &[u8], left: &Shape, right: &Shape, result: &Shape) -> Option<Product> {
    let dims = message(instruction, CONVOLUTION)?;
    let at = |field| number(dims, field).unwrap_or(0);
    let groups = number(instruction, FEATURE_GROUPS).unwrap_or(1).max(1);
    let mut product = Product {
        groups,
        rows: result.dim(at(9)),
        columns: result.dim(at(10)) / groups,
        depth: right.dim(at(3)),
        bits: left.bits(),
    };
    let window = message(instruction, WINDOW).unwrap_or_default();
    let along = Fields(window).filter_map(|(field, content)| match content {
        Content::Bytes(dim) if field == 1 => Some(Along::read(dim)),
        _ => None,
    });
    let spatial = numbers(dims, 11).into_iter().zip(numbers(dims, 12));
    for (along, (input, output)) in along.zip(spatial) {
        let (elements, places) = (left.dim(input), result.dim(output));
        if along.is_batch(elements, places) {
            // One element for all places: each has filters of its own for it.
            let of = if elements == 1 { &mut product.columns } else { &mut product.groups };
            *of *= places;
        } else {
            product.rows *= places;
            product.depth *= along.size;
        }
    }
    Some(product)
}

#[cfg(test)]
mod tests {
    use super::super::wire::encode::{field, varint};
    use super::*;

    fn numeric(number: u64, value: u64) -> Vec<u8> {
        [varint(number << 3), varint(value)].concat()
    }

    fn tensor(id: u64, element: u64, dims: &[u64]) -> Vec<u8> {
        let dims: Vec<u8> = dims.iter().flat_map(|&dim| varint(dim)).collect();
        let shape = [numeric(ELEMENT, element), field(DIMENSIONS, &dims)].concat();
        [field(super::super::SHAPE, &shape), numeric(super::super::ID, id)].concat()
    }

    fn instruction(opcode: &str, dims: &[u64], more: &[Vec<u8>]) -> Vec<u8> {
        let head = [field(OPCODE, opcode.as_bytes()), tensor(9, 16, dims)].concat();
        let operands = field(OPERANDS, &[1, 2]);
        [head, operands, more.concat()].concat()
    }

    fn found(left: &[u64], right: &[u64], instruction: &[u8]) -> Product {
        let (left, right) = (tensor(1, 16, left), tensor(2, 16, right));
        products(instruction, &Instructions::from([(1, &left[..]), (2, &right[..])])).unwrap()
    }

    fn window(dims: &[[u64; 6]]) -> Vec<u8> {
        let dim = |dim: &[u64; 6]| {
            let fields: Vec<u8> = (1..=6).flat_map(|f| numeric(f, dim[f as usize - 1])).collect();
            field(1, &fields)
        };
        field(WINDOW, &dims.iter().flat_map(dim).collect::<Vec<u8>>())
    }

    #[test]
    fn a_convolution_of_images() {
        // [n, h, w, c] · [h, w, i, o] → [n, h, w, o], 3 × 3 with padding 1.
        let numbers = [
            numeric(7, 0),
            numeric(8, 3),
            field(11, &[1, 2]),
            numeric(3, 2),
            numeric(4, 3),
            field(6, &[0, 1]),
            numeric(9, 0),
            numeric(10, 3),
            field(12, &[1, 2]),
        ];
        let more = [field(CONVOLUTION, &numbers.concat()), window(&[[3, 1, 1, 1, 1, 1]; 2])];
        let product = found(
            &[2, 14, 14, 8],
            &[3, 3, 8, 16],
            &instruction("convolution", &[2, 14, 14, 16], &more),
        );
        let expected = Product { groups: 1, rows: 2 * 14 * 14, columns: 16, depth: 72, bits: 16 };
        assert_eq!(product, expected);
    }

    #[test]
    fn a_batch_that_is_written_as_a_window() {
        // [b, m, k] · [b, n, k] with b as a spatial dim: a window as long as b, reversed by dilations, one element a place.
        let numbers = [
            numeric(7, 1),
            numeric(8, 2),
            field(11, &[0]),
            numeric(3, 2),
            numeric(4, 1),
            field(6, &[0]),
            numeric(9, 1),
            numeric(10, 2),
            field(12, &[0]),
        ];
        let more = [field(CONVOLUTION, &numbers.concat()), window(&[[12, 11, 0, 0, 1, 12]])];
        let product = found(
            &[12, 128, 64],
            &[12, 256, 64],
            &instruction("convolution", &[12, 128, 256], &more),
        );
        let expected = Product { groups: 12, rows: 128, columns: 256, depth: 64, bits: 16 };
        assert_eq!(product, expected);
    }

    #[test]
    fn heads_that_are_written_as_a_window() {
        // [m, k, 1] · [heads, n, k]: a window as long as there are heads over one padded element.
        let numbers = [
            numeric(7, 0),
            numeric(8, 1),
            field(11, &[2]),
            numeric(3, 2),
            numeric(4, 1),
            field(6, &[0]),
            numeric(9, 0),
            numeric(10, 2),
            field(12, &[1]),
        ];
        let more = [field(CONVOLUTION, &numbers.concat()), window(&[[12, 1, 11, 11, 1, 1]])];
        let product = found(
            &[128, 768, 1],
            &[12, 64, 768],
            &instruction("convolution", &[128, 12, 64], &more),
        );
        let expected = Product { groups: 1, rows: 128, columns: 768, depth: 768, bits: 16 };
        assert_eq!(product, expected);
    }

    #[test]
    fn a_dot_product() {
        let numbers = [field(1, &[2]), field(2, &[1]), field(3, &[0]), field(4, &[0])];
        let more = [field(DOT, &numbers.concat())];
        let product = found(&[4, 5, 6], &[4, 6, 7], &instruction("dot", &[4, 5, 7], &more));
        let expected = Product { groups: 4, rows: 5, columns: 7, depth: 6, bits: 16 };
        assert_eq!(product, expected);
    }
}
