//! What a compiler's optimized program says: `optimized FILE.hlo.pb [FORM]`, an instruction a line: cycles that the compiler estimates,
//! products, bytes to and from main memory, the model's node. `anychip build --for google-tpu-…` writes such files.
#![allow(clippy::print_stdout, reason = "an example says what it finds")]

use std::process::ExitCode;

#[expect(clippy::print_stderr, reason = "an example says what went wrong")]
fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let Some(path) = arguments.next() else {
        eprintln!("optimized FILE.hlo.pb [FORM]");
        return ExitCode::from(2);
    };
    let form = arguments.next().unwrap_or_else(|| "hlo_with_config".to_owned());
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) => {
            eprintln!("{path}: {error}");
            return ExitCode::FAILURE;
        }
    };
    for i in anychip_pjrt::instruction_estimates(&bytes, &form) {
        let products: Vec<String> = i
            .products
            .iter()
            .map(|p| format!("{}:{}:{}:{}:{}", p.groups, p.rows, p.columns, p.depth, p.bits))
            .collect();
        println!(
            "{}\t{}\t{}\t{}\t{}\t{}\t{}",
            i.cycles,
            i.name,
            i.opcode,
            products.join(" "),
            i.read_bytes,
            i.written_bytes,
            i.node
        );
    }
    ExitCode::SUCCESS
}
