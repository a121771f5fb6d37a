//! Reads a compiler's optimized program, a serialized `HloModuleProto` of OpenXLA, as far as is needed: of each instruction of the
//! entry computation its name, where it came from, the cycles that the compiler estimates for it, and the products that it does.

mod products;
mod wire;

use std::collections::BTreeMap;

pub use products::Product;
use products::{Shape, products};
use wire::{Content, Fields, message, number, numbers, text};

/// One instruction with the compiler's own estimate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstructionEstimate {
    /// Its name in the optimized program.
    pub name: String,
    /// `fusion`, `convolution`, `copy` …
    pub opcode: String,
    /// The node of the model that it came from, where the compiler kept it.
    pub node: String,
    /// Clock cycles that the compiler estimates.
    pub cycles: u64,
    /// The convolutions and dot products in it, in order.
    pub products: Vec<Product>,
    /// Bytes of its operands in main memory; what the compiler brings to the chip beforehand is not among them.
    pub read_bytes: u64,
    /// Bytes of its results in main memory.
    pub written_bytes: u64,
}

/// Field numbers of the messages (`hlo.proto`).
const MODULE_OF_CONFIGURED: u64 = 1;
const COMPUTATIONS: u64 = 3;
const ENTRY: u64 = 6;
const COMPUTATION_INSTRUCTIONS: u64 = 2;
const COMPUTATION_ID: u64 = 5;
const NAME: u64 = 1;
const OPCODE: u64 = 2;
const SHAPE: u64 = 3;
const METADATA: u64 = 7;
const METADATA_NODE: u64 = 2;
const ID: u64 = 35;
const OPERANDS: u64 = 36;
const CALLED: u64 = 38;
const BACKEND: u64 = 43;

/// Computations in computations that are followed; a program that calls itself ends here.
const DEEPEST: usize = 8;

/// A computation's instructions, by their numbers.
type Instructions<'a> = BTreeMap<u64, &'a [u8]>;

/// What the compiler estimates of each instruction of the entry computation that it says cycles of, in order.
pub(crate) fn estimates(bytes: &[u8], with_config: bool) -> Vec<InstructionEstimate> {
    let module =
        if with_config { message(bytes, MODULE_OF_CONFIGURED).unwrap_or(bytes) } else { bytes };
    let mut entry = None;
    let mut computations = Vec::new();
    for (field, content) in Fields(module) {
        match (field, content) {
            (ENTRY, Content::Number(id)) => entry = Some(id),
            (COMPUTATIONS, Content::Bytes(computation)) => computations.push(computation),
            _ => {}
        }
    }
    let id = |computation: &[u8]| number(computation, COMPUTATION_ID).unwrap_or(0);
    let is_entry = |computation: &&&[u8]| Some(id(computation)) == entry;
    // Modules of one computation need not say which is the entry.
    let main = computations.iter().find(is_entry).or(computations.last());
    let Some(main) = main else { return Vec::new() };
    let all: BTreeMap<u64, Vec<&[u8]>> = computations
        .iter()
        .map(|computation| (id(computation), instructions(computation).collect()))
        .collect();
    let own = by_number(instructions(main));
    instructions(main).filter_map(|instruction| read(instruction, &own, &all)).collect()
}

fn instructions(computation: &[u8]) -> impl Iterator<Item = &[u8]> {
    Fields(computation).filter_map(|(field, content)| match content {
        Content::Bytes(instruction) if field == COMPUTATION_INSTRUCTIONS => Some(instruction),
        _ => None,
    })
}

fn by_number<'a>(instructions: impl Iterator<Item = &'a [u8]>) -> Instructions<'a> {
    instructions.filter_map(|i| Some((number(i, ID)?, i))).collect()
}

fn read(
    instruction: &[u8],
    own: &Instructions<'_>,
    all: &BTreeMap<u64, Vec<&[u8]>>,
) -> Option<InstructionEstimate> {
    let backend = String::from_utf8_lossy(message(instruction, BACKEND)?).into_owned();
    let node = message(instruction, METADATA).and_then(|metadata| text(metadata, METADATA_NODE));
    let in_memory = |instruction: &[u8]| shape(instruction).map_or(0, |s| s.main_memory_bytes());
    let operands = numbers(instruction, OPERANDS);
    let read_bytes = operands.iter().filter_map(|id| own.get(id)).map(|i| in_memory(i)).sum();
    let mut found = products(instruction, own).into_iter().collect();
    inner_products(instruction, all, DEEPEST, &mut found);
    Some(InstructionEstimate {
        name: text(instruction, NAME).unwrap_or_default(),
        opcode: text(instruction, OPCODE).unwrap_or_default(),
        node: node.unwrap_or_default(),
        cycles: cycles(&backend)?,
        products: found,
        read_bytes,
        written_bytes: in_memory(instruction),
    })
}

fn shape(instruction: &[u8]) -> Option<Shape> {
    message(instruction, SHAPE).map(Shape::read)
}

/// The products of the computations that an instruction calls.
fn inner_products(
    instruction: &[u8],
    all: &BTreeMap<u64, Vec<&[u8]>>,
    deepest: usize,
    found: &mut Vec<Product>,
) {
    if deepest == 0 {
        return;
    }
    for called in numbers(instruction, CALLED) {
        let Some(inside) = all.get(&called) else { continue };
        let own = by_number(inside.iter().copied());
        for instruction in inside {
            found.extend(products(instruction, &own));
            inner_products(instruction, all, deepest - 1, found);
        }
    }
}

/// The number behind `"estimated_cycles":` in a JSON text, quoted or not.
fn cycles(backend: &str) -> Option<u64> {
    let (_, rest) = backend.split_once("\"estimated_cycles\":")?;
    let digits: String =
        rest.trim_start_matches([' ', '"']).chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::wire::encode::{field, varint};
    use super::*;

    #[test]
    fn cycles_of_the_entry_are_read() {
        let instruction = |name: &str, backend: &str| {
            let metadata = field(METADATA, &field(METADATA_NODE, b"conv_1"));
            [
                field(NAME, name.as_bytes()),
                field(OPCODE, b"fusion"),
                metadata,
                field(BACKEND, backend.as_bytes()),
            ]
            .concat()
        };
        let computation = |id: u64, instruction: &[u8]| {
            let id = [varint(COMPUTATION_ID << 3), varint(id)].concat();
            [field(COMPUTATION_INSTRUCTIONS, instruction), id].concat()
        };
        let other = computation(1, &instruction("inner", "{\"estimated_cycles\":\"9\"}"));
        let main =
            computation(2, &instruction("fusion.3", "{\"x\":1,\"estimated_cycles\":\"1234\"}"));
        let entry = [varint(ENTRY << 3), varint(2)].concat();
        let module = [field(COMPUTATIONS, &other), field(COMPUTATIONS, &main), entry].concat();
        let expected = InstructionEstimate {
            name: "fusion.3".to_string(),
            opcode: "fusion".to_string(),
            node: "conv_1".to_string(),
            cycles: 1234,
            products: Vec::new(),
            read_bytes: 0,
            written_bytes: 0,
        };
        assert_eq!(estimates(&module, false), std::slice::from_ref(&expected));
        assert_eq!(estimates(&field(MODULE_OF_CONFIGURED, &module), true), [expected]);
        // Cut off anywhere it ends early and never panics.
        for end in 0..module.len() {
            estimates(&module[..end], false);
            estimates(&module[..end], true);
        }
        assert_eq!(cycles("{\"estimated_cycles\": 7}"), Some(7));
        assert_eq!(cycles("{}"), None);
    }
}
