//! Tasks of the project itself: `cargo xtask help` lists them.
#![allow(clippy::print_stdout, reason = "a developer's tool talks to its terminal")]

mod bad_input;
mod build_time;
mod endurance;
mod fit;
mod fit_kernels;
mod fit_single;
mod fit_truth;
mod fuzz;
mod layers;
mod onnx_judge;
mod onnx_tests;
mod peers;
mod peers_layers;
mod peers_quantize;
mod peers_systolic;
mod pjrt_tests;
mod process;
mod python;
mod report_look;
mod sanitize;
mod single_models;
mod start;
mod test;
mod tidy;
mod validate;
mod validate_kernels;
mod validate_mlperf;
mod validate_single;
mod validate_timm;
mod validate_tpu;
mod wildcards;
mod workspace;
mod zoo;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Tasks of the anychip project.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Everything a landing must pass; says what it skipped and why
    Test(test::Options),
    /// Check the house rules that no compiler checks
    Tidy,
    /// Run the ONNX standard's own backend tests
    OnnxTests(onnx_tests::Options),
    /// Export well-known architectures, run and optimize them, and compare with ONNX Runtime
    Zoo(zoo::Options),
    /// Time or quantize models beside the other runtimes and tools
    Peers(peers::Options),
    /// Install two plugins of PJRT; run the conformance suite, models, a leak check and damaged plugins on each
    PjrtTests(pjrt_tests::Options),
    /// Measure the time to the first result and the peak memory, beside ONNX Runtime
    Start(start::Options),
    /// Feed damaged and hostile files to the binary
    BadInput(bad_input::Options),
    /// Mutate inputs of the parsers, and run random operators on the kernels, for some minutes each
    Fuzz(fuzz::Options),
    /// Run the tests of crates with unsafe code under AddressSanitizer and Miri
    Sanitize(sanitize::Options),
    /// Run a model a hundred thousand times from concurrent sessions; watch results and memory
    Endurance(endurance::Options),
    /// Refit the predictor's tables from measured truth
    Fit(fit::Options),
    /// Refit the predictor without what it is then asked about; print its errors
    Validate(validate::Options),
    /// Open the HTML report in a headless browser, use all of it, keep pictures to look at
    ReportLook(report_look::Options),
    /// Build the release binary from nothing; print time and size
    BuildTime,
    /// Train and export the models in `models/` again
    TrainDigits,
}

fn main() -> ExitCode {
    let done = match Arguments::parse().task {
        Task::Test(options) => test::run(&options),
        Task::Tidy => tidy::run(),
        Task::OnnxTests(options) => onnx_tests::run(&options),
        Task::Zoo(options) => zoo::run(&options),
        Task::Peers(options) => peers::run(&options),
        Task::PjrtTests(options) => pjrt_tests::run(&options),
        Task::Start(options) => start::run(&options),
        Task::BadInput(options) => bad_input::run(&options),
        Task::Fuzz(options) => fuzz::run(&options),
        Task::Sanitize(options) => sanitize::run(&options),
        Task::Endurance(options) => endurance::run(&options),
        Task::Fit(options) => fit::run(&options),
        Task::Validate(options) => validate::run(&options),
        Task::ReportLook(options) => report_look::run(&options),
        Task::BuildTime => build_time::run(),
        Task::TrainDigits => python::train_digits(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
