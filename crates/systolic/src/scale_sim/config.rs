//! SCALE-Sim's configuration file.

use std::collections::BTreeMap;

use anychip_chips::Dataflow;

use super::ScaleSimError;

/// What a configuration says, as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Cells from top to bottom.
    pub rows: u64,
    /// Cells from left to right.
    pub columns: u64,
    /// What stays in the cells.
    pub dataflow: Dataflow,
    /// Bytes of the buffers: inputs, filters, results.
    pub buffers: [u64; 3],
    /// How fast they are filled and emptied.
    pub interface: Interface,
}

/// How fast buffers are filled and emptied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interface {
    /// As fast as it takes (`CALC`).
    Unlimited,
    /// Words a cycle (`USER`). Of inputs and filters the peer takes `IfmapSRAMBankBandwidth` and `FilterSRAMBankBandwidth`,
    /// not `Bandwidth`, which is of results alone.
    Limited {
        /// Inputs.
        input: u64,
        /// Filters.
        filter: u64,
        /// Results.
        output: u64,
    },
}

impl Config {
    /// Reads the text of a configuration.
    pub fn parse(text: &str) -> Result<Config, ScaleSimError> {
        let file = File::parse(text);
        let interface = match file.text("run_presets", "InterfaceBandwidth")? {
            "CALC" => Interface::Unlimited,
            "USER" => Interface::Limited {
                input: file.number("layout", "IfmapSRAMBankBandwidth")?,
                filter: file.number("layout", "FilterSRAMBankBandwidth")?,
                output: file.number("architecture_presets", "Bandwidth")?,
            },
            other => {
                return Err(error(
                    "run_presets",
                    "InterfaceBandwidth",
                    &format!("`{other}` is neither USER nor CALC"),
                ));
            }
        };
        let section = "architecture_presets";
        let dataflow = match file.text(section, "Dataflow")? {
            "ws" => Dataflow::WeightStationary,
            "os" => Dataflow::OutputStationary,
            "is" => Dataflow::InputStationary,
            other => {
                return Err(error(
                    section,
                    "Dataflow",
                    &format!("`{other}` is none of ws, os, is"),
                ));
            }
        };
        let config = Config {
            rows: file.number(section, "ArrayHeight")?,
            columns: file.number(section, "ArrayWidth")?,
            dataflow,
            buffers: [
                1024 * file.number(section, "IfmapSramSzkB")?,
                1024 * file.number(section, "FilterSramSzkB")?,
                1024 * file.number(section, "OfmapSramSzkB")?,
            ],
            interface,
        };
        for (section, key) in [
            ("sparsity", "SparsitySupport"),
            ("layout", "IfmapCustomLayout"),
            ("layout", "FilterCustomLayout"),
        ] {
            if file.text(section, key).is_ok_and(|value| value.eq_ignore_ascii_case("true")) {
                return Err(error(section, key, "is not simulated here; set it to False"));
            }
        }
        Ok(config)
    }
}

fn error(section: &'static str, key: &'static str, reason: &str) -> ScaleSimError {
    ScaleSimError::Config { section, key, reason: reason.to_owned() }
}

/// Sections of `key : value` or `key = value`; names of keys without case.
struct File(BTreeMap<(String, String), String>);

impl File {
    fn parse(text: &str) -> File {
        let mut section = String::new();
        let mut values = BTreeMap::new();
        for line in text.lines().map(str::trim) {
            if line.is_empty() || line.starts_with(['#', ';']) {
                continue;
            }
            if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                name.trim().clone_into(&mut section);
            } else if let Some((key, value)) = line.split_once([':', '=']) {
                let key = key.trim().to_lowercase();
                values.insert((section.clone(), key), value.trim().to_owned());
            }
        }
        File(values)
    }

    fn text(&self, section: &'static str, key: &'static str) -> Result<&str, ScaleSimError> {
        let found = self.0.get(&(section.to_owned(), key.to_lowercase()));
        found.map(String::as_str).ok_or_else(|| error(section, key, "is missing"))
    }

    fn number(&self, section: &'static str, key: &'static str) -> Result<u64, ScaleSimError> {
        let text = self.text(section, key)?;
        let first = text.split(',').next().unwrap_or(text).trim();
        match first.parse::<u64>() {
            Ok(number) if (1..=1 << 40).contains(&number) => Ok(number),
            _ => Err(error(section, key, &format!("`{first}` is no number from 1"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "[general]\nrun_name = x\n[architecture_presets]\nArrayHeight:  32\nArrayWidth: 16\n\
        IfmapSramSzkB: 64\nFilterSramSzkB: 32\nOfmapSramSzkB: 8\nDataflow : ws\nBandwidth : 10\n\
        [layout]\nIfmapSRAMBankBandwidth : 4\nFilterSRAMBankBandwidth : 5\n[run_presets]\nInterfaceBandwidth: USER\n";

    #[test]
    fn a_configuration_of_the_peer() {
        let config = Config::parse(TEXT).unwrap();
        assert_eq!((config.rows, config.columns, config.buffers[0]), (32, 16, 65536));
        assert_eq!(config.interface, Interface::Limited { input: 4, filter: 5, output: 10 });
        assert_eq!(
            Config::parse(&TEXT.replace("USER", "CALC")).unwrap().interface,
            Interface::Unlimited
        );
    }

    #[test]
    fn what_is_wrong_is_named() {
        let message =
            |from: &str, to: &str| Config::parse(&TEXT.replace(from, to)).unwrap_err().to_string();
        assert_eq!(
            message("ArrayWidth", "Width"),
            "the configuration's [architecture_presets] ArrayWidth: is missing"
        );
        assert!(message(" ws", " xs").contains("`xs` is none of ws, os, is"));
        assert!(message("16", "-3").contains("`-3` is no number from 1"));
    }
}
