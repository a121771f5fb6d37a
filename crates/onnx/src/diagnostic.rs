//! What is wrong with a model, in the user's terms; all of it at once.

use std::fmt;

use crate::tensor::TensorProblem;

/// What kind of problem a diagnostic is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Code {
    /// The file cannot be read.
    Io,
    /// The file is not an ONNX model.
    NotOnnx,
    /// The file is an ONNX model up to a point.
    Corrupt,
    /// A weight cannot be read.
    BadTensor,
    /// A weight outside the file cannot be read.
    ExternalData,
    /// A name that nothing defines.
    MissingValue,
    /// A name that is defined twice.
    DuplicateValue,
    /// Nodes that wait for each other.
    Cycle,
    /// An input or output without a usable type.
    BadType,
    /// An operator that is not there.
    UnsupportedOperator,
    /// A form of an operator that is not there.
    UnsupportedForm,
    /// A node that breaks the definition of its operator.
    InvalidNode,
    /// A node whose form depends on the contents of an input.
    NeedsValue,
    /// Nesting beyond what is read.
    TooDeep,
    /// An option that does not go with the model.
    BadOption,
    /// A version newer than is known.
    UnknownVersion,
}

impl Code {
    /// The name in listings.
    pub fn name(self) -> &'static str {
        match self {
            Code::Io => "io",
            Code::NotOnnx => "not-onnx",
            Code::Corrupt => "corrupt",
            Code::BadTensor => "bad-tensor",
            Code::ExternalData => "external-data",
            Code::MissingValue => "missing-value",
            Code::DuplicateValue => "duplicate-value",
            Code::Cycle => "cycle",
            Code::BadType => "bad-type",
            Code::UnsupportedOperator => "unsupported-operator",
            Code::UnsupportedForm => "unsupported-form",
            Code::InvalidNode => "invalid-node",
            Code::NeedsValue => "needs-value",
            Code::TooDeep => "too-deep",
            Code::BadOption => "bad-option",
            Code::UnknownVersion => "unknown-version",
        }
    }
}

/// One problem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// What kind.
    pub code: Code,
    /// The node, input or weight it is about, as the model's author would know it.
    pub node: Option<String>,
    /// What was met and what was expected.
    pub message: String,
    /// What to try.
    pub help: Option<String>,
    /// Graph inputs whose contents must be given for the model to be imported.
    pub needs: Vec<String>,
}

impl Diagnostic {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Diagnostic {
        Diagnostic { code, node: None, message: message.into(), help: None, needs: Vec::new() }
    }

    /// A weight that cannot be read.
    pub(crate) fn tensor(name: &str, problem: &TensorProblem) -> Diagnostic {
        let code = match problem {
            TensorProblem::External(_) => Code::ExternalData,
            _ => Code::BadTensor,
        };
        Diagnostic::new(code, problem.to_string()).at(name)
    }

    pub(crate) fn at(mut self, node: impl Into<String>) -> Diagnostic {
        self.node = Some(node.into());
        self
    }

    pub(crate) fn help(mut self, help: impl Into<String>) -> Diagnostic {
        self.help = Some(help.into());
        self
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(node) = &self.node {
            write!(f, "{node}: ")?;
        }
        write!(f, "{} [{}]", self.message, self.code.name())?;
        if let Some(help) = &self.help {
            write!(f, "\n  help: {help}")?;
        }
        Ok(())
    }
}

/// Every problem that keeps a model from being imported. Never empty.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Diagnostics(pub(crate) Vec<Diagnostic>);

impl Diagnostics {
    /// The problems, in the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = &Diagnostic> {
        self.0.iter()
    }

    /// The graph inputs whose contents, given as [`crate::ImportOptions::bind`], would let the import go on.
    /// Empty when that would not be enough.
    pub fn needs_values(&self) -> Vec<String> {
        let mut names = Vec::new();
        for diagnostic in &self.0 {
            if diagnostic.code != Code::NeedsValue || diagnostic.needs.is_empty() {
                return Vec::new();
            }
            names.extend(diagnostic.needs.iter().cloned());
        }
        names.sort();
        names.dedup();
        names
    }
}

impl From<Diagnostic> for Diagnostics {
    fn from(diagnostic: Diagnostic) -> Diagnostics {
        Diagnostics(vec![diagnostic])
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, diagnostic) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{diagnostic}")?;
        }
        Ok(())
    }
}
