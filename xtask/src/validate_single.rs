//! Kernels in 32-bit floats and whole transformers made of them, devices left out.

use crate::fit_single::{LeftOut, band, left_out};
use crate::validate::{Case, Line, Worst, head, line, show, worst};
use crate::{fit_single, single_models};
use anychip_chips::Catalog;
use anyhow::Result;
use std::path::Path;

/// Both tables.
pub(crate) fn tables(truth: &Path, catalog: &Catalog) -> Result<(Vec<Line>, Vec<Worst>)> {
    let kernels = fit_single::kernels(truth, catalog)?;
    let models = single_models::models(truth)?;
    let mut devices = left_out(&kernels, &models, catalog)?;
    set_intervals(&mut devices, |device| &device.kernels, |device| &mut device.kernels);
    set_intervals(&mut devices, |device| &device.models, |device| &mut device.models);
    let mut lines = Vec::new();
    head(
        "Kernels in f32, devices left out",
        "all kernels of a device left out (all cards of a chip); intervals from the errors of the other devices",
        "none stated",
        "none stated",
    );
    for device in &devices {
        let found = line("single kernels, device left out", device.device.clone(), &device.kernels);
        show(&found, None, None);
        lines.push(found);
    }
    let pooled: Vec<Case> = devices.iter().flat_map(|d| d.kernels.iter().cloned()).collect();
    let found = line("single kernels, device left out", "all devices".to_string(), &pooled);
    show(&found, None, None);
    lines.push(found);
    head(
        "Whole transformers in f32, devices left out",
        "sums of kernels fitted on other devices; no whole model is ever fitted on; intervals from the other devices' models",
        "10.1 % (NeuSight's own)",
        "12 % from specifications",
    );
    for device in &devices {
        let found = line("whole f32, device left out", device.device.clone(), &device.models);
        show(&found, Some(12.0), None);
        lines.push(found);
    }
    let mut pooled: Vec<Case> = devices.iter().flat_map(|d| d.models.iter().cloned()).collect();
    let found = line("whole f32, device left out", "all devices".to_string(), &pooled);
    show(&found, Some(12.0), None);
    lines.push(found);
    let every: Vec<_> = kernels.iter().collect();
    let table = anychip_predict::fit::fit_kernels(&every);
    let mut here: Vec<Case> = models
        .iter()
        .map(|model| fit_single::model_case(model, &table, catalog))
        .collect::<Result<_>>()?;
    // Each device's interval is from the models on the others.
    let all = here.clone();
    for (case, model) in here.iter_mut().zip(&models) {
        let mine = fit_single::silicon(&model.device);
        let others =
            all.iter().zip(&models).filter(|(_, m)| fit_single::silicon(&m.device) != mine);
        let [low, high] = band(others.map(|(case, _)| case));
        case.interval = Some((case.predicted + low.min(0.0), case.predicted + high.max(0.0)));
    }
    let what = "all devices, their kernels known".to_string();
    let found = line("whole f32, kernels known", what, &here);
    show(&found, Some(12.0), None);
    lines.push(found);
    let worst = worst("whole f32, device left out", &mut pooled);
    Ok((lines, worst))
}

/// Each device's intervals reach as far as the errors of the other devices did.
fn set_intervals(
    devices: &mut [LeftOut],
    of: impl Fn(&LeftOut) -> &Vec<Case>,
    of_mut: impl Fn(&mut LeftOut) -> &mut Vec<Case>,
) {
    let bands: Vec<[f64; 2]> = (0..devices.len())
        .map(|i| {
            let others = devices.iter().enumerate().filter(|(j, _)| *j != i);
            band(others.flat_map(|(_, device)| of(device)))
        })
        .collect();
    for (device, [low, high]) in devices.iter_mut().zip(bands) {
        for case in of_mut(device) {
            case.interval = Some((case.predicted + low.min(0.0), case.predicted + high.max(0.0)));
        }
    }
}
