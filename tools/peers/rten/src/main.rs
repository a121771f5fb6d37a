//! Times one model in rten; arguments and answer as in `peer_common`.

use anyhow::{Result, bail};
use peer_common::{Arguments, Data, Session};
use rten::{Model, ModelOptions, NodeId, RunOptions, ThreadPool, Value};
use rten_tensor::prelude::*;
use std::sync::Arc;

struct Rten {
    model: Model,
    inputs: Vec<(NodeId, Value)>,
    names: Vec<(NodeId, String)>,
    pool: Arc<ThreadPool>,
    last: Vec<Value>,
}

impl Session for Rten {
    fn run(&mut self) -> Result<()> {
        let inputs = self.inputs.iter().map(|(id, value)| (*id, value.as_view().into())).collect();
        let outputs: Vec<NodeId> = self.names.iter().map(|(id, _)| *id).collect();
        let options = RunOptions::default().with_thread_pool(Some(Arc::clone(&self.pool)));
        self.last = self.model.run(inputs, &outputs, Some(options))?;
        Ok(())
    }

    fn outputs(&self) -> Result<Vec<(String, Vec<usize>, Vec<f64>)>> {
        let mut outputs = Vec::new();
        for ((_, name), value) in self.names.iter().zip(&self.last) {
            let (shape, values): (Vec<usize>, Vec<f64>) = match value {
                Value::FloatTensor(t) => {
                    (t.shape().to_vec(), t.iter().map(|&v| f64::from(v)).collect())
                }
                Value::Int32Tensor(t) => {
                    (t.shape().to_vec(), t.iter().map(|&v| f64::from(v)).collect())
                }
                other => bail!("an output of type {:?}", other.dtype()),
            };
            outputs.push((name.clone(), shape, values));
        }
        Ok(outputs)
    }
}

fn load(arguments: &Arguments) -> Result<Rten> {
    // Prepacked weights: what rten offers for speed, at the price of memory and load time.
    let model = ModelOptions::with_all_ops().prepack_weights(true).load_file(&arguments.model)?;
    let mut inputs = Vec::new();
    for (name, array) in &arguments.inputs {
        let Ok(id) = model.node_id(name) else { continue };
        let value = match &array.data {
            Data::F32(values) => Value::from_shape(array.shape.as_slice(), values.clone())?,
            // rten has no 64-bit integers and reads those of a file as 32-bit ones.
            Data::I64(values) => {
                let values: Result<Vec<i32>, _> =
                    values.iter().map(|&v| i32::try_from(v)).collect();
                Value::from_shape(array.shape.as_slice(), values?)?
            }
        };
        inputs.push((id, value));
    }
    let mut names = Vec::new();
    for name in arguments.expected.keys() {
        names.push((model.node_id(name)?, name.clone()));
    }
    let pool = Arc::new(ThreadPool::with_num_threads(arguments.threads));
    Ok(Rten { model, inputs, names, pool, last: Vec::new() })
}

fn main() -> Result<()> {
    peer_common::main(load)
}
