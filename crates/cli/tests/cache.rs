//! What is kept from one start to the next: `--cache` and `--tune`.

mod common;

use std::process::Output;

use common::{Folder, anychip, text};

const MODEL: &str = "models/digits-cnn.onnx";

fn run(options: &[&str], output: &str) -> Output {
    let fixed = ["run", MODEL, "--input", "models/digits-cnn.npz", "--output", output];
    anychip(&[&fixed[..], options].concat(), 140)
}

#[track_caller]
fn answers(options: &[&str], output: &str) -> Vec<u8> {
    let done = run(options, output);
    assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
    std::fs::read(output).expect("outputs")
}

fn kept(folder: &str, ending: &str) -> Option<std::path::PathBuf> {
    let mut files = std::fs::read_dir(folder).ok()?.filter_map(|entry| Some(entry.ok()?.path()));
    files.find(|path| path.extension().is_some_and(|e| e == ending))
}

#[test]
fn results_have_the_same_bits_with_weights_packed_before() {
    let folder = Folder::new("cache");
    let (cache, output) = (folder.path("cache"), folder.path("out.npz"));
    let plain = answers(&[], &output);
    assert_eq!(answers(&["--cache", &cache], &output), plain);
    let file = kept(&cache, "weights").expect("a file of weights");
    let written = std::fs::metadata(&file).and_then(|m| m.modified()).expect("its time");
    assert_eq!(answers(&["--cache", &cache], &output), plain);
    let after = std::fs::metadata(&file).and_then(|m| m.modified()).expect("its time");
    assert_eq!(written, after, "nothing was missing, so nothing is written");
    // A file that was cut off is made anew.
    let contents = std::fs::read(&file).expect("its contents");
    std::fs::write(&file, &contents[..contents.len() / 2]).expect("cut off");
    assert_eq!(answers(&["--cache", &cache], &output), plain);
    assert_eq!(std::fs::read(&file).expect("its contents"), contents);
}

#[test]
fn another_state_of_a_model_does_not_find_the_old_weights() {
    let folder = Folder::new("cache-state");
    let (cache, output) = (folder.path("cache"), folder.path("out.npz"));
    let model = folder.file("model.onnx", std::fs::read(common::root().join(MODEL)).unwrap());
    let input = "models/digits-cnn.npz";
    let answers = || {
        let arguments = ["run", &model, "--input", input, "--output", &output, "--cache", &cache];
        let done = anychip(&arguments, 140);
        assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
        std::fs::read(&output).expect("outputs")
    };
    let before = answers();
    // One byte of a weight: the middle of the file is weights.
    let mut bytes = std::fs::read(&model).expect("the model");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x40;
    std::fs::write(&model, &bytes).expect("another model of the same size");
    assert_ne!(answers(), before, "results are those of the new weights");
}

#[test]
fn what_was_tuned_is_used_again() {
    let folder = Folder::new("tune");
    let (cache, output) = (folder.path("cache"), folder.path("out.npz"));
    let tuned = answers(&["--cache", &cache, "--tune"], &output);
    let file = kept(&cache, "tuning").expect("a file of choices");
    let rows = std::fs::read_to_string(&file).expect("its rows");
    assert!(rows.contains("ConvShape") && rows.contains(" us"), "{rows}");
    assert_eq!(answers(&["--cache", &cache], &output), tuned);
    std::fs::write(&file, format!("{rows}what is this\n")).expect("a damaged file");
    let done = run(&["--cache", &cache], &output);
    assert_eq!(done.status.code(), Some(1));
    let error = text(&done.stderr);
    assert!(error.contains("delete the file") && error.contains(".tuning"), "{error}");
}

#[test]
fn a_folder_that_cannot_be_used_is_named() {
    let folder = Folder::new("cache-file");
    let file = folder.file("file", "");
    let done = run(&["--cache", &file], &folder.path("out.npz"));
    assert_eq!(done.status.code(), Some(1));
    assert!(text(&done.stderr).contains(&file), "{}", text(&done.stderr));
    let done = run(&["--tune"], &folder.path("out.npz"));
    assert_eq!(done.status.code(), Some(2), "--tune asks where to keep what it finds");
}
