//! The `anychip` command: makes a model fast on the chip at hand and says how it would do on every other.

mod args;
mod commands;
mod terminal;

use std::process::ExitCode;

use clap::Parser;

use crate::args::Arguments;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match commands::execute(arguments.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // A closed pipe is the reader's choice, as with `| head`.
            if error
                .downcast_ref::<std::io::Error>()
                .is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe)
            {
                return ExitCode::SUCCESS;
            }
            if let Some(usage) = error.downcast_ref::<clap::Error>() {
                // What clap could not check by itself is said as it would have.
                return if usage.print().is_ok() { ExitCode::from(2) } else { ExitCode::FAILURE };
            }
            eprintln!("error: {error}");
            for cause in error.chain().skip(1) {
                let text = cause.to_string();
                if !error.to_string().contains(&text) {
                    eprintln!("  caused by: {text}");
                }
            }
            ExitCode::from(1)
        }
    }
}
