//! Walks a model's graph and hands each node to the function of its operator.

use crate::files::Files;

/// What all graphs of a model share while it is imported.
pub(crate) struct Importer {
    pub(crate) files: Files,
}

/// Names and the values they stand for.
pub(crate) struct Scope<'a> {
    parent: Option<&'a Scope<'a>>,
}
