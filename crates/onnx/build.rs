//! Compiles the standard's `onnx.proto` with a compiler written in Rust.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto/onnx.proto");
    let files = protox::compile(["onnx.proto"], ["proto"])?;
    prost_build::Config::new()
        // Weights stay slices of the mapped file.
        .bytes(["."])
        // A node's attributes are many and mostly numbers: what is rare is kept out of line.
        .boxed(".onnx.AttributeProto.t")
        .boxed(".onnx.AttributeProto.g")
        .boxed(".onnx.AttributeProto.sparse_tensor")
        .boxed(".onnx.AttributeProto.tp")
        .compile_fds(files)?;
    Ok(())
}
