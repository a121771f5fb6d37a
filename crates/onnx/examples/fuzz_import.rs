//! Feeds the importer damaged models: `fuzz_import --seconds N --seed S CORPUS_DIR`.
//!
//! Takes the `.onnx` files below `CORPUS_DIR` that are small, damages one after the other in ways that files get
//! damaged (bits, lengths, cut ends, pieces of others, doubled and moved parts), and imports each. A panic, more
//! than 1 GiB of memory or more than 10 s for one file is a finding: its bytes are written beside the corpus
//! as `finding-N.onnx`, and the command fails.

use std::alloc::{GlobalAlloc, Layout, System};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anychip_onnx::{ImportOptions, from_bytes};

/// Counts what is allocated, and refuses what goes beyond the cap.
struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);
/// The least number of bytes that counts as too many.
const CAP: usize = 1 << 30;

fn hold(bytes: usize) {
    let held = HELD.fetch_add(bytes, Ordering::Relaxed) + bytes;
    PEAK.fetch_max(held, Ordering::Relaxed);
}

// SAFETY: every call goes on to the system's allocator unchanged; what is added is arithmetic on atomics.
#[expect(unsafe_code, reason = "an allocator is unsafe by its trait; this one only counts")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        hold(layout.size());
        // SAFETY: the caller's promises are the system allocator's.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        hold(layout.size());
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        hold(size);
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Larger files than this are left out: damage would rarely hit what matters.
const MOST_BYTES: u64 = 256 << 10;

/// `splitmix64` (Steele, Lea, Flood 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        if n == 0 { 0 } else { (self.next() % n as u64) as usize }
    }
}

/// Numbers at which arithmetic on sizes goes wrong, as the format writes them.
const NUMBERS: [u64; 12] = [
    0,
    1,
    127,
    128,
    0x7fff_ffff,
    0x8000_0000,
    1 << 40,
    1 << 62,
    i64::MAX as u64,
    i64::MIN as u64,
    u64::MAX,
    u64::MAX - 1,
];

fn variable_length(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let byte = (value & 0x7f) as u8;
        value >>= 7;
        if value == 0 {
            bytes.push(byte);
            return bytes;
        }
        bytes.push(byte | 0x80);
    }
}

fn damage(data: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    let at = random.below(data.len());
    match random.below(9) {
        0 => {
            if let Some(byte) = data.get_mut(at) {
                *byte ^= 1 << random.below(8);
            }
        }
        1 => {
            if let Some(byte) = data.get_mut(at) {
                *byte = random.next() as u8;
            }
        }
        2 => data.truncate(at),
        3 => {
            let end = (at + random.below(64)).min(data.len());
            data.drain(at..end);
        }
        4 => {
            let end = (at + random.below(256)).min(data.len());
            let piece = data[at..end].to_vec();
            let to = random.below(data.len());
            data.splice(to..to, piece);
        }
        5 => {
            let from = random.below(other.len());
            let piece = &other[from..(from + random.below(256)).min(other.len())];
            data.splice(at..at, piece.iter().copied());
        }
        6 => {
            let number = variable_length(NUMBERS[random.below(NUMBERS.len())]);
            let end = (at + 1).min(data.len());
            data.splice(at..end, number);
        }
        7 => {
            // Names are exchanged: what one node makes another takes.
            let letters: Vec<usize> =
                (0..data.len()).filter(|&i| data[i].is_ascii_alphanumeric()).collect();
            if !letters.is_empty() {
                let (a, b) =
                    (letters[random.below(letters.len())], letters[random.below(letters.len())]);
                data.swap(a, b);
            }
        }
        _ => {
            let end = (at + 8).min(data.len());
            for byte in &mut data[at..end] {
                *byte = random.next() as u8;
            }
        }
    }
}

/// A file of the format as a tree, so that damage keeps the lengths around it right and gets further.
#[derive(Clone)]
enum Field {
    Number(u32, u64),
    Fixed(u32, u8, Vec<u8>),
    Bytes(u32, Vec<u8>),
    Message(u32, Vec<Field>),
}

fn read_number(data: &[u8], at: &mut usize) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..70).step_by(7) {
        let byte = *data.get(*at)?;
        *at += 1;
        value |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn parse(data: &[u8], depth: usize) -> Option<Vec<Field>> {
    let mut at = 0;
    let mut fields = Vec::new();
    while at < data.len() {
        let key = read_number(data, &mut at)?;
        let number = u32::try_from(key >> 3).ok().filter(|&n| n > 0 && n < 64)?;
        fields.push(match key & 7 {
            0 => Field::Number(number, read_number(data, &mut at)?),
            kind @ (1 | 5) => {
                let end = at + if kind == 1 { 8 } else { 4 };
                let bytes = data.get(at..end)?.to_vec();
                at = end;
                Field::Fixed(number, kind as u8, bytes)
            }
            2 => {
                let length = usize::try_from(read_number(data, &mut at)?).ok()?;
                let bytes = data.get(at..at.checked_add(length)?)?;
                at += length;
                match parse(bytes, depth + 1) {
                    Some(inner) if !inner.is_empty() && depth < 40 => Field::Message(number, inner),
                    _ => Field::Bytes(number, bytes.to_vec()),
                }
            }
            _ => return None,
        });
    }
    Some(fields)
}

fn write(fields: &[Field], out: &mut Vec<u8>) {
    for field in fields {
        let (number, kind, body) = match field {
            Field::Number(n, value) => (*n, 0, variable_length(*value)),
            Field::Fixed(n, kind, bytes) => (*n, *kind, bytes.clone()),
            Field::Bytes(n, bytes) => {
                (*n, 2, [variable_length(bytes.len() as u64), bytes.clone()].concat())
            }
            Field::Message(n, inner) => {
                let mut body = Vec::new();
                write(inner, &mut body);
                (*n, 2, [variable_length(body.len() as u64), body].concat())
            }
        };
        out.extend(variable_length(u64::from(number) << 3 | u64::from(kind)));
        out.extend(body);
    }
}

/// A random list of fields somewhere in the tree.
fn somewhere<'a>(fields: &'a mut Vec<Field>, random: &mut Random) -> &'a mut Vec<Field> {
    let inner: Vec<usize> = (0..fields.len())
        .filter(|&i| matches!(&fields[i], Field::Message(_, f) if !f.is_empty()))
        .collect();
    if inner.is_empty() || random.below(5) == 0 {
        return fields;
    }
    match &mut fields[inner[random.below(inner.len())]] {
        Field::Message(_, fields) => somewhere(fields, random),
        _ => unreachable!("only messages were listed"),
    }
}

fn damage_tree(tree: &mut Vec<Field>, other: &mut Vec<Field>, random: &mut Random) {
    let piece = {
        let fields = somewhere(other, random);
        fields.get(random.below(fields.len())).cloned()
    };
    let fields = somewhere(tree, random);
    let at = random.below(fields.len());
    match random.below(7) {
        0 if !fields.is_empty() => {
            fields.remove(at);
        }
        1 if !fields.is_empty() => {
            let copy = fields[at].clone();
            fields.push(copy);
        }
        2 if !fields.is_empty() => {
            let to = random.below(fields.len());
            fields.swap(at, to);
        }
        3 => fields.extend(piece),
        _ => match fields.get_mut(at) {
            Some(Field::Number(_, value)) => {
                *value = match random.below(4) {
                    0 => NUMBERS[random.below(NUMBERS.len())],
                    1 => value.wrapping_add(1),
                    2 => value.wrapping_sub(1),
                    _ => random.below(32) as u64,
                };
            }
            Some(Field::Fixed(_, _, bytes) | Field::Bytes(_, bytes)) => {
                let text: &[u8] = match piece {
                    Some(Field::Bytes(_, ref text)) if random.below(2) == 0 => text,
                    _ => &[],
                };
                if text.is_empty() || bytes.len() == 4 || bytes.len() == 8 {
                    let i = random.below(bytes.len());
                    if let Some(byte) = bytes.get_mut(i) {
                        *byte = random.next() as u8;
                    }
                } else {
                    *bytes = text.to_vec();
                }
            }
            Some(Field::Message(number, _)) => *number = 1 + random.below(24) as u32,
            None => {}
        },
    }
}

fn corpus(folder: &Path, files: &mut Vec<Vec<u8>>) -> std::io::Result<()> {
    let mut entries: Vec<PathBuf> =
        std::fs::read_dir(folder)?.map(|e| e.map(|e| e.path())).collect::<Result<_, _>>()?;
    entries.sort();
    for path in entries {
        if path.is_dir() {
            corpus(&path, files)?;
        } else if path.extension().is_some_and(|e| e == "onnx")
            && path.metadata()?.len() <= MOST_BYTES
        {
            files.push(std::fs::read(path)?);
        }
    }
    Ok(())
}

/// What is being imported, and since when.
static CURRENT: Mutex<Option<(Instant, Vec<u8>)>> = Mutex::new(None);

/// Ends the command when one import takes three times as long as it may.
#[expect(clippy::print_stdout, clippy::exit, reason = "nothing else ends a thread that is stuck")]
fn watch(path: &Path) {
    loop {
        std::thread::sleep(Duration::from_secs(1));
        let stuck = match CURRENT.lock() {
            Ok(current) => current.clone().filter(|(start, _)| start.elapsed().as_secs() > 30),
            Err(_) => None,
        };
        if let Some((_, data)) = stuck {
            println!("an import takes more than 30 s: {}", path.display());
            let _ = std::fs::write(path, data);
            std::process::exit(1);
        }
    }
}

#[expect(clippy::print_stdout, reason = "a command's output")]
fn main() -> Result<(), String> {
    let (mut seconds, mut seed, mut folder) = (60u64, 1u64, PathBuf::new());
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut number = || {
            let value = arguments.next().and_then(|v| v.parse().ok());
            value.ok_or_else(|| format!("{argument} takes a number"))
        };
        match argument.as_str() {
            "--seconds" => seconds = number()?,
            "--seed" => seed = number()?,
            _ => folder = PathBuf::from(&argument),
        }
    }
    let mut files = Vec::new();
    corpus(&folder, &mut files).map_err(|e| format!("{}: {e}", folder.display()))?;
    if files.is_empty() {
        return Err("usage: fuzz_import --seconds N --seed S CORPUS_DIR (with .onnx files)".into());
    }
    println!("{} models, seed {seed}", files.len());
    std::panic::set_hook(Box::new(|_| {}));
    let mut random = Random(seed);
    let end = Instant::now() + Duration::from_secs(seconds);
    let stuck = folder.join("finding-stuck.onnx");
    std::thread::spawn(move || watch(&stuck));
    let (mut runs, mut good, mut findings) = (0usize, 0usize, 0usize);
    let (mut most, mut slowest) = (0, Duration::ZERO);
    while Instant::now() < end {
        let mut data = files[random.below(files.len())].clone();
        let other = files[random.below(files.len())].clone();
        if random.below(4) == 0 {
            for _ in 0..=random.below(4) {
                damage(&mut data, &other, &mut random);
            }
        } else if let (Some(mut tree), Some(mut from)) = (parse(&data, 0), parse(&other, 0)) {
            for _ in 0..=random.below(6) {
                damage_tree(&mut tree, &mut from, &mut random);
            }
            data.clear();
            write(&tree, &mut data);
        }
        let before = HELD.load(Ordering::Relaxed);
        PEAK.store(before, Ordering::Relaxed);
        let start = Instant::now();
        let input = data.clone();
        if let Ok(mut current) = CURRENT.lock() {
            *current = Some((start, data.clone()));
        }
        let result = catch_unwind(AssertUnwindSafe(|| {
            from_bytes(input.into(), None, &ImportOptions::default()).is_ok()
        }));
        let took = start.elapsed();
        let used = PEAK.load(Ordering::Relaxed).saturating_sub(before);
        (most, slowest) = (most.max(used), slowest.max(took));
        runs += 1;
        let trouble = match result {
            Err(panic) => {
                let text = panic.downcast_ref::<String>().map(String::as_str);
                let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
                Some(format!("panic: {}", text.unwrap_or("no message")))
            }
            Ok(_) if used >= CAP => Some(format!("{used} bytes held")),
            Ok(_) if took > Duration::from_secs(10) => Some(format!("{took:?}")),
            Ok(imported) => {
                good += usize::from(imported);
                None
            }
        };
        if let Some(trouble) = trouble {
            let path = folder.join(format!("finding-{findings}.onnx"));
            std::fs::write(&path, &data).map_err(|e| e.to_string())?;
            println!("run {runs}: {trouble}, {}", path.display());
            findings += 1;
            if findings >= 20 {
                break;
            }
        }
    }
    println!(
        "{runs} models, {good} of them imported all the same, {findings} findings, at most {most} bytes and {slowest:?}"
    );
    if findings == 0 { Ok(()) } else { Err(format!("{findings} findings")) }
}
