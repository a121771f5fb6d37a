//! Compile options, as the protocol buffer that plugins take (`CompileOptionsProto` of OpenXLA), written by hand: four fields.

/// Options for one replica of one partition: on the plugin's first device, or on the one of a given number.
pub(crate) fn compile_options(device: Option<i32>) -> Vec<u8> {
    // `executable_build_options` (field 3): `num_replicas` (4) and `num_partitions` (5).
    let mut build = vec![0x20, 1, 0x28, 1];
    if let Some(id) = device.and_then(|id| u64::try_from(id).ok()) {
        // `device_assignment` (9): one replica (1) of one computation (2) on one device (3: replica_device_ids, 1).
        let mut devices = vec![0x08];
        devices.extend(varint(id));
        let mut assignment = vec![0x08, 1, 0x10, 1];
        assignment.extend(field(0x1a, &devices));
        build.extend(field(0x4a, &assignment));
    }
    field(0x1a, &build)
}

/// A message within a message.
fn field(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![tag];
    bytes.extend(varint(content.len() as u64));
    bytes.extend_from_slice(content);
    bytes
}

/// Seven bits a byte, the lowest first.
fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = (value & 0x7f) as u8;
        value >>= 7;
        if value == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_the_bytes_that_plugins_took() {
        assert_eq!(compile_options(None), [0x1a, 0x04, 0x20, 0x01, 0x28, 0x01]);
        assert_eq!(
            compile_options(Some(3)),
            [0x1a, 14, 0x20, 1, 0x28, 1, 0x4a, 8, 0x08, 1, 0x10, 1, 0x1a, 2, 0x08, 3]
        );
        assert_eq!(varint(300), [0xac, 0x02]);
    }
}
