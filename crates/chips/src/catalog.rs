//! [`Catalog`]: reading chip files and finding chips by name.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use anychip_units::{
    Count, Nanometers, SquareMillimeters, UsDollars, UsDollarsPerHour, Watts, Year,
};
use serde::Deserialize;

use crate::{
    check::is_date,
    chip::{Body, Chip, Family},
    compute::Compute,
    error::{ChipError, Problem},
    fabric::Fabric,
    quantum::Quantum,
    spec::{Figures, Spec},
    spiking::Spiking,
};

include!(concat!(env!("OUT_DIR"), "/files.rs"));

/// The chips anychip knows, sorted by id.
#[derive(Debug, Clone, Default)]
pub struct Catalog {
    chips: BTreeMap<String, Chip>,
    /// The id behind each alias.
    aliases: BTreeMap<String, String>,
}

impl Catalog {
    /// The rows that come with anychip.
    pub fn builtin() -> Result<Self, ChipError> {
        let mut catalog = Self::default();
        for (file, text) in FILES {
            catalog.add(Chip::from_toml(text, file)?)?;
        }
        Ok(catalog)
    }

    /// Reads a chip from a file of the user's and adds it.
    pub fn load(&mut self, path: &Path) -> Result<&Chip, ChipError> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| ChipError::Read { path: path.to_owned(), error })?;
        let chip = Chip::from_toml(&text, &path.display().to_string())?;
        let id = chip.id.clone();
        self.add(chip)?;
        Ok(&self.chips[&id])
    }

    /// Adds a chip; its id and aliases must be new.
    pub fn add(&mut self, chip: Chip) -> Result<(), ChipError> {
        for name in std::iter::once(&chip.id).chain(&chip.aliases) {
            if let Some(holder) = self.get(name) {
                let (name, holder, other) = (name.clone(), holder.id.clone(), chip.id.clone());
                return Err(ChipError::Duplicate { name, holder, other });
            }
        }
        for alias in &chip.aliases {
            self.aliases.insert(alias.clone(), chip.id.clone());
        }
        self.chips.insert(chip.id.clone(), chip);
        Ok(())
    }

    /// All chips, by id.
    pub fn chips(&self) -> impl Iterator<Item = &Chip> {
        self.chips.values()
    }

    /// The chip that answers to an id or alias, or to a name that is one but for how it is written: `NVIDIA_T4` and
    /// `NVIDIA T4` are `nvidia-t4`, `Intel(R) Xeon(R) Platinum 8380 CPU @ 2.30GHz` is `intel-xeon-platinum-8380`.
    pub fn get(&self, name: &str) -> Option<&Chip> {
        let exact =
            |name: &str| self.chips.get(name).or_else(|| self.chips.get(self.aliases.get(name)?));
        exact(name).or_else(|| exact(&plain(name)))
    }

    /// As [`Catalog::get`]; the error names chips that come close.
    pub fn find(&self, name: &str) -> Result<&Chip, ChipError> {
        self.get(name).ok_or_else(|| {
            let name = name.to_owned();
            let close = self.close_to(&name);
            ChipError::Unknown { name, close }
        })
    }

    fn close_to(&self, name: &str) -> Vec<String> {
        let wanted = name.to_lowercase();
        let mut close: Vec<(usize, &str)> = self
            .chips()
            .flat_map(|chip| std::iter::once(&chip.id).chain(&chip.aliases))
            .filter_map(|known| {
                let distance = edit_distance(&wanted, known);
                let part = wanted.len() >= 2 && known.contains(&wanted);
                (part || distance <= 2 + wanted.len() / 6).then_some((distance, known.as_str()))
            })
            .collect();
        close.sort_unstable();
        close.into_iter().take(5).map(|(_, known)| known.to_owned()).collect()
    }
}

/// A chip file as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    id: String,
    #[serde(default)]
    aliases: Vec<String>,
    name: String,
    vendor: String,
    family: Family,
    architecture: Option<String>,
    target: Option<String>,
    #[serde(default)]
    stacks: Vec<String>,
    year: Option<Spec<Year>>,
    process_nm: Option<Spec<Nanometers>>,
    die_mm2: Option<Spec<SquareMillimeters>>,
    dies: Option<Spec<Count>>,
    board_mm2: Option<Spec<SquareMillimeters>>,
    power_w: Option<Spec<Watts>>,
    #[serde(default)]
    price_usd: Vec<Spec<UsDollars>>,
    #[serde(default)]
    price_usd_per_hour: Vec<Spec<UsDollarsPerHour>>,
    sources: BTreeMap<String, Source>,
    compute: Option<Compute>,
    fabric: Option<Fabric>,
    spiking: Option<Spiking>,
    quantum: Option<Quantum>,
}

/// A document that figures come from.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Source {
    /// Who states it where.
    text: String,
    /// When the document was made.
    date: Option<String>,
    /// Where it bears no date: when it was read.
    seen: Option<String>,
}

impl Source {
    fn in_words(&self) -> String {
        match (&self.date, &self.seen) {
            (Some(date), _) => format!("{}, {date}", self.text),
            (None, Some(seen)) => format!("{}, seen {seen}", self.text),
            (None, None) => self.text.clone(),
        }
    }

    fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if self.text.trim().is_empty() {
            faults.push("is empty".to_owned());
        }
        match (&self.date, &self.seen) {
            (Some(date), None) | (None, Some(date)) if is_date(date) => {}
            (Some(date), None) | (None, Some(date)) => {
                faults.push(format!("the date `{date}` is not written 2026, 2026-11 or 2026-11-22"));
            }
            _ => faults.push(
                "needs one of `date` (when it was made) and `seen` (when it was read, where it bears no date)"
                    .to_owned(),
            ),
        }
        faults
    }
}

impl Chip {
    /// Reads one chip file; `origin` names it in errors. Everything wrong with it is reported together.
    pub fn from_toml(text: &str, origin: &str) -> Result<Self, ChipError> {
        let file: File = toml::from_str(text).map_err(|error| ChipError::Parse {
            origin: origin.to_owned(),
            error: Box::new(error),
        })?;
        let check = |problems| ChipError::Check { origin: origin.to_owned(), problems };
        let problem = |path: &str, message: String| Problem { path: path.to_owned(), message };

        let mut bodies = [
            file.compute.map(Body::Compute),
            file.fabric.map(Body::Fabric),
            file.spiking.map(Body::Spiking),
            file.quantum.map(Body::Quantum),
        ]
        .into_iter()
        .flatten();
        let (Some(body), None) = (bodies.next(), bodies.next()) else {
            let message =
                "exactly one of `compute`, `fabric`, `spiking`, `quantum` is needed".to_owned();
            return Err(check(vec![problem("body", message)]));
        };
        let mut chip = Self {
            aliases: file.aliases,
            architecture: file.architecture,
            target: file.target,
            stacks: file.stacks,
            year: file.year,
            process_nm: file.process_nm,
            die_mm2: file.die_mm2,
            dies: file.dies,
            board_mm2: file.board_mm2,
            power_w: file.power_w,
            price_usd: file.price_usd,
            price_usd_per_hour: file.price_usd_per_hour,
            ..Self::new(&file.id, &file.name, &file.vendor, file.family, "", body)
        };

        let mut problems = Vec::new();
        let mut used = BTreeSet::new();
        chip.each("", &mut |path, _, spec| {
            let source = spec.source_mut();
            match file.sources.get(source.as_str()) {
                Some(full) => {
                    used.insert(std::mem::replace(source, full.in_words()));
                }
                None => problems.push(problem(path, format!("`[sources]` has no `{source}`"))),
            }
        });
        for (key, source) in &file.sources {
            let path = format!("sources.{key}");
            problems.extend(source.faults().into_iter().map(|fault| problem(&path, fault)));
        }
        for key in file.sources.keys().filter(|key| !used.contains(key.as_str())) {
            problems.push(problem("sources", format!("no figure uses `{key}`")));
        }
        problems.extend(chip.problems());
        if problems.is_empty() { Ok(chip) } else { Err(check(problems)) }
    }
}

/// A product's name as an id is written: lower-case words joined by `-`, without marks, remarks and clocks.
fn plain(name: &str) -> String {
    let name = name.split(['@', ',']).next().unwrap_or(name).to_lowercase();
    let name = ["(r)", "(tm)", "®", "™"].iter().fold(name, |name, mark| name.replace(mark, " "));
    let words = name.split(|letter: char| !(letter.is_ascii_alphanumeric() || letter == '.'));
    let words: Vec<&str> = words
        .filter(|word| !word.is_empty() && !matches!(*word, "cpu" | "gpu" | "processor"))
        .collect();
    words.join("-")
}

/// The letters to insert, delete or replace to get from `a` to `b`.
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, letter) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, other) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(letter != *other);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}
