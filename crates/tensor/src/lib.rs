//! Element types, shapes and host tensors: what every other crate passes around.
