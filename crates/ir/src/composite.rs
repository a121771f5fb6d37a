//! Composites: operators defined by their expansion into primitives and other composites.

use std::any::Any;
use std::fmt::Debug;
use std::sync::Arc;

use crate::{Attribute, Attributes, Builder, IrError, ValueId};

/// An operator that is defined by what it expands to.
///
/// Type, work, reference result and gradient all derive from the expansion, so they cannot disagree
/// with it. A target may claim a composite natively for speed; then it is held to the expansion.
pub trait Composite: Debug + Send + Sync + Any {
    /// The name in the text form: lower case, words joined by hyphens.
    fn name(&self) -> &'static str;

    /// Builds the operator from others; returns its results.
    ///
    /// Sizes that are needed as numbers are read from the builder's types and known values; when one is
    /// missing, [`IrError::NeedsValue`] says so and the model is specialized with it.
    fn expand(&self, b: &mut Builder, inputs: &[ValueId]) -> Result<Vec<ValueId>, IrError>;

    /// The settings, for the text form and for equality.
    fn attributes(&self) -> Attributes {
        Vec::new()
    }
}

impl dyn Composite {
    /// This composite as the concrete type, when it is one.
    pub fn downcast_ref<C: Composite>(&self) -> Option<&C> {
        (self as &dyn Any).downcast_ref()
    }
}

/// Builds a composite from its settings: a row of the table with which the text form is parsed.
pub type FromAttributes = fn(&[(String, Attribute)]) -> Option<Arc<dyn Composite>>;

/// A named composite and how to build it from text.
#[derive(Clone, Copy)]
pub struct CompositeRow {
    /// The name in the text form.
    pub name: &'static str,
    /// From settings; `None` when one is missing, unknown or of the wrong type.
    pub from_attributes: FromAttributes,
    /// One instance for suites and generated documents.
    pub example: fn() -> Arc<dyn Composite>,
}

/// Declares a composite's struct with its name and settings; its maths is written as
/// `impl Expand for X`. See `docs/adding-an-operator.md`.
///
/// ```
/// use anychip_ir::{Builder, Expand, IrError, ValueId, composite, operands};
///
/// composite! {
///     /// `x · sigmoid(alpha · x)`
///     pub struct Swish = "swish" {
///         /// Steepness.
///         pub alpha: f32,
///     }
///     example: Swish { alpha: 1.5 }
/// }
///
/// impl Expand for Swish {
///     fn expand(&self, b: &mut Builder, x: &[ValueId]) -> Result<Vec<ValueId>, IrError> {
///         let [x] = operands("swish", x)?;
///         let alpha = b.scalar_like(x, f64::from(self.alpha))?;
///         let scaled = b.mul(x, alpha)?;
///         let gate = b.sigmoid(scaled)?;
///         Ok(vec![b.mul(x, gate)?])
///     }
/// }
/// ```
#[macro_export]
macro_rules! composite {
    (
        $(#[$outer:meta])*
        pub struct $type:ident = $name:literal {
            $($(#[$inner:meta])* pub $field:ident : $field_type:ty),* $(,)?
        }
        example: $example:expr
    ) => {
        $(#[$outer])*
        #[derive(Debug, Clone, PartialEq)]
        pub struct $type {
            $($(#[$inner])* pub $field: $field_type,)*
        }

        impl $crate::Composite for $type {
            fn name(&self) -> &'static str {
                $name
            }
            fn expand(
                &self,
                b: &mut $crate::Builder,
                inputs: &[$crate::ValueId],
            ) -> ::std::result::Result<::std::vec::Vec<$crate::ValueId>, $crate::IrError> {
                <Self as $crate::Expand>::expand(self, b, inputs)
            }
            fn attributes(&self) -> $crate::Attributes {
                #[allow(unused_mut, reason = "a composite without settings pushes none")]
                let mut attributes = $crate::Attributes::new();
                $(if let Some(value) = $crate::AttributeValue::to_attribute(&self.$field) {
                    attributes.push((stringify!($field), value));
                })*
                attributes
            }
        }

        impl $type {
            /// The row for tables of composites.
            pub const ROW: $crate::CompositeRow = $crate::CompositeRow {
                name: $name,
                from_attributes: |attributes| {
                    let known: &[&str] = &[$(stringify!($field)),*];
                    if attributes.iter().any(|(key, _)| !known.contains(&key.as_str())) {
                        return None;
                    }
                    Some(::std::sync::Arc::new($type {
                        $($field: $crate::AttributeValue::from_attribute(
                            attributes.iter().find(|(key, _)| key == stringify!($field)).map(|(_, v)| v),
                        )?,)*
                    }))
                },
                example: || ::std::sync::Arc::new($example),
            };
        }
    };
}

/// The maths of a composite declared with [`composite!`].
pub trait Expand {
    /// See [`Composite::expand`]. The operands come as the text form or a caller gave them: their count is not
    /// checked before.
    fn expand(&self, b: &mut Builder, inputs: &[ValueId]) -> Result<Vec<ValueId>, IrError>;
}

/// The operands of a composite, or the error that there are not `N` of them.
pub fn operands<const N: usize>(op: &'static str, x: &[ValueId]) -> Result<[ValueId; N], IrError> {
    x.try_into().map_err(|_| IrError::OperandCount { op, expected: N, found: x.len() })
}
