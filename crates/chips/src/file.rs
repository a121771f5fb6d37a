//! A chip file as it is written, and how a [`Chip`] is made of it.

use std::collections::{BTreeMap, BTreeSet};

use anychip_units::{
    Count, Nanometers, SquareMillimeters, UsDollars, UsDollarsPerHour, Watts, Year,
};
use serde::Deserialize;

use crate::{
    catalog::edit_distance,
    check::is_date,
    chip::{Body, Chip, Family},
    compute::Compute,
    error::{ChipError, Problem},
    fabric::Fabric,
    quantum::Quantum,
    spec::{Figures, Spec},
    spiking::Spiking,
    systolic::Systolic,
};

/// A chip file as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct File {
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
    systolic: Option<Systolic>,
}

/// A document that figures come from.
#[derive(Deserialize)]
#[serde(
    deny_unknown_fields,
    expecting = "a source, { text = \"WHO STATES IT WHERE\", date = \"2026-11\" }, with `seen` for `date` where it bears none"
)]
struct Source {
    /// Who states it where.
    text: String,
    /// When the document was made.
    date: Option<String>,
    /// Where it bears no date: when it was read.
    seen: Option<String>,
    /// When figures were written down from memory of it, without it at hand: to be looked up.
    recalled: Option<String>,
}

impl Source {
    fn in_words(&self) -> String {
        let Source { text, date, seen, recalled } = self;
        match (date, seen, recalled) {
            (Some(date), _, _) => format!("{text}, {date}"),
            (None, Some(seen), _) => format!("{text}, seen {seen}"),
            (None, None, Some(recalled)) => format!("{text}, from memory {recalled}"),
            (None, None, None) => text.clone(),
        }
    }

    fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if self.text.trim().is_empty() {
            faults.push("is empty".to_owned());
        }
        let dates: Vec<&String> =
            [&self.date, &self.seen, &self.recalled].into_iter().flatten().collect();
        match dates[..] {
            [date] if is_date(date) => {}
            [date] => {
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
            help: advise(error.message()),
            error: Box::new(error),
        })?;
        let (chip, mut problems) = file.into_chip();
        if let Some(chip) = &chip {
            problems.extend(chip.problems());
        }
        match chip {
            Some(chip) if problems.is_empty() => Ok(chip),
            _ => Err(ChipError::Check { origin: origin.to_owned(), problems }),
        }
    }
}

impl File {
    /// The chip with the text of its sources filled in, and what is wrong with bodies and sources. There is no chip
    /// where there is not exactly one body.
    pub(crate) fn into_chip(self) -> (Option<Chip>, Vec<Problem>) {
        let problem = |path: &str, message: String| Problem { path: path.to_owned(), message };
        let mut bodies = [
            self.compute.map(Body::Compute),
            self.fabric.map(Body::Fabric),
            self.spiking.map(Body::Spiking),
            self.quantum.map(Body::Quantum),
        ]
        .into_iter()
        .flatten();
        let (Some(body), None) = (bodies.next(), bodies.next()) else {
            let message =
                "exactly one of `compute`, `fabric`, `spiking`, `quantum` is needed".to_owned();
            return (None, vec![problem("body", message)]);
        };
        let mut chip = Chip {
            aliases: self.aliases,
            architecture: self.architecture,
            target: self.target,
            stacks: self.stacks,
            year: self.year,
            process_nm: self.process_nm,
            die_mm2: self.die_mm2,
            dies: self.dies,
            board_mm2: self.board_mm2,
            power_w: self.power_w,
            price_usd: self.price_usd,
            price_usd_per_hour: self.price_usd_per_hour,
            systolic: self.systolic,
            ..Chip::new(&self.id, &self.name, &self.vendor, self.family, "", body)
        };

        let mut problems = Vec::new();
        let mut used = BTreeSet::new();
        chip.each("", &mut |path, _, spec| {
            let source = spec.source_mut();
            match self.sources.get(source.as_str()) {
                Some(full) => {
                    used.insert(std::mem::replace(source, full.in_words()));
                }
                None => problems.push(problem(
                    path,
                    format!("`[sources]` has no `{source}`; add it there or use a key that is"),
                )),
            }
        });
        for (key, source) in &self.sources {
            let path = format!("sources.{key}");
            problems.extend(source.faults().into_iter().map(|fault| problem(&path, fault)));
        }
        for key in self.sources.keys().filter(|key| !used.contains(key.as_str())) {
            problems.push(problem("sources", format!("no figure uses `{key}`; leave it out")));
        }
        (Some(chip), problems)
    }
}

/// What to try, where the parser's message tells enough.
fn advise(message: &str) -> Option<String> {
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    if message.starts_with("unknown field") || message.starts_with("unknown variant") {
        let (met, known) = quoted.split_first()?;
        let (distance, close) =
            known.iter().map(|known| (edit_distance(met, known), known)).min()?;
        return (distance <= 3 + met.len() / 3).then(|| format!("did you mean `{close}`?"));
    }
    if message.starts_with("missing field") {
        return match *quoted.first()? {
            "source" => Some(
                "every figure says who states it: { value = 75, source = \"sheet\" }, with `sheet` under [sources]"
                    .to_owned(),
            ),
            "sources" => Some(
                "add a table [sources] with a line `sheet = { text = \"…\", date = \"2026-11\" }` for each document"
                    .to_owned(),
            ),
            "to" => Some("say where the link leads: `to = \"host\"` or `to = \"chips\"`".to_owned()),
            _ => None,
        };
    }
    if message.contains("expected f64") {
        return Some(
            "write a bare number; the unit is in the key, as in power_w (watts), clock_hz, bytes_per_second"
                .to_owned(),
        );
    }
    None
}
