//! What examples that hold one chip to a rule have in common: `NAME CHIP MODEL…`, every model looked at, an error at the end if one broke it.

use std::process::ExitCode;

use anychip::Error;

/// Asks `holds` about the chip and each model of the command line; fails where it says no or fails itself, which is told.
#[expect(clippy::print_stderr, reason = "an example says what went wrong")]
pub(crate) fn each_model(
    name: &str,
    holds: impl Fn(&str, &str) -> Result<bool, Error>,
) -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let Some(chip) = arguments.next() else {
        eprintln!("{name} CHIP MODEL…");
        return ExitCode::from(2);
    };
    let mut wrong = 0;
    for model in arguments {
        match holds(&chip, &model) {
            Ok(true) => {}
            Ok(false) => wrong += 1,
            Err(error) => {
                eprintln!("{model}: {error}");
                wrong += 1;
            }
        }
    }
    if wrong == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
