//! The standard's messages, generated from `proto/onnx.proto`.

#![allow(
    missing_docs,
    unreachable_pub,
    clippy::pedantic,
    clippy::doc_overindented_list_items,
    clippy::doc_lazy_continuation,
    clippy::enum_variant_names,
    reason = "generated from the standard's schema, which documents the fields"
)]

include!(concat!(env!("OUT_DIR"), "/onnx.rs"));
