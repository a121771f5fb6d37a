//! What may be said after a model's name: `NAME,key=value,…`.

use std::collections::{BTreeMap, BTreeSet};

use anychip_tensor::{DType, Dim};

use crate::ZooError;

/// Which part of a language model's work a graph does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// All positions at once, scores for each of them, nothing kept.
    Forward,
    /// The prompt at once: scores for what follows it, and the keys and values to keep.
    Prefill,
    /// One more position, with the keys and values of those before it.
    Decode,
}

impl Phase {
    const ALL: [(Phase, &'static str); 3] =
        [(Phase::Forward, "forward"), (Phase::Prefill, "prefill"), (Phase::Decode, "decode")];
}

/// The keys, with what they mean: help and checks read them here.
pub const KEYS: &[(&str, &str)] = &[
    (
        "phase",
        "of a language model: prefill (the default), decode, or forward (scores for every position)",
    ),
    (
        "context",
        "decode: how many positions are kept; may be left open and given with --dim context=N",
    ),
    ("sequence", "how many positions come in; may be left open and given with --dim sequence=N"),
    (
        "target",
        "of an encoder with a decoder: how many positions the decoder takes in; --dim target=N",
    ),
    ("image", "height and width of the image"),
    ("classes", "how many classes a classifier tells apart"),
    ("dtype", "f32, f16 or bf16 instead of the type of the published weights"),
    ("seed", "where the random weights start, 0 unless given"),
];

/// The most that a size may be: absurd numbers are a mistake, and products of a few must not overflow.
pub(crate) const LARGEST: usize = 1 << 24;

/// The most pixels along a side.
const LARGEST_IMAGE: usize = 1 << 16;

/// What was said after the name, and which of it has been asked for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Settings {
    given: BTreeMap<String, String>,
    numbers: BTreeMap<String, usize>,
    phase: Option<Phase>,
    pub(crate) dtype: Option<DType>,
    pub(crate) seed: u64,
    used: BTreeSet<&'static str>,
    usual: Vec<(String, usize)>,
}

impl Settings {
    /// Reads `key=value,…`.
    pub(crate) fn parse(text: &str) -> Result<Settings, ZooError> {
        let mut settings = Settings::default();
        for part in text.split(',').map(str::trim).filter(|p| !p.is_empty()) {
            let Some((key, value)) = part.split_once('=') else {
                return Err(ZooError::Setting {
                    setting: part.to_string(),
                    reason: "expected KEY=VALUE".to_string(),
                });
            };
            settings
                .set(key.trim(), value.trim())
                .map_err(|reason| ZooError::Setting { setting: part.to_string(), reason })?;
        }
        Ok(settings)
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        match key {
            "phase" => {
                let found = Phase::ALL.iter().find(|(_, name)| *name == value);
                self.phase = Some(found.ok_or("a phase is prefill, decode or forward")?.0);
            }
            "dtype" => {
                self.dtype = Some(match value {
                    "f32" => DType::F32,
                    "f16" => DType::F16,
                    "bf16" => DType::BF16,
                    _ => return Err("a dtype is f32, f16 or bf16".to_string()),
                });
            }
            "seed" => self.seed = value.parse().map_err(|_| "a seed is a whole number")?,
            "context" | "sequence" | "target" | "image" | "classes" => {
                let number: usize = value.parse().map_err(|_| "expected a whole number")?;
                let most = if key == "image" { LARGEST_IMAGE } else { LARGEST };
                if !(1..=most).contains(&number) {
                    return Err(format!("expected a number from 1 to {most}"));
                }
                self.numbers.insert(key.to_string(), number);
            }
            _ => {
                let known: Vec<&str> = KEYS.iter().map(|(key, _)| *key).collect();
                return Err(format!("`{key}` is no setting; known are {}", known.join(", ")));
            }
        }
        self.given.insert(key.to_string(), value.to_string());
        Ok(())
    }

    fn number(&mut self, key: &'static str, default: usize) -> usize {
        self.used.insert(key);
        self.numbers.get(key).copied().unwrap_or(default)
    }

    /// Height and width of the image.
    pub(crate) fn image(&mut self, default: usize) -> usize {
        self.number("image", default)
    }

    /// How many classes a classifier tells apart.
    pub(crate) fn classes(&mut self, default: usize) -> usize {
        self.number("classes", default)
    }

    /// The phase of a language model.
    pub(crate) fn phase(&mut self) -> Phase {
        self.used.insert("phase");
        self.phase.unwrap_or(Phase::Prefill)
    }

    /// A dim of the inputs: the number given, or its name, for which `usual` is a usual size.
    pub(crate) fn dim(&mut self, key: &'static str, usual: usize) -> Dim {
        self.used.insert(key);
        if let Some(&number) = self.numbers.get(key) {
            return Dim::Fixed(number);
        }
        self.usual.push((key.to_string(), usual));
        Dim::sym(key)
    }

    /// The usual sizes of the dims that were left open.
    pub(crate) fn usual_sizes(&self) -> &[(String, usize)] {
        &self.usual
    }

    /// An error for what was said and means nothing for this model.
    pub(crate) fn check_used(&self, model: &str) -> Result<(), ZooError> {
        for (key, value) in &self.given {
            let general = key == "dtype" || key == "seed";
            if !general && !self.used.contains(key.as_str()) {
                return Err(ZooError::Setting {
                    setting: format!("{key}={value}"),
                    reason: format!("`{model}` has no such setting"),
                });
            }
        }
        Ok(())
    }

    /// What was said, in one order: equal texts build equal graphs.
    pub(crate) fn canonical(&self) -> String {
        self.given.iter().fold(String::new(), |mut text, (key, value)| {
            text += &format!(",{key}={value}");
            text
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_in_any_order() {
        let settings = Settings::parse("sequence=64, phase=decode").unwrap();
        assert_eq!(settings.canonical(), ",phase=decode,sequence=64");
        assert_eq!(
            settings.canonical(),
            Settings::parse("phase=decode,sequence=64").unwrap().canonical()
        );
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, part) in [
            ("phase=half", "a phase is prefill, decode or forward"),
            ("phase", "expected KEY=VALUE"),
            ("image=0", "from 1 to"),
            ("image=99999999999999999999", "whole number"),
            ("color=red", "known are phase, context"),
            ("dtype=int8", "f32, f16 or bf16"),
        ] {
            let error = Settings::parse(text).unwrap_err().to_string();
            assert!(error.contains(part) && error.contains(text), "{error}");
        }
    }

    #[test]
    fn a_setting_that_nothing_asks_for_is_an_error() {
        let mut settings = Settings::parse("image=64,phase=decode").unwrap();
        assert_eq!(settings.image(224), 64);
        let error = settings.check_used("resnet50").unwrap_err().to_string();
        assert!(
            error.contains("`resnet50` has no such setting") && error.contains("phase=decode"),
            "{error}"
        );
    }
}
