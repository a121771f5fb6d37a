//! One node as the function that imports it sees it: the builder, operands, attributes.

use anychip_ir::{Builder, IrError, ValueId};
use anychip_tensor::{DType, Tensor, TensorError};

use super::fold::fold;
use super::importer::{Importer, Scope};
use crate::proto::{AttributeProto, GraphProto};
use crate::tensor::{self, TensorProblem};

/// Why a node cannot be imported. The importer adds the node's name.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum ImportError {
    /// The graph does not type.
    #[error(transparent)]
    Ir(#[from] IrError),
    /// A required operand is left out.
    #[error("input {0} is required and left out")]
    MissingInput(usize),
    /// A required attribute is left out.
    #[error("attribute `{0}` is required and left out")]
    MissingAttribute(String),
    /// An attribute that the definition does not allow.
    #[error("attribute `{name}`: {reason}")]
    Attribute {
        /// Which.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A form of the operator that is not there, in words.
    #[error("{0}")]
    Unsupported(String),
    /// Operands that the definition does not allow, in words.
    #[error("{0}")]
    Invalid(String),
    /// What is built depends on the contents of an operand, which only a run can tell.
    #[error("the value of input {input} decides {what} and is not known before the model runs")]
    NeedsValue {
        /// Which operand of the node, from 0.
        input: usize,
        /// What it decides.
        what: &'static str,
    },
    /// What is built depends on the sizes of an operand, which only a run can tell.
    #[error("the sizes of input {input} decide {what} and are not known before the model runs")]
    NeedsSizes {
        /// Which operand of the node, from 0.
        input: usize,
        /// What they decide.
        what: &'static str,
    },
    /// A tensor in an attribute that cannot be read.
    #[error("attribute `{name}`: {problem}")]
    Tensor {
        /// Which attribute.
        name: String,
        /// What is wrong with it.
        problem: TensorProblem,
    },
    /// Functions or sub-graphs within each other beyond what is read.
    #[error("functions and sub-graphs are nested more than {0} deep")]
    TooDeep(usize),
    /// More nodes than any model has.
    #[error("the model has more than {0} nodes with its functions written out")]
    TooMany(usize),
    /// Already reported, or a consequence of what is.
    #[error("a value it needs could not be imported")]
    Reported,
}

impl From<TensorError> for ImportError {
    fn from(error: TensorError) -> ImportError {
        ImportError::Ir(IrError::Tensor(error))
    }
}

/// A node being imported.
pub(crate) struct Call<'a> {
    /// The graph being built.
    pub(crate) b: &'a mut Builder,
    /// The version of the node's domain.
    pub(crate) opset: i64,
    /// The operator as the file spells it.
    pub(crate) op: &'a str,
    /// Operands; one that is left out is `None`. Those left out at the end are not there.
    pub(crate) inputs: Vec<Option<ValueId>>,
    /// How many results the node names, up to the last that is not empty.
    pub(crate) outputs: usize,
    pub(super) attributes: &'a [AttributeProto],
    pub(super) importer: &'a mut Importer,
    pub(super) scope: &'a Scope<'a>,
}

#[expect(
    clippy::unused_self,
    clippy::unnecessary_wraps,
    reason = "importers read best when everything is asked of the call, and asked alike"
)]
impl Call<'_> {
    /// A required operand.
    pub(crate) fn input(&self, i: usize) -> Result<ValueId, ImportError> {
        self.optional(i).ok_or(ImportError::MissingInput(i))
    }

    /// An operand that may be left out.
    pub(crate) fn optional(&self, i: usize) -> Option<ValueId> {
        self.inputs.get(i).copied().flatten()
    }

    /// All operands, none of which may be left out; at least `least`.
    pub(crate) fn all_inputs(&self, least: usize) -> Result<Vec<ValueId>, ImportError> {
        (0..self.inputs.len().max(least)).map(|i| self.input(i)).collect()
    }

    fn attribute(&self, name: &str) -> Option<&AttributeProto> {
        self.attributes.iter().find(|a| a.name() == name)
    }

    /// Whether the attribute is given.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.attribute(name).is_some()
    }

    /// An integer attribute.
    pub(crate) fn int(&self, name: &str, default: i64) -> i64 {
        self.int_opt(name).unwrap_or(default)
    }

    /// An integer attribute without a default.
    pub(crate) fn int_opt(&self, name: &str) -> Option<i64> {
        self.attribute(name).map(AttributeProto::i)
    }

    /// A required integer attribute.
    pub(crate) fn need_int(&self, name: &str) -> Result<i64, ImportError> {
        self.int_opt(name).ok_or_else(|| ImportError::MissingAttribute(name.into()))
    }

    /// A flag: an integer attribute that is not 0.
    pub(crate) fn flag(&self, name: &str, default: bool) -> bool {
        self.int(name, i64::from(default)) != 0
    }

    /// A float attribute.
    pub(crate) fn float(&self, name: &str, default: f32) -> f32 {
        self.float_opt(name).unwrap_or(default)
    }

    /// A float attribute without a default.
    pub(crate) fn float_opt(&self, name: &str) -> Option<f32> {
        self.attribute(name).map(AttributeProto::f)
    }

    /// A text attribute.
    pub(crate) fn string(&self, name: &str, default: &str) -> String {
        self.string_opt(name).unwrap_or_else(|| default.into())
    }

    /// A text attribute without a default.
    pub(crate) fn string_opt(&self, name: &str) -> Option<String> {
        self.attribute(name).map(|a| String::from_utf8_lossy(a.s()).into_owned())
    }

    /// A list of integers.
    pub(crate) fn ints(&self, name: &str) -> Option<Vec<i64>> {
        self.attribute(name).map(|a| a.ints.clone())
    }

    /// A list of integers that must be there.
    pub(crate) fn need_ints(&self, name: &str) -> Result<Vec<i64>, ImportError> {
        self.ints(name).ok_or_else(|| ImportError::MissingAttribute(name.into()))
    }

    /// A list of floats.
    pub(crate) fn floats(&self, name: &str) -> Option<Vec<f32>> {
        self.attribute(name).map(|a| a.floats.clone())
    }

    /// A list of texts.
    pub(crate) fn strings(&self, name: &str) -> Option<Vec<String>> {
        self.attribute(name)
            .map(|a| a.strings.iter().map(|s| String::from_utf8_lossy(s).into_owned()).collect())
    }

    /// A tensor attribute, dense or sparse.
    pub(crate) fn tensor(&self, name: &str) -> Result<Option<Tensor>, ImportError> {
        let Some(attribute) = self.attribute(name) else { return Ok(None) };
        let problem = |problem| ImportError::Tensor { name: name.into(), problem };
        if let Some(dense) = &attribute.t {
            return tensor::dense(dense, &self.importer.files).map(Some).map_err(problem);
        }
        if let Some(sparse) = &attribute.sparse_tensor {
            return tensor::sparse(sparse, &self.importer.files).map(Some).map_err(problem);
        }
        Err(self.bad_attribute(name, "is not a tensor"))
    }

    /// An element type, given by the standard's number.
    pub(crate) fn dtype(&self, name: &str) -> Result<Option<DType>, ImportError> {
        self.int_opt(name)
            .map(|code| {
                dtype_from_onnx(code).ok_or_else(|| {
                    self.bad_attribute(
                        name,
                        &format!("{} cannot be computed with", dtype_words(code)),
                    )
                })
            })
            .transpose()
    }

    /// A sub-graph.
    pub(crate) fn graph(&self, name: &str) -> Result<&GraphProto, ImportError> {
        self.attribute(name)
            .and_then(|a| a.g.as_deref())
            .ok_or_else(|| ImportError::MissingAttribute(name.into()))
    }

    /// A complaint about an attribute.
    pub(crate) fn bad_attribute(&self, name: &str, reason: &str) -> ImportError {
        ImportError::Attribute { name: name.into(), reason: reason.into() }
    }

    /// A complaint that a form of this operator is not there.
    pub(crate) fn unsupported(&self, what: impl Into<String>) -> ImportError {
        ImportError::Unsupported(what.into())
    }

    /// A complaint that the node breaks the operator's definition.
    pub(crate) fn invalid(&self, what: impl Into<String>) -> ImportError {
        ImportError::Invalid(what.into())
    }

    /// A dim counted from the front, or from the back where it is negative.
    pub(crate) fn axis(&self, axis: i64, rank: usize) -> Result<usize, ImportError> {
        resolve_axis(axis, rank)
    }

    /// Several of them, each at most once, in the order given.
    pub(crate) fn axes(&self, axes: &[i64], rank: usize) -> Result<Vec<usize>, ImportError> {
        let axes: Vec<usize> =
            axes.iter().map(|&axis| resolve_axis(axis, rank)).collect::<Result<_, _>>()?;
        let mut sorted = axes.clone();
        sorted.sort_unstable();
        if sorted.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(ImportError::Invalid(format!("axes {axes:?} name a dim twice")));
        }
        Ok(axes)
    }

    /// The numbers in an integer operand that decide what is built.
    pub(crate) fn need_integers(
        &self,
        input: usize,
        what: &'static str,
    ) -> Result<Vec<i64>, ImportError> {
        let value = self.input(input)?;
        match self.b.known_integers(value) {
            Some(numbers) => Ok(numbers),
            None => match self.constant(input)? {
                Some(tensor) if !tensor.dtype().is_float() => Ok(tensor.to_i64()),
                _ => Err(ImportError::NeedsValue { input, what }),
            },
        }
    }

    /// The contents of an operand, where they do not depend on the graph's inputs.
    pub(crate) fn constant(&self, input: usize) -> Result<Option<Tensor>, ImportError> {
        Ok(self.optional(input).and_then(|value| fold(self.b, value)))
    }

    /// As [`Call::constant`], where what is built depends on it.
    pub(crate) fn need_constant(
        &self,
        input: usize,
        what: &'static str,
    ) -> Result<Tensor, ImportError> {
        self.input(input)?;
        self.constant(input)?.ok_or(ImportError::NeedsValue { input, what })
    }

    /// Axes that older versions give as an attribute and newer ones as an operand; `None` when left out.
    pub(crate) fn axes_input_or_attribute(
        &self,
        input: usize,
        attribute: &str,
        rank: usize,
    ) -> Result<Option<Vec<usize>>, ImportError> {
        let axes = match self.ints(attribute) {
            Some(axes) => axes,
            None if self.optional(input).is_some() => self.need_integers(input, "the axes")?,
            None => return Ok(None),
        };
        self.axes(&axes, rank).map(Some)
    }

    /// A scalar that older versions give as a float attribute and newer ones as an operand.
    pub(crate) fn scalar_input_or_attribute(
        &mut self,
        input: usize,
        attribute: &str,
        dtype: DType,
    ) -> Result<Option<ValueId>, ImportError> {
        if let Some(value) = self.optional(input) {
            return Ok(Some(value));
        }
        match self.float_opt(attribute) {
            Some(value) => Ok(Some(self.b.scalar(dtype, f64::from(value))?)),
            None => Ok(None),
        }
    }
}

/// A dim counted from the front, or from the back where it is negative.
pub(crate) fn resolve_axis(axis: i64, rank: usize) -> Result<usize, ImportError> {
    let resolved = if axis < 0 { axis.saturating_add(rank as i64) } else { axis };
    usize::try_from(resolved)
        .ok()
        .filter(|&axis| axis < rank)
        .ok_or_else(|| ImportError::Invalid(format!("axis {axis} is outside a rank of {rank}")))
}

pub(crate) use crate::tensor::{dtype_from_onnx, dtype_words};
