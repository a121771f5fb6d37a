//! What a product or convolution does to each element as it writes it.

use anychip_ir::ValueId;

use crate::fusion::Tail;
use crate::kernel::activation::Activation;
use crate::kernel::gemm::Epilogue;
use crate::step::Io;

/// Where among a kernel's operands bias and residual are, and the activation.
pub(crate) struct Written {
    bias: Option<usize>,
    residual: Option<usize>,
    activation: Activation,
}

impl Written {
    /// Adds what the tail reads to the kernel's operands.
    pub(crate) fn new(tail: &Tail<'_>, operands: &mut Vec<ValueId>) -> Written {
        let mut place = |v: Option<ValueId>| {
            v.map(|v| {
                operands.push(v);
                operands.len() - 1
            })
        };
        Written {
            bias: place(tail.bias),
            residual: place(tail.residual),
            activation: tail.activation,
        }
    }

    /// One number a channel.
    pub(crate) fn bias<'a>(&self, io: &Io<'a>) -> Option<&'a [f32]> {
        self.bias.map(|i| io.operand(i))
    }

    /// Everything but the bias, which is one a row or one a column as the kernel has it.
    pub(crate) fn epilogue<'a>(&self, io: &Io<'a>) -> Epilogue<'a> {
        Epilogue {
            residual: self.residual.map(|i| io.operand(i)),
            activation: self.activation,
            ..Epilogue::default()
        }
    }
}
