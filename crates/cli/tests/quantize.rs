//! `anychip optimize --quantize` and `anychip diff`: what they give, and what they say to data and models that are wrong.

mod common;

use anychip::{Tensor, read_npz, write_npz};
use common::{Folder, anychip, root, text};

const CNN: &str = "models/digits-cnn.onnx";
const DIGITS: &str = "models/digits-cnn.npz";

fn succeeds(arguments: &[&str]) -> String {
    let output = anychip(arguments, 120);
    assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

/// What a command says that ends with status 1.
fn fails(arguments: &[&str]) -> String {
    let output = anychip(arguments, 120);
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {}", text(&output.stdout));
    text(&output.stderr)
}

/// Quantizes the digits CNN with data; what is said of it.
fn refused(folder: &Folder, arrays: &[(&str, &Tensor)]) -> String {
    let data = folder.path("data.npz");
    write_npz(data.as_ref(), arrays).expect("a temporary archive");
    let out = folder.path("out.onnx");
    fails(&["optimize", CNN, "-o", &out, "--quantize", "int8", "--calibrate", &data])
}

/// The report of a quantization as JSON.
fn report(model: &str, data: &str, out: &str, more: &[&str]) -> serde_json::Value {
    let mut arguments =
        vec!["optimize", model, "-o", out, "--quantize", "int8", "--calibrate", data, "--json"];
    arguments.extend(more);
    serde_json::from_str(&succeeds(&arguments)).expect("a report")
}

fn right(report: &serde_json::Value, which: usize) -> i64 {
    report["accuracy"][which]["right"].as_i64().expect("a count")
}

#[test]
fn int8_keeps_the_accuracy_and_runs() {
    let folder = Folder::new("int8");
    for name in ["cnn", "transformer"] {
        let (model, data) =
            (format!("models/digits-{name}.onnx"), format!("models/digits-{name}.npz"));
        let out = folder.path(&format!("{name}.onnx"));
        let report = report(&model, &data, &out, &[]);
        assert!(right(&report, 1) + 2 >= right(&report, 0), "{report}");
        assert!(report["snr_db"].as_f64().unwrap() > 25.0, "{report}");
        let run = succeeds(&["run", &out, "--input", &data, "--json"]);
        let run: serde_json::Value = serde_json::from_str(&run).unwrap();
        let again = run["accuracy"]["right"].as_i64().expect("a count");
        assert!((again - right(&report, 1)).abs() <= 1, "{again} {report}");
    }
}

#[test]
fn ranges_move_into_weights_where_that_helps() {
    let folder = Folder::new("equalize");
    let out = folder.path("out.onnx");
    for (name, least) in [("cnn", 0.2), ("transformer", 1.0)] {
        let (model, data) =
            (format!("models/digits-{name}.onnx"), format!("models/digits-{name}.npz"));
        let ratio = |when: &str| {
            let report = report(&model, &data, &out, &["--equalize", when]);
            (report["equalized"].as_i64().unwrap(), report["snr_db"].as_f64().unwrap())
        };
        let (never, always) = (ratio("never"), ratio("always"));
        assert!(never.0 == 0 && always.0 > 0, "{name}: {never:?} {always:?}");
        assert!(always.1 > never.1 + least, "{name}: {never:?} {always:?}");
        assert!(ratio("auto").1 >= never.1, "{name}: {never:?}");
    }
}

#[test]
fn every_way_to_choose_ranges_works() {
    let folder = Folder::new("ranges");
    let out = folder.path("out.onnx");
    for more in [
        &["--range", "min-max"][..],
        &["--range", "percentile", "--percentile", "99.9"],
        &["--range", "entropy"],
        &["--power-of-two"],
        &["--symmetric", "--no-adaptive-rounding", "--no-bias-correction"],
    ] {
        let report = report(CNN, DIGITS, &out, more);
        assert!(right(&report, 1) + 4 >= right(&report, 0), "{more:?} {report}");
    }
}

#[test]
fn a_folder_of_arrays_is_calibration_data() {
    let folder = Folder::new("folder-of-arrays");
    let pixels = &read_npz(root().join(DIGITS).as_ref()).unwrap()["pixels"];
    let data = folder.path("data");
    std::fs::create_dir_all(&data).unwrap();
    write_npz(format!("{data}/0.npz").as_ref(), &[("pixels", pixels)]).unwrap();
    write_npz(format!("{data}/1.npz").as_ref(), &[("pixels", pixels)]).unwrap();
    let report = report(CNN, &data, &folder.path("out.onnx"), &[]);
    assert_eq!(report["samples"].as_i64().unwrap() as usize, 2 * pixels.shape()[0]);
    assert!(report["accuracy"].is_null(), "{report}");
}

#[test]
fn wrong_calibration_data_are_named() {
    let folder = Folder::new("calibration");
    let images = |dims: &[usize], value: f32| {
        Tensor::from_vec(dims.to_vec(), vec![value; dims.iter().product()]).unwrap()
    };
    let sound = images(&[4, 1, 8, 8], 0.5);
    let said = refused(&folder, &[("pixels", &images(&[0, 1, 8, 8], 0.0))]);
    assert!(said.contains("no samples"), "{said}");
    let said = refused(&folder, &[("images", &sound)]);
    assert!(said.contains("`pixels`") && said.contains("missing"), "{said}");
    let said = refused(&folder, &[("pixels", &images(&[4, 1, 8, 9], 0.5))]);
    assert!(said.contains("dim 3 is 9 instead of 8"), "{said}");
    let doubles = Tensor::from_vec([4, 1, 8, 8], vec![0.5f64; 256]).unwrap();
    let said = refused(&folder, &[("pixels", &doubles)]);
    assert!(said.contains("save it as numpy dtype float32"), "{said}");
    let said = refused(&folder, &[("pixels", &images(&[4, 1, 8, 8], f32::NAN))]);
    assert!(said.contains("`pixels` holds NaN"), "{said}");
    let said = refused(&folder, &[("pixels", &sound), ("labels", &Tensor::from_i64s(&[1, 2]))]);
    assert!(said.contains("`labels` has 2 entries for 4 samples"), "{said}");
    let out = folder.path("out.onnx");
    let said = fails(&[
        "optimize",
        CNN,
        "-o",
        &out,
        "--quantize",
        "int8",
        "--calibrate",
        &Folder::new("calibration-empty").path(""),
    ]);
    assert!(said.contains("holds no .npz and no .npy file"), "{said}");
    let images = folder.path("images");
    std::fs::create_dir_all(&images).unwrap();
    std::fs::write(format!("{images}/0.PNG"), b"").unwrap();
    let said = fails(&["optimize", CNN, "-o", &out, "--quantize", "int8", "--calibrate", &images]);
    assert!(said.contains("0.PNG") && said.contains("numpy.save"), "{said}");
}

#[test]
fn arguments_that_do_not_go_together_are_wrong_usage() {
    let folder = Folder::new("usage");
    let out = folder.path("out.onnx");
    for (more, wanted) in [
        (&["--quantize", "int8"][..], "--calibrate DATA"),
        (&["--calibrate", DIGITS][..], "--quantize"),
        (&["--quantize", "int4-weights", "--algorithm", "gptq"][..], "--calibrate DATA"),
        (&["--quantize", "fp16", "--dynamic"][..], "--dynamic is for"),
        (&["--prune", "channels:2"][..], "below 1"),
        (&["--prune", "3:4"][..], "expected 2:4"),
        (&["--prune", "2:4", "--quantize", "int8"][..], "cannot be used with"),
    ] {
        let mut arguments = vec!["optimize", CNN, "-o", &out];
        arguments.extend(more);
        let output = anychip(&arguments, 120);
        assert_eq!(output.status.code(), Some(2), "{more:?}: {}", text(&output.stderr));
        assert!(text(&output.stderr).contains(wanted), "{more:?}: {}", text(&output.stderr));
    }
}

#[test]
fn grids_of_a_run_need_no_data() {
    let folder = Folder::new("dynamic");
    let out = folder.path("out.onnx");
    let model = "models/digits-transformer.onnx";
    let data = "models/digits-transformer.npz";
    let arguments = ["optimize", model, "-o", &out, "--quantize", "int8", "--dynamic", "--json"];
    let plain: serde_json::Value = serde_json::from_str(&succeeds(&arguments)).unwrap();
    assert_eq!(plain["layers_quantized"], 10, "{plain}");
    assert!(plain["bytes_after"].as_i64().unwrap() * 2 < plain["bytes_before"].as_i64().unwrap());
    let file = std::fs::read(&out).unwrap();
    for op in ["DynamicQuantizeLinear", "MatMulInteger"] {
        let count = file.windows(op.len()).filter(|w| *w == op.as_bytes()).count();
        assert!(count >= 10, "{op} {count}");
    }
    let run = succeeds(&["run", &out, "--input", data, "--json"]);
    let run: serde_json::Value = serde_json::from_str(&run).unwrap();
    assert!(run["accuracy"]["right"].as_i64().unwrap() >= 351, "{run}");
    let measured = [&arguments[..], &["--calibrate", data]].concat();
    let measured: serde_json::Value = serde_json::from_str(&succeeds(&measured)).unwrap();
    assert!(measured["snr_db"].as_f64().unwrap() > 25.0, "{measured}");
}

#[test]
fn fewer_weights_cost_what_the_report_says() {
    let folder = Folder::new("prune");
    let out = folder.path("out.onnx");
    let prune = |what: &str, more: &[&str]| -> serde_json::Value {
        let mut arguments = vec!["optimize", CNN, "-o", &out, "--prune", what, "--json"];
        arguments.extend(more);
        serde_json::from_str(&succeeds(&arguments)).expect("a report")
    };
    let data = &["--calibrate", DIGITS][..];
    let half = prune("2:4", data);
    let [before, after] = [0, 1].map(|i| half["weights"][i].as_i64().unwrap());
    // The first layer has one input channel, the others lose half.
    assert!(after < before * 51 / 100, "{half}");
    assert!(right(&half, 1) + 30 >= right(&half, 0), "{half}");
    let smallest = prune("magnitude:30%", data);
    assert!(smallest["weights"][1].as_i64().unwrap() <= before * 71 / 100 + 4, "{smallest}");
    assert!(right(&smallest, 1) + 12 >= right(&smallest, 0), "{smallest}");
    let narrow = prune("channels:0.5", data);
    assert_eq!(narrow["removed"].as_array().unwrap().len(), 3, "{narrow}");
    assert!(narrow["weights"][1].as_i64().unwrap() < before / 2, "{narrow}");
    assert!(narrow["snr_db"].as_f64().unwrap() > 10.0, "{narrow}");
    assert_eq!(narrow["layers_refitted"], 3, "{narrow}");
    assert!(right(&narrow, 1) + 10 >= right(&narrow, 0), "{narrow}");
    let gains = narrow["gains"].as_array().unwrap();
    assert!(gains.len() > 10 && gains[0]["measured"] == true && gains[0]["chip"] == "cpu");
    let run = succeeds(&["run", &out, "--input", DIGITS, "--json"]);
    let run: serde_json::Value = serde_json::from_str(&run).unwrap();
    assert_eq!(run["accuracy"]["right"].as_i64().unwrap(), right(&narrow, 1), "{run}");
    let said = fails(&["optimize", CNN, "-o", &out, "--prune", "channels:1%"]);
    assert!(said.contains("no layer's channels can go"), "{said}");
}

#[test]
fn what_channels_leave_is_made_up_for_on_other_data() {
    let folder = Folder::new("refit");
    let (out, data) = (folder.path("out.onnx"), folder.path("half.npz"));
    let arrays = read_npz(root().join(DIGITS).as_ref()).unwrap();
    let half = |name: &str| {
        let all = &arrays[name];
        let shape = [&[180][..], &all.shape()[1..]].concat();
        let bytes = all.byte_len() / all.shape()[0] * 180;
        Tensor::from_bytes(all.dtype(), shape, all.bytes().slice(..bytes)).unwrap()
    };
    write_npz(data.as_ref(), &[("pixels", &half("pixels"))]).unwrap();
    let right = |more: &[&str]| {
        let arguments = ["optimize", CNN, "-o", &out, "--prune", "channels:0.5"];
        succeeds(&[&arguments[..], more].concat());
        let run = succeeds(&["run", &out, "--input", DIGITS, "--json"]);
        let run: serde_json::Value = serde_json::from_str(&run).unwrap();
        run["accuracy"]["right"].as_i64().unwrap()
    };
    let (without, with) = (right(&[]), right(&["--calibrate", &data]));
    assert!(without < 200 && with > 340, "{without} {with}");
}

#[test]
fn a_constant_input_quantizes() {
    let folder = Folder::new("constant");
    let data = folder.path("zeros.npz");
    let zeros = Tensor::from_vec([2, 1, 8, 8], vec![0f32; 128]).unwrap();
    write_npz(data.as_ref(), &[("pixels", &zeros)]).unwrap();
    let report = report(CNN, &data, &folder.path("out.onnx"), &[]);
    assert_eq!(report["samples"], 2);
}

#[test]
fn a_quantized_model_is_not_quantized_again() {
    let folder = Folder::new("again");
    let (once, twice) = (folder.path("once.onnx"), folder.path("twice.onnx"));
    report(CNN, DIGITS, &once, &[]);
    let said =
        fails(&["optimize", &once, "-o", &twice, "--quantize", "int8", "--calibrate", DIGITS]);
    assert!(said.contains("quantized already"), "{said}");
}

#[test]
fn a_budget_leaves_layers_in_floats() {
    let folder = Folder::new("budget");
    let out = folder.path("out.onnx");
    let all = report(CNN, DIGITS, &out, &[]);
    let least = all["snr_db"].as_f64().unwrap() + 3.0;
    let some = report(CNN, DIGITS, &out, &["--min-snr", &format!("{least}dB")]);
    assert!(some["snr_db"].as_f64().unwrap() >= least, "{some}");
    assert_eq!(some["budget_kept"], true);
    let quantized = some["layers_quantized"].as_i64().unwrap();
    assert!(quantized >= 1 && quantized < all["layers_quantized"].as_i64().unwrap(), "{some}");
    let lossless = report(CNN, DIGITS, &out, &["--max-accuracy-loss", "0%"]);
    assert!(right(&lossless, 1) >= right(&lossless, 0), "{lossless}");
    let output = anychip(
        &[
            "optimize",
            CNN,
            "-o",
            &out,
            "--quantize",
            "int8",
            "--calibrate",
            DIGITS,
            "--min-snr",
            "200dB",
        ],
        120,
    );
    assert_eq!(output.status.code(), Some(1));
    let (table, said) = (text(&output.stdout), text(&output.stderr));
    assert!(table.contains("its output"), "{table}");
    assert!(said.contains("best found") && said.contains("in the way"), "{said}");
}

#[test]
fn diff_names_where_models_part() {
    let folder = Folder::new("diff");
    let out = folder.path("out.onnx");
    report(CNN, DIGITS, &out, &[]);
    let same = succeeds(&["diff", CNN, CNN, "--input", DIGITS]);
    assert!(same.contains("nothing falls below"), "{same}");
    let found = succeeds(&["diff", CNN, &out, "--input", DIGITS, "--threshold", "70dB"]);
    assert!(found.contains("first below 70 dB: `"), "{found}");
    let json = succeeds(&["diff", CNN, &out, "--input", DIGITS, "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let last = json["values"].as_array().unwrap().last().unwrap().clone();
    assert_eq!(last["name"], "logits");
    assert!(last["cosine"].as_f64().unwrap() > 0.99, "{last}");
    let chips = succeeds(&[
        "diff",
        CNN,
        "--against",
        "reference",
        "--input",
        DIGITS,
        "--threshold",
        "90dB",
    ]);
    assert!(chips.contains("nothing falls below"), "{chips}");
    let neither = anychip(&["diff", CNN, "--input", DIGITS], 120);
    assert_eq!(neither.status.code(), Some(2), "{}", text(&neither.stderr));
    let said = fails(&["diff", CNN, "models/digits-rnn.onnx", "--input", DIGITS]);
    assert!(said.contains("pixels"), "{said}");
}
