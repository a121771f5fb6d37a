//! Protocol buffers as they lie in memory: fields by number, nothing of their meaning.

pub(super) fn message(bytes: &[u8], wanted: u64) -> Option<&[u8]> {
    Fields(bytes).find_map(|(field, content)| match content {
        Content::Bytes(inside) if field == wanted => Some(inside),
        _ => None,
    })
}

pub(super) fn text(bytes: &[u8], wanted: u64) -> Option<String> {
    message(bytes, wanted).map(|bytes| String::from_utf8_lossy(bytes).into_owned())
}

pub(super) fn number(bytes: &[u8], wanted: u64) -> Option<u64> {
    Fields(bytes).find_map(|(field, content)| match content {
        Content::Number(number) if field == wanted => Some(number),
        _ => None,
    })
}

/// All numbers of a repeated field, packed or not.
pub(super) fn numbers(bytes: &[u8], wanted: u64) -> Vec<u64> {
    let mut found = Vec::new();
    for (_, content) in Fields(bytes).filter(|(field, _)| *field == wanted) {
        match content {
            Content::Number(number) => found.push(number),
            Content::Bytes(packed) => {
                let mut rest = Fields(packed);
                found.extend(std::iter::from_fn(|| rest.varint()));
            }
        }
    }
    found
}

/// What a field holds.
pub(super) enum Content<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// The fields of a protocol buffer's message, in order; ends where the bytes make no sense.
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

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

/// The other way, for tests.
#[cfg(test)]
pub(super) mod encode {
    pub(in super::super) fn field(number: u64, content: &[u8]) -> Vec<u8> {
        let mut bytes = varint(number << 3 | 2);
        bytes.extend(varint(content.len() as u64));
        bytes.extend_from_slice(content);
        bytes
    }

    pub(in super::super) fn varint(mut value: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        while value >= 0x80 {
            bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        bytes.push(value as u8);
        bytes
    }
}
