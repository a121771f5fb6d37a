//! `anychip run`: real inputs in, results out.

use anychip::{Engine, Model, Tensor};
use anyhow::Result;

use crate::args::Run;
use crate::commands::{note, print, warn};

pub(crate) fn execute(args: &Run) -> Result<()> {
    let arrays = anychip::read_npz(&args.input)?;
    let model = Model::load_for(&args.model, &arrays)?;
    warn(&model);
    let inputs = anychip::arrange(model.graph(), &arrays)?;
    let names = anychip::input_names(model.graph());
    for key in arrays.keys() {
        let bound = model.structural_inputs().contains(key);
        if !names.contains(key) && *key != args.labels && !bound {
            note(&format!("array `{key}` is no input of the model and is not used"));
        }
    }
    let graph = if args.no_optimize { model.graph().clone() } else { model.optimized()?.0 };
    let chip = anychip::local_chip(&args.on)?;
    let mut engine = Engine::new(&graph, &chip, &args.execution.compile_options())?;
    let (outputs, _) = engine.run(&inputs)?;
    let named: Vec<(&str, &Tensor)> =
        engine.output_names().iter().map(String::as_str).zip(&outputs).collect();
    if let Some(path) = &args.output {
        anychip::write_npz(path, &named)?;
    }
    let accuracy = match (arrays.get(&args.labels), outputs.first()) {
        (Some(labels), Some(scores)) => anychip::accuracy(scores, labels),
        _ => None,
    };
    if args.json {
        return print(&format!("{}\n", json(&named, accuracy)));
    }
    let mut text = String::new();
    for (name, tensor) in &named {
        text += &format!("{name}: {}\n", anychip::describe(tensor));
    }
    if let Some((right, of)) = accuracy {
        let share = 100.0 * right as f64 / of as f64;
        let name = named[0].0;
        text += &format!(
            "accuracy {share:.2} % ({right} of {of}): the largest of `{name}` against `{}`\n",
            args.labels
        );
    }
    print(&text)
}

fn json(named: &[(&str, &Tensor)], accuracy: Option<(usize, usize)>) -> serde_json::Value {
    let outputs: serde_json::Map<String, serde_json::Value> = named
        .iter()
        .map(|(name, tensor)| {
            let value = serde_json::json!({
                "dtype": tensor.dtype().name(), "shape": tensor.shape(), "data": tensor.to_f64(),
            });
            ((*name).to_string(), value)
        })
        .collect();
    let accuracy = accuracy.map(|(right, of)| serde_json::json!({"right": right, "of": of}));
    serde_json::json!({"outputs": outputs, "accuracy": accuracy})
}
