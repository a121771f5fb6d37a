//! [`Catalog`]: the chips that are known, and finding them by name.

use std::{collections::BTreeMap, path::Path};

use crate::{chip::Chip, error::ChipError, file::File};

include!(concat!(env!("OUT_DIR"), "/files.rs"));

/// The chips anychip knows, sorted by id.
#[derive(Debug, Clone, Default)]
pub struct Catalog {
    chips: BTreeMap<String, Chip>,
    /// The id behind each alias.
    aliases: BTreeMap<String, String>,
}

impl Catalog {
    /// The rows that come with anychip. The build made JSON of them; a test checks each as a user's file is checked,
    /// so that a start does not have to.
    pub fn builtin() -> Result<Self, ChipError> {
        let mut catalog = Self::default();
        for (origin, json) in FILES {
            let file: File =
                serde_json::from_str(json).map_err(|error| ChipError::BuiltIn { origin, error })?;
            let (chip, problems) = file.into_chip();
            if let Some(chip) = chip.filter(|_| problems.is_empty()) {
                catalog.add(chip)?;
            } else {
                return Err(ChipError::Check { origin: (*origin).to_owned(), problems });
            }
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
pub(crate) fn edit_distance(a: &str, b: &str) -> usize {
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
