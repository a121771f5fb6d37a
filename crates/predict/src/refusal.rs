//! Why a chip cannot run a model as it is.

use anychip_chips::{Body, Chip, Compute, Precision};

/// The peak to count with: operations a second, with a note where it is not the precision asked for.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct UsablePeak {
    pub(crate) precision: Precision,
    pub(crate) note: Option<&'static str>,
}

/// The compute body and the precision to count with, or why there is none.
pub(crate) fn usable(chip: &Chip, precision: Precision) -> Result<(&Compute, UsablePeak), String> {
    let compute = match &chip.body {
        Body::Compute(compute) => compute,
        Body::Fabric(_) => {
            return Err(format!(
                "an FPGA runs a circuit made for the model, and no engine for {precision} arithmetic is built yet"
            ));
        }
        Body::Spiking(_) => {
            return Err(
                "its cores exchange spikes: the network must first be converted to a spiking one, \
                and no converter is built yet"
                    .to_string(),
            );
        }
        Body::Quantum(quantum) => {
            let qubits = quantum.qubits.as_ref().map_or(String::new(), |q| format!("{} ", q.value));
            return Err(format!(
                "its {qubits}qubits run circuits, not tensors: only kernels and variational layers can use it"
            ));
        }
    };
    let has = |p: Precision| compute.peak(p).is_some();
    if has(precision) {
        return Ok((compute, UsablePeak { precision, note: None }));
    }
    if precision == Precision::F32
        && has(Precision::Bf16)
        && chip.family == anychip_chips::Family::Tpu
    {
        let note = "f32 products are rounded to bf16, which is XLA's default on this chip";
        return Ok((compute, UsablePeak { precision: Precision::Bf16, note: Some(note) }));
    }
    let stated: Vec<&str> =
        Precision::ALL.into_iter().filter(|&p| has(p)).map(Precision::word).collect();
    Err(match stated.as_slice() {
        [] => "the catalog has no peak of its arithmetic".to_string(),
        [only] => format!(
            "the model computes in {precision} and the catalog knows only {only} arithmetic of this chip; \
             `--dtype {only}` estimates the converted model"
        ),
        all => format!(
            "the model computes in {precision} and the catalog knows only {} arithmetic of this chip; \
             `--dtype {}` estimates the converted model",
            all.join(", "),
            all[0]
        ),
    })
}
