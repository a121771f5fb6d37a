//! The catalog for people: the list of chips, and the page of one with the source of each figure.

use anychip_chips::{Body, Chip, Entry, Order, Precision, Spec};
use anychip_units::{Basis, Count, Style, Unit, format};

use crate::{
    evidence::legend,
    grid::{Column, Grid, wrap},
};

/// The columns by how much they are wanted.
const WISHES: [&str; 16] = [
    "chip",
    "family",
    "peak or size",
    "power",
    "year",
    "bandwidth",
    "memory",
    "f32",
    "int8",
    "rent",
    "price",
    "units",
    "target",
    "process",
    "die",
    "name",
];

/// The column that shows what the table is sorted by.
fn sorted_column(order: Order) -> &'static str {
    match order {
        Order::Year => "year",
        Order::Power => "power",
        Order::Memory => "memory",
        Order::Bandwidth => "bandwidth",
        Order::Peak => "peak or size",
        Order::Price => "price",
        Order::Name => "name",
    }
}

/// The chips in at most `width` columns, as they come. Peaks are dense ones, of `precision` where one is given; the
/// column of what they are sorted by is shown whatever the width.
pub fn chips_table<'a>(
    chips: impl IntoIterator<Item = &'a Chip>,
    precision: Option<Precision>,
    order: Option<Order>,
    width: usize,
) -> String {
    let chips: Vec<&Chip> = chips.into_iter().collect();
    let words = |title: &str, cell: &dyn Fn(&Chip) -> String| {
        Column::words(title, chips.iter().map(|chip| cell(chip)).collect())
    };
    let figures = |title: &str, cell: &dyn Fn(&Chip) -> Option<String>| {
        Column::numbers(title, chips.iter().map(|chip| cell(chip).unwrap_or_default()).collect())
    };
    let telling = |chip: &Chip| {
        let (precision, rate) = chip.telling_rate(precision)?;
        Some(format::styled(rate, Style::Prefixed, precision.rate_symbol()))
    };
    let grid = Grid::new(vec![
        words("chip", &|chip| chip.id.clone()),
        words("family", &|chip| chip.family.to_string()),
        figures("year", &|chip| text(chip.year.as_ref())),
        figures("peak or size", &|chip| match &chip.body {
            Body::Compute(_) => telling(chip),
            Body::Fabric(_) if precision.is_some() => telling(chip),
            Body::Fabric(_) | Body::Spiking(_) | Body::Quantum(_) => size(chip),
        }),
        figures("f32", &|chip| peak(chip, Precision::F32)),
        figures("int8", &|chip| peak(chip, Precision::Int8)),
        figures("units", &|chip| chip.compute().and_then(|_| size(chip))),
        figures("memory", &|chip| text(chip.main_memory()?.bytes.as_ref())),
        figures("bandwidth", &|chip| text(chip.main_memory()?.bytes_per_second.as_ref())),
        figures("power", &|chip| text(chip.power_w.as_ref())),
        figures("process", &|chip| text(chip.process_nm.as_ref())),
        figures("die", &|chip| text(chip.die_mm2.as_ref())),
        figures("price", &|chip| first(&chip.price_usd)),
        figures("rent", &|chip| first(&chip.price_usd_per_hour)),
        words("target", &|chip| chip.target.clone().unwrap_or_default()),
        words("name", &|chip| chip.name.clone()),
    ]);
    let mut wishes = WISHES.to_vec();
    if let Some(order) = order {
        let column = sorted_column(order);
        wishes.retain(|wish| *wish != column);
        wishes.insert(1, column);
    }
    let wishes: Vec<(&str, usize)> = wishes.into_iter().map(|wish| (wish, 0)).collect();
    let mut out = grid.draw(&wishes, width).text;
    out.push('\n');
    let peaks = match precision {
        Some(precision) => format!("Peaks are of {precision}, dense where both are known."),
        None => "Peaks are dense: 16 bit where there is one, else 8, else 32.".to_owned(),
    };
    let note = format!(
        "{peaks} A blank was not found, it is not zero. `anychip chips CHIP` shows one chip with the source of each figure."
    );
    out += &wrap("", &note, width);
    out
}

fn text<U: Unit>(spec: Option<&Spec<U>>) -> Option<String> {
    spec.map(|spec| format::quantity::<U>(spec.value))
}

fn first<U: Unit>(prices: &[Spec<U>]) -> Option<String> {
    prices.first().map(|price| format::quantity::<U>(price.value))
}

fn peak(chip: &Chip, precision: Precision) -> Option<String> {
    let rate = chip.rate(precision)?;
    Some(format::styled(rate, Style::Prefixed, precision.rate_symbol()))
}

/// What is counted to say how large the chip is.
fn size(chip: &Chip) -> Option<String> {
    let count = |spec: Option<&Spec<Count>>, one: &str| {
        let spec = spec?;
        let plural = if spec.value == 1.0 { "" } else { "s" };
        Some(format!("{} {one}{plural}", format::quantity::<Count>(spec.value)))
    };
    match &chip.body {
        Body::Compute(body) => count(body.units.as_ref(), body.unit.as_deref().unwrap_or("unit")),
        Body::Fabric(body) => count(body.multipliers.as_ref()?.count.as_ref(), "multiplier"),
        Body::Spiking(body) => {
            count(body.neurons.as_ref(), "neuron").or_else(|| count(body.cores.as_ref(), "core"))
        }
        Body::Quantum(body) => count(body.qubits.as_ref(), "qubit"),
    }
}

/// One chip: each figure with the number of its source, and the sources below.
pub fn chip_page(chip: &Chip, width: usize) -> String {
    let mut out = format!("{}\n", chip.name);
    let aliases = chip.aliases.join(", ");
    let target = chip.target.as_deref().unwrap_or("none");
    for (label, text) in [
        ("id", chip.id.as_str()),
        ("also", aliases.as_str()),
        ("vendor", chip.vendor.as_str()),
        ("family", chip.family.word()),
        ("design", chip.architecture.as_deref().unwrap_or_default()),
        ("target", target),
        ("stacks", chip.stacks.join(", ").as_str()),
    ] {
        if !text.is_empty() {
            out += &wrap(&format!("  {label:<8}"), text, width);
        }
    }

    let entries = chip.entries();
    let mut sources: Vec<&str> = Vec::new();
    let mut numbers = Vec::new();
    for entry in &entries {
        let known = sources.iter().position(|source| *source == entry.source);
        numbers.push(
            known.unwrap_or_else(|| {
                sources.push(&entry.source);
                sources.len() - 1
            }) + 1,
        );
    }
    let label =
        entries.iter().map(|entry| readable(&entry.path).chars().count()).max().unwrap_or(0);
    let value = entries.iter().map(|entry| entry.text.chars().count()).max().unwrap_or(0);
    let mut section = "";
    for (entry, number) in entries.iter().zip(numbers) {
        let now = section_of(&entry.path);
        if now != section {
            out.extend(["\n", heading(now), "\n"]);
            section = now;
        }
        let name = readable(&entry.path);
        let lead = format!("  {name:<label$}  {:>value$} {} ", entry.text, entry.basis.mark());
        out += &wrap(&lead, &format!("[{number}]{}", remarks(entry)), width);
    }
    if !sources.is_empty() {
        out += "\nSources\n";
    }
    for (index, source) in sources.iter().enumerate() {
        out += &wrap(&format!("  [{}] ", index + 1), source, width);
    }
    let marks: String = entries.iter().map(|entry| entry.basis.mark()).collect();
    let stated = marks.contains(Basis::Estimated.mark());
    let legend = legend(&marks).replace("estimated", "stated by its source, not observed here");
    if stated { out + "\n" + &legend } else { out }
}

fn remarks(entry: &Entry) -> String {
    let parts: Vec<&str> =
        [&entry.date, &entry.note].into_iter().flatten().map(String::as_str).collect();
    if parts.is_empty() { String::new() } else { format!(" {}", parts.join("; ")) }
}

/// The part of a chip a path belongs to: its head, or the second word of its body.
fn section_of(path: &str) -> &str {
    let mut words = path.split('.');
    match (words.next(), words.next(), words.next()) {
        (Some(_), Some(part), Some(_)) => part,
        (Some(body), Some(_), None) => body,
        (_, _, _) => "chip",
    }
}

fn heading(section: &str) -> &str {
    match section {
        "chip" => "Product",
        "compute" => "Units",
        "fabric" => "Logic",
        "spiking" => "Neurons",
        "quantum" => "Qubits",
        "peaks" => "Peaks",
        "memory" => "Memory",
        "links" => "Links",
        "multipliers" => "Multipliers",
        "rams" => "RAM blocks",
        "gates" => "Operations",
        other => other,
    }
}

/// A path without what its section's heading says, and without its unit, which the figure shows.
fn readable(path: &str) -> String {
    let words: Vec<&str> = path.split('.').collect();
    let (middle, last) = match words[..] {
        [_, _, ref middle @ .., last] if words.len() > 2 => (middle.join("."), last),
        [_, last] | [last] => (String::new(), last),
        _ => (String::new(), path),
    };
    let name = match last {
        "bytes" => "size",
        "bytes_per_second" => "bandwidth",
        "price_usd_per_hour" => "rent",
        other => ["_mm2", "_nm", "_w", "_usd", "_hz", "_s", "_j"]
            .iter()
            .find_map(|unit| other.strip_suffix(unit))
            .unwrap_or(other),
    };
    format!("{middle} {}", name.replace('_', " ")).trim().to_owned()
}
