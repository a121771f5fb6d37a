//! Models without files: named architectures with seeded random weights, and those that a `config.json` describes.
//!
//! What a model costs on a chip follows from its architecture, so neither a prediction nor a measurement of speed
//! needs trained weights. [`build`] makes `zoo:NAME`, [`build_config`] what a Hugging Face `config.json` says. Each family is one
//! file, each named model one row of it with the published counts that the tests hold it to.
//!
//! Weights are constants that exist only once somebody reads them (`Tensor::deferred`): a graph of seventy billion weights is as small as
//! its nodes, and a small model runs like one from a file.

mod activation;
mod attention;
mod config;
mod convolution;
mod experts;
mod language;
mod net;
mod row;
mod settings;
mod weights;

mod bert;
mod convnext;
mod densenet;
mod dlrm;
mod efficientnet;
mod gpt;
mod llama;
mod lstm;
mod mobilenet;
mod resnet;
mod retinanet;
mod swin;
mod t5;
mod unet;
mod vgg;
mod vision_transformer;

use anychip_ir::{Graph, IrError};
use anychip_tensor::DType;

use crate::net::Net;
use crate::settings::Settings;

pub use config::{ConfigError, build_config};
pub use row::{Published, Row};
pub use settings::{KEYS, Phase};

/// Every named model, family by family.
pub fn rows() -> impl Iterator<Item = &'static Row> {
    FAMILIES.iter().flat_map(|family| family.iter())
}

/// A new family is one file and one row here.
const FAMILIES: &[&[Row]] = &[
    resnet::ROWS,
    mobilenet::ROWS,
    efficientnet::ROWS,
    convnext::ROWS,
    vision_transformer::ROWS,
    vgg::ROWS,
    densenet::ROWS,
    swin::ROWS,
    retinanet::ROWS,
    bert::ROWS,
    gpt::ROWS,
    t5::ROWS,
    llama::ROWS,
    unet::ROWS,
    dlrm::ROWS,
    lstm::ROWS,
];

/// A model that was built.
#[derive(Debug, Clone)]
pub struct Architecture {
    /// Its name with the settings, in one order.
    pub name: String,
    /// The computation. Dims that no setting gave are named: `batch`, `sequence`, `context`.
    pub graph: Graph,
    /// Trained numbers; those that are used twice count once.
    pub parameters: u64,
    /// A usual size for each named dim but the batch.
    pub usual_sizes: Vec<(String, usize)>,
}

/// Why there is no such model.
#[derive(Debug, thiserror::Error)]
pub enum ZooError {
    /// No row has the name.
    #[error("there is no built-in architecture `{name}`{}\n  help: `anychip inspect zoo:` lists them all", near_text(.near))]
    Unknown {
        /// The name.
        name: String,
        /// Names like it.
        near: Vec<&'static str>,
    },
    /// A setting after the name is wrong.
    #[error("setting `{setting}`: {reason}")]
    Setting {
        /// As it was written.
        setting: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The parts do not fit together: sizes that a setting or a configuration gives contradict each other.
    #[error("the architecture cannot be built: {0}")]
    Graph(#[from] IrError),
}

fn near_text(near: &[&str]) -> String {
    if near.is_empty() { String::new() } else { format!("; like it are {}", near.join(", ")) }
}

/// Builds `NAME` or `NAME,key=value,…` (see [`KEYS`]).
pub fn build(text: &str) -> Result<Architecture, ZooError> {
    let (name, rest) = text.split_once(',').unwrap_or((text, ""));
    let wanted = normal(name);
    let row = rows()
        .find(|row| names(row).any(|name| normal(name) == wanted))
        .ok_or_else(|| ZooError::Unknown { near: near(&wanted), name: config::cut(name) })?;
    let settings = Settings::parse(rest)?;
    construct(row.name, row.dtype, settings, row.build)
}

/// Builds what `recipe` adds, and checks that every setting meant something.
fn construct(
    name: &str,
    dtype: DType,
    mut settings: Settings,
    recipe: impl FnOnce(&mut Net, &mut Settings) -> net::Made<net::Outputs>,
) -> Result<Architecture, ZooError> {
    let mut net = Net::new(name, settings.dtype.unwrap_or(dtype), settings.seed);
    let outputs = recipe(&mut net, &mut settings)?;
    settings.check_used(name)?;
    let (graph, parameters) = net.finish(&outputs);
    Ok(Architecture {
        name: format!("{name}{}", settings.canonical()),
        graph,
        parameters,
        usual_sizes: settings.usual_sizes().to_vec(),
    })
}

/// All names of a row.
fn names(row: &Row) -> impl Iterator<Item = &'static str> + use<> {
    std::iter::once(row.name).chain(row.aliases.iter().copied())
}

/// A name without what does not matter: case, dashes and underscores.
fn normal(name: &str) -> String {
    name.trim().to_lowercase().replace(['_', '-'], "")
}

/// The names that are most like one that is none: few edits away, or with it as a part.
fn near(name: &str) -> Vec<&'static str> {
    let mut scored: Vec<(usize, &'static str)> = rows()
        .map(|row| {
            let known = normal(row.name);
            let part = name.len() >= 3 && (known.contains(name) || name.contains(&known));
            (if part { 1 } else { edits(name, &known) }, row.name)
        })
        .filter(|&(distance, _)| distance <= 3.max(name.len() / 3))
        .collect();
    scored.sort_unstable();
    scored.into_iter().take(6).map(|(_, name)| name).collect()
}

/// Letters to add, drop or change to get from one word to the other (Levenshtein 1966). Long words are cut: nothing is
/// like a name of more than 64 letters.
fn edits(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) =
        (a.chars().take(64).collect(), b.chars().take(64).collect());
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let change = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_one_of_a_kind() {
        let mut names: Vec<String> = rows().flat_map(super::names).map(normal).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
        assert_eq!(build("ResNet_50").unwrap().name, "resnet50");
    }

    #[test]
    fn an_unknown_name_is_answered_with_those_like_it() {
        let error = build("resnet5O").unwrap_err().to_string();
        assert!(error.contains("resnet50"), "{error}");
        let error = build("zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz").unwrap_err().to_string();
        assert!(error.contains("lists them all"), "{error}");
        assert_eq!(edits("kitten", "sitting"), 3);
    }
}
