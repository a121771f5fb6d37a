//! Composite operators, one file each, written as their maths. [`ROWS`] lists them all.

use anychip_ir::CompositeRow;

macro_rules! composites {
    ($($module:ident :: $type:ident),* $(,)?) => {
        $(mod $module; pub use $module::$type;)*

        /// Every composite, with an example instance: what suites, documents and the text form's parser read.
        pub const ROWS: &[CompositeRow] = &[$($type::ROW),*];
    };
}

composites! {
    attention::Attention,
    batch_norm::BatchNorm,
    gelu::Gelu,
    layer_norm::LayerNorm,
    log_softmax::LogSoftmax,
    rms_norm::RmsNorm,
    silu::Silu,
    softmax::Softmax,
}
