//! Times one model in tract; arguments and answer as in `peer_common`.

use anyhow::{Context, Result, ensure};
use peer_common::{Arguments, Array, Data, Session};
use std::sync::Arc;
use tract_onnx::prelude::*;

struct Tract {
    plan: Arc<TypedRunnableModel>,
    inputs: TVec<TValue>,
    names: Vec<String>,
    last: TVec<TValue>,
}

impl Session for Tract {
    fn run(&mut self) -> Result<()> {
        self.last = self.plan.run(self.inputs.clone())?;
        Ok(())
    }

    fn outputs(&self) -> Result<Vec<(String, Vec<usize>, Vec<f64>)>> {
        let mut outputs = Vec::new();
        for (name, value) in self.names.iter().zip(&self.last) {
            let values = value.cast_to::<f64>()?;
            outputs.push((
                name.clone(),
                value.shape().to_vec(),
                values.to_plain_array_view::<f64>()?.iter().copied().collect(),
            ));
        }
        Ok(outputs)
    }
}

fn tensor(array: &Array) -> Result<Tensor> {
    match &array.data {
        Data::F32(values) => Tensor::from_shape(&array.shape, values),
        Data::I64(values) => Tensor::from_shape(&array.shape, values),
    }
}

fn load(arguments: &Arguments) -> Result<Tract> {
    ensure!(arguments.threads == 1, "tract runs on one thread");
    let mut model = tract_onnx::onnx().model_for_path(&arguments.model)?;
    let mut inputs = tvec!();
    for index in 0..model.input_outlets()?.len() {
        let outlet = model.input_outlets()?[index];
        let name = model.node(outlet.node).name.clone();
        let array = arguments.inputs.get(&name).with_context(|| format!("no input `{name}`"))?;
        let value = tensor(array)?;
        model.set_input_fact(index, InferenceFact::dt_shape(value.datum_type(), value.shape()))?;
        inputs.push(value.into_tvalue());
    }
    let mut names = Vec::new();
    for outlet in model.output_outlets()? {
        let label = model.outlet_label(*outlet).map(str::to_owned);
        names.push(label.unwrap_or_else(|| model.node(outlet.node).name.clone()));
    }
    let plan = model.into_optimized()?.into_runnable()?;
    Ok(Tract { plan, inputs, names, last: tvec!() })
}

fn main() -> Result<()> {
    peer_common::main(load)
}
