//! The records as the page carries them: whole, with what repeats said once.
//!
//! Two hundred chips share their layers' names and work, and networks repeat blocks; written out, layers would be most
//! of the file. So records go in without layers; layers of the same names and work are a *set*, whose equal
//! layers are a *kind*; a record has its set and one time a kind. The page's script puts them together again, both to draw
//! and to give the records back as JSON lines.

use std::collections::HashMap;

use anychip_record::{Layer, Record};
use serde::Serialize;

/// The block's contents: JSON without the character that begins a tag.
pub(crate) fn block(records: &[Record]) -> Result<String, serde_json::Error> {
    let json = serde_json::to_string(&pack(records))?;
    // U+2028 and U+2029 end lines in scripts of old browsers.
    Ok(json.replace('<', "\\u003c").replace('\u{2028}', "\\u2028").replace('\u{2029}', "\\u2029"))
}

#[derive(Serialize)]
struct Packed {
    records: Vec<Record>,
    sets: Vec<Set>,
    /// By record: its set and the seconds of each kind.
    times: Vec<Option<(usize, Vec<f64>)>>,
}

/// Layers in the order they run.
#[derive(Serialize)]
struct Set {
    names: Vec<String>,
    /// The kind of each layer.
    kinds: Vec<usize>,
    kernels: Vec<String>,
    operations: Vec<f64>,
    bytes: Vec<f64>,
}

/// What makes two layers' work the same: kernel, operations, bytes, and the time where a clock tells them apart.
type Work<'a> = (&'a str, u64, u64);

/// What makes two records' layers one set: whether like work is one kind, and each layer's name and work.
type SetKey<'a> = (bool, Vec<(&'a str, Work<'a>)>);

fn pack(records: &[Record]) -> Packed {
    let mut packed = Packed { records: Vec::new(), sets: Vec::new(), times: Vec::new() };
    let mut known: HashMap<SetKey<'_>, usize> = HashMap::new();
    for record in records {
        packed.records.push(Record { layers: Vec::new(), ..record.clone() });
        if record.layers.is_empty() {
            packed.times.push(None);
            continue;
        }
        let layers = &record.layers;
        let merged = like_work_takes_like_time(layers);
        let key = (merged, layers.iter().map(|layer| (layer.name.as_str(), work(layer))).collect());
        let next = packed.sets.len();
        let set = *known.entry(key).or_insert(next);
        if set == next {
            packed.sets.push(make_set(layers, merged));
        }
        let kinds = &packed.sets[set].kinds;
        let mut seconds = vec![0.0; packed.sets[set].kernels.len()];
        for (layer, kind) in layers.iter().zip(kinds) {
            seconds[*kind] = layer.seconds;
        }
        packed.times.push(Some((set, seconds)));
    }
    packed
}

fn work(layer: &Layer) -> Work<'_> {
    (&layer.kernel, layer.operations.to_bits(), layer.bytes.to_bits())
}

/// Whether one time a kind of work says all; it does for estimates and not for clocks.
fn like_work_takes_like_time(layers: &[Layer]) -> bool {
    let mut times: HashMap<Work<'_>, f64> = HashMap::new();
    layers.iter().all(|layer| *times.entry(work(layer)).or_insert(layer.seconds) == layer.seconds)
}

fn make_set(layers: &[Layer], merged: bool) -> Set {
    let mut set = Set {
        names: Vec::new(),
        kinds: Vec::new(),
        kernels: Vec::new(),
        operations: Vec::new(),
        bytes: Vec::new(),
    };
    let mut kinds: HashMap<Work<'_>, usize> = HashMap::new();
    for layer in layers {
        let next = set.kernels.len();
        let kind = if merged { *kinds.entry(work(layer)).or_insert(next) } else { next };
        if kind == next {
            set.kernels.push(layer.kernel.clone());
            set.operations.push(layer.operations);
            set.bytes.push(layer.bytes);
        }
        set.names.push(layer.name.clone());
        set.kinds.push(kind);
    }
    set
}

#[cfg(test)]
mod tests {
    use super::*;
    use anychip_record::Key;

    fn layer(name: &str, operations: f64, seconds: f64) -> Layer {
        Layer { name: name.into(), kernel: "linear".into(), seconds, operations, bytes: 8.0 }
    }

    fn record(chip: &str, layers: Vec<Layer>) -> Record {
        let key = Key {
            model: "</script><script>alert(1)</script>".into(),
            model_sha256: "0".into(),
            chip: chip.into(),
            stack: "anychip".into(),
            target: None,
            batch: 1,
            dtype: "f32".into(),
        };
        Record { layers, ..Record::new(key) }
    }

    /// What the page's script does.
    fn unpack(packed: &Packed, index: usize) -> Vec<Layer> {
        let Some((set, seconds)) = &packed.times[index] else { return Vec::new() };
        let set = &packed.sets[*set];
        let layers = set.names.iter().zip(&set.kinds).map(|(name, &kind)| Layer {
            name: name.clone(),
            kernel: set.kernels[kind].clone(),
            seconds: seconds[kind],
            operations: set.operations[kind],
            bytes: set.bytes[kind],
        });
        layers.collect()
    }

    #[test]
    fn layers_come_out_as_they_went_in_and_repeat_nothing() {
        let estimated = |time: f64| {
            vec![layer("a", 2.0, time), layer("b", 4.0, 2.0 * time), layer("c", 2.0, time)]
        };
        let records = [
            record("one", estimated(1.0)),
            record("two", estimated(3.0)),
            record("none", Vec::new()),
            // A clock gives like layers different times.
            record("clock", vec![layer("a", 2.0, 5.0), layer("b", 4.0, 6.0), layer("c", 2.0, 7.0)]),
        ];
        let packed = pack(&records);
        assert_eq!(packed.sets.len(), 2, "estimates share one, the clock has its own");
        assert_eq!(packed.sets[0].kernels.len(), 2, "a and c are one kind");
        for (index, record) in records.iter().enumerate() {
            assert_eq!(unpack(&packed, index), record.layers, "{}", record.chip);
        }
    }

    #[test]
    fn no_text_can_end_the_block() {
        let block = block(&[record("\u{2028}<!--", Vec::new())]).expect("writes");
        assert!(!block.contains('<') && !block.contains('\u{2028}'));
        let read: serde_json::Value = serde_json::from_str(&block).expect("reads");
        assert_eq!(read["records"][0]["model"], "</script><script>alert(1)</script>");
        assert_eq!(read["records"][0]["chip"], "\u{2028}<!--");
    }
}
