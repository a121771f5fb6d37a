//! The commands, one file each.

mod ahead_of_time;
mod bench;
mod build;
mod chips;
mod choose;
mod compare;
mod diff;
mod doctor;
mod explain;
mod inspect;
mod optimize;
mod run;
mod zoo;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use anyhow::Result;
use clap::CommandFactory;

use crate::args::{Arguments, Command, ModelArguments};

/// Runs a command.
pub(crate) fn execute(command: Command) -> Result<()> {
    match command {
        Command::Compare(args) => compare::execute(&args),
        Command::Choose(args) => choose::execute(&args),
        Command::Run(args) => run::execute(&args),
        Command::Bench(args) => bench::execute(&args),
        Command::Diff(args) => diff::execute(&args),
        Command::Optimize(args) => optimize::execute(&args),
        Command::Build(args) => build::execute(&args),
        Command::AheadOfTime(args) => ahead_of_time::execute(&args),
        Command::Inspect(args) => inspect::execute(&args),
        Command::Explain(args) => explain::execute(&args),
        Command::Chips(args) => chips::execute(&args),
        Command::Doctor(args) => doctor::execute(&args),
        Command::Completions(args) => {
            let mut script = Vec::new();
            clap_complete::generate(args.shell, &mut Arguments::command(), "anychip", &mut script);
            print(&String::from_utf8_lossy(&script))
        }
    }
}

/// Writes to standard output; a closed pipe comes back as an error, not as a panic.
pub(crate) fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(())
}

/// Arguments that do not go together; the command ends as with one that does not exist.
pub(crate) fn usage(command: &str, message: &str) -> anyhow::Error {
    let mut all = Arguments::command();
    all.build();
    let kind = clap::error::ErrorKind::MissingRequiredArgument;
    match all.find_subcommand_mut(command) {
        Some(own) => own.error(kind, message).into(),
        None => all.error(kind, message).into(),
    }
}

/// Notes for people go to standard error, so that standard output stays data.
pub(crate) fn note(text: &str) {
    eprintln!("note: {text}");
}

/// Says what is odd about a model that could be read all the same.
pub(crate) fn warn(model: &anychip::Model) {
    for warning in model.warnings() {
        note(&warning.to_string());
    }
}

/// A model ready to be timed or counted: optimized, with a number for every size.
pub(crate) struct Prepared {
    pub(crate) model: anychip::Model,
    pub(crate) graph: anychip::Graph,
    pub(crate) reports: Vec<anychip::PassReport>,
}

/// Loads a model and says what is odd about it, and which sizes will be assumed; and the sizes that were given.
pub(crate) fn load(
    path: &Path,
    dims: &[(String, usize)],
) -> Result<(anychip::Model, BTreeMap<String, usize>)> {
    let model = anychip::Model::load(path)?;
    warn(&model);
    let given: BTreeMap<String, usize> = dims.iter().cloned().collect();
    for name in given.keys() {
        if !anychip::size_names(model.graph()).contains(name) {
            note(&format!("no input of the model has a size called `{name}`"));
        }
    }
    let sizes = anychip::choose_sizes(model.graph(), &given, model.usual_sizes(), 1)?;
    for (name, size) in &sizes.assumed {
        note(&format!("assuming {name} = {size}; give it with --dim {name}=SIZE"));
    }
    Ok((model, given))
}

/// Loads a model and fixes its sizes, saying which were assumed.
pub(crate) fn prepare(args: &ModelArguments) -> Result<Prepared> {
    let (model, given) = load(&args.model, &args.dims)?;
    let sizes =
        anychip::choose_sizes(model.graph(), &given, model.usual_sizes(), args.batch as usize)?;
    let fixed = anychip::with_sizes(model.graph(), &sizes)?;
    let (graph, reports) = anychip::optimize(&fixed)?;
    Ok(Prepared { model, graph, reports })
}
