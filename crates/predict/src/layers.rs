//! Where an estimate's time goes, layer by layer, and the roofs no layer can pass.
//!
//! No single layer of a chip that is not here has been timed: its time is its share, by the formula that the estimate
//! is made with, of the estimated whole. The record says so beside the layers.

use anychip_chips::{Chip, Precision};
use anychip_record::{Layer, Record, Roof};

use crate::estimate::{PredictError, Request, Sizes, group_seconds, in_single_kernels};
use crate::graph_kernels::Launching;
use crate::operators::Rates;
use crate::refusal::usable;
use crate::single::{SingleTable, each_kernel};
use crate::tables::Tables;

/// Digits a layer's time is given with: far more than are true, few enough for a file with two hundred chips.
const DIGITS: usize = 6;

/// The chip's peak and bandwidth for a number format, as estimates take them.
///
/// # Errors
/// When a figure of the catalog breaks its own rules.
pub fn roof(chip: &Chip, precision: Precision) -> Result<Option<Roof>, PredictError> {
    let Ok((compute, usable)) = usable(chip, precision) else { return Ok(None) };
    let Some(peak) = compute.peak(usable.precision) else { return Ok(None) };
    let bandwidth = compute.main_memory().and_then(|m| m.bytes_per_second.as_ref());
    Ok(Some(Roof {
        peak: peak.figure()?,
        bandwidth: bandwidth.map(anychip_chips::Spec::figure).transpose()?,
    }))
}

/// Adds the layers to a `record` that [`predict`](crate::predict) made of the same request and chip: each layer's share
/// of the latency by the formula that the latency came from. A record that does not run stays as it is.
///
/// # Errors
/// When a size of the graph is no number, or the fitted tables are damaged.
pub fn add_layers(
    record: &mut Record,
    request: &Request<'_>,
    chip: &Chip,
) -> Result<(), PredictError> {
    let counted = request.counted;
    let precision = request.precision.unwrap_or(counted.precision());
    let (Some(latency), Ok((compute, usable))) = (&record.latency_s, usable(chip, precision))
    else {
        return Ok(());
    };
    let bandwidth = compute.main_memory().and_then(|m| m.bytes_per_second.as_ref());
    let (Some(peak), Some(bandwidth)) = (compute.peak(usable.precision), bandwidth) else {
        return Ok(());
    };
    let rates = Rates { peak: peak.value, bandwidth: bandwidth.value };
    let sizes = Sizes::of(precision, counted.precision(), request.weights);
    let scale = sizes.activations;
    let tables = Tables::builtin()?;
    let mut layers = Vec::new();
    let mut how = "by the unfitted roofline";
    let choice = tables.choose(chip, &record.stack, usable.precision);
    let singly = request.weights.is_none()
        && in_single_kernels(chip, &record.stack, usable.precision, choice.as_ref());
    let kernels = counted.kernels(Launching::Eager, scale)?;
    if singly && let Some(each) = each_kernel(&SingleTable::builtin()?.kernels, &kernels, chip) {
        how = "by sums of measured kernels";
        let labels = counted.labels(Launching::Eager)?;
        layers.extend(kernels.iter().zip(each).zip(labels.iter()).map(
            |((kernel, seconds), label)| Layer {
                name: label.name.clone(),
                kernel: kernel.class.word().to_string(),
                seconds,
                operations: kernel.count * label.operations,
                bytes: kernel.count * (kernel.bytes + kernel.weight_bytes),
            },
        ));
    } else if let Some(choice) = choice {
        let whole = &choice.entry.whole;
        let kernels = counted.kernels(choice.entry.launching, scale)?;
        if whole.covers(&kernels, &rates) {
            how = "by the fitted formula";
            let operators = whole.operators();
            let labels = counted.labels(choice.entry.launching)?;
            layers.extend(kernels.iter().zip(labels.iter()).map(|(kernel, label)| Layer {
                name: label.name.clone(),
                kernel: kernel.class.word().to_string(),
                seconds: kernel.count * (operators.seconds(kernel, &rates) + operators.launch()),
                operations: kernel.count * label.operations,
                bytes: kernel.count * (kernel.bytes + kernel.weight_bytes),
            }));
            layers.push(Layer {
                name: "outside of kernels".to_string(),
                kernel: "start and end of a run".to_string(),
                seconds: operators.fixed(),
                operations: 0.0,
                bytes: 0.0,
            });
        }
    }
    if layers.is_empty() {
        let vector = compute.peaks.get(&usable.precision).and_then(|p| p.vector.as_ref());
        let vector = vector.map(|v| v.value);
        layers.extend(counted.work.groups.iter().map(|group| Layer {
            name: group.name.clone(),
            kernel: group.op.to_string(),
            seconds: group_seconds(group, &sizes, &rates, vector, 1.0).1,
            operations: 2.0 * group.macs + group.operations,
            bytes: group.bytes(&sizes, 1.0),
        }));
    }
    let total: f64 = layers.iter().map(|layer| layer.seconds).sum();
    let share = latency.value() / total;
    if !share.is_finite() {
        return Ok(());
    }
    for layer in &mut layers {
        layer.seconds = rounded(layer.seconds * share);
    }
    record.layers = layers;
    record.layers_source = Some(format!(
        "estimated: each layer's share {how} of the estimated whole; single layers are not validated"
    ));
    Ok(())
}

/// The number to [`DIGITS`] significant digits, by way of its text, so that it is written in as few.
fn rounded(value: f64) -> f64 {
    let text = format!("{value:.*e}", DIGITS - 1);
    text.parse().expect("what was written as a number reads as one")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Counted, predict};
    use anychip_chips::Catalog;
    use anychip_ir::{Builder, DotDims, Graph, Prim, TensorType, Unary};
    use anychip_tensor::{DType, Tensor};

    fn graph() -> Graph {
        let mut b = Builder::new("two");
        let x = b.input("x", TensorType::new(DType::F32, [64usize, 256]));
        let w = b.constant(Tensor::zeros(DType::F32, vec![512, 256]).expect("fits"));
        let dims = DotDims {
            lhs_batch: vec![],
            rhs_batch: vec![],
            lhs_contract: vec![1],
            rhs_contract: vec![1],
        };
        let y = b.prim(Prim::DotGeneral(dims, DType::F32), &[x, w]).expect("types agree");
        let z = b.prim(Prim::Unary(Unary::Exp), &[y]).expect("types agree");
        b.finish(&[z])
    }

    #[test]
    fn layers_add_up_to_the_latency_and_hold_all_work() {
        let graph = graph();
        let counted = Counted::new(&graph).expect("counts");
        let catalog = Catalog::builtin().expect("sound");
        let request = Request {
            model: "two",
            model_sha256: "0",
            counted: &counted,
            batch: 1,
            precision: None,
            weights: None,
            devices: None,
            stack: None,
            anchor: None,
        };
        let mut with_layers = 0;
        for chip in catalog.chips() {
            let mut record = predict(&request, chip).expect("predicts");
            add_layers(&mut record, &request, chip).expect("adds");
            let Some(latency) = &record.latency_s else {
                assert!(record.layers.is_empty(), "{}", chip.id);
                continue;
            };
            with_layers += 1;
            let sum: f64 = record.layers.iter().map(|layer| layer.seconds).sum();
            assert!((sum / latency.value() - 1.0).abs() < 1e-5, "{}: {sum}", chip.id);
            let operations: f64 = record.layers.iter().map(|layer| layer.operations).sum();
            assert_eq!(operations, counted.work.operations(), "{}", chip.id);
            assert!(record.layers_source.is_some());
            assert!(roof(chip, counted.precision()).expect("sound").is_some());
        }
        assert!(with_layers > 50, "{with_layers}");
    }

    #[test]
    fn times_keep_six_digits_and_are_short_in_writing() {
        assert_eq!(rounded(0.000_123_456_789), 0.000_123_457);
        assert_eq!(format!("{}", rounded(1.0 / 3.0)), "0.333333");
        assert_eq!(rounded(0.0), 0.0);
    }
}
