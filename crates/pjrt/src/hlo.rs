//! Reads a compiler's optimized program, a serialized `HloModuleProto` of OpenXLA, as far as is needed: the name of each
//! instruction of the entry computation, where it came from, and the cycles that the compiler estimates for it.

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
}

/// Field numbers of the messages (`hlo.proto`).
const MODULE_OF_CONFIGURED: u64 = 1;
const COMPUTATIONS: u64 = 3;
const ENTRY: u64 = 6;
const COMPUTATION_INSTRUCTIONS: u64 = 2;
const COMPUTATION_ID: u64 = 5;
const NAME: u64 = 1;
const OPCODE: u64 = 2;
const METADATA: u64 = 7;
const METADATA_NODE: u64 = 2;
const BACKEND: u64 = 43;

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
    let is_entry = |computation: &&&[u8]| number(computation, COMPUTATION_ID) == entry;
    // Modules of one computation need not say which is the entry.
    let entry = computations.iter().find(is_entry).or(computations.last());
    let Some(entry) = entry else { return Vec::new() };
    Fields(entry)
        .filter_map(|(field, content)| match content {
            Content::Bytes(instruction) if field == COMPUTATION_INSTRUCTIONS => read(instruction),
            _ => None,
        })
        .collect()
}

fn read(instruction: &[u8]) -> Option<InstructionEstimate> {
    let backend = String::from_utf8_lossy(message(instruction, BACKEND)?).into_owned();
    let node = message(instruction, METADATA).and_then(|metadata| text(metadata, METADATA_NODE));
    Some(InstructionEstimate {
        name: text(instruction, NAME).unwrap_or_default(),
        opcode: text(instruction, OPCODE).unwrap_or_default(),
        node: node.unwrap_or_default(),
        cycles: cycles(&backend)?,
    })
}

/// The number behind `"estimated_cycles":` in a JSON text, quoted or not.
fn cycles(backend: &str) -> Option<u64> {
    let (_, rest) = backend.split_once("\"estimated_cycles\":")?;
    let digits: String =
        rest.trim_start_matches([' ', '"']).chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

fn message(bytes: &[u8], wanted: u64) -> Option<&[u8]> {
    Fields(bytes).find_map(|(field, content)| match content {
        Content::Bytes(inside) if field == wanted => Some(inside),
        _ => None,
    })
}

fn text(bytes: &[u8], wanted: u64) -> Option<String> {
    message(bytes, wanted).map(|bytes| String::from_utf8_lossy(bytes).into_owned())
}

fn number(bytes: &[u8], wanted: u64) -> Option<u64> {
    Fields(bytes).find_map(|(field, content)| match content {
        Content::Number(number) if field == wanted => Some(number),
        _ => None,
    })
}

/// What a field holds.
enum Content<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// The fields of a protocol buffer's message, in order; ends where the bytes make no sense.
struct Fields<'a>(&'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = (u64, Content<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let tag = self.varint()?;
        let content = match tag & 7 {
            0 => Content::Number(self.varint()?),
            1 => Content::Bytes(self.take(8)?),
            2 => {
                let length = usize::try_from(self.varint()?).ok()?;
                Content::Bytes(self.take(length)?)
            }
            5 => Content::Bytes(self.take(4)?),
            _ => return None,
        };
        Some((tag >> 3, content))
    }
}

impl<'a> Fields<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for place in 0..10 {
            let byte = self.take(1)?[0];
            value |= u64::from(byte & 0x7f) << (7 * place);
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(number: u64, content: &[u8]) -> Vec<u8> {
        let mut bytes = varint(number << 3 | 2);
        bytes.extend(varint(content.len() as u64));
        bytes.extend_from_slice(content);
        bytes
    }

    fn varint(mut value: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        while value >= 0x80 {
            bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        bytes.push(value as u8);
        bytes
    }

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
