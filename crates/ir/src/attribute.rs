//! Settings of a composite as data: what the text form prints and parses, and what equality compares.

use anychip_tensor::DType;

/// One setting's value.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "each holds a value of the type it names")]
pub enum Attribute {
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    Ints(Vec<i64>),
    Floats(Vec<f64>),
    DType(DType),
    Texts(Vec<String>),
}

/// The settings of one composite by name, in the order it declares them; an absent option is left out.
pub type Attributes = Vec<(&'static str, Attribute)>;

/// A type a composite's field can have.
pub trait AttributeValue: Sized {
    /// As data; `None` for an absent option.
    fn to_attribute(&self) -> Option<Attribute>;
    /// From data; `None` when it is of another type. An absent attribute arrives as `None`.
    fn from_attribute(attribute: Option<&Attribute>) -> Option<Self>;
}

macro_rules! attribute_values {
    ($($t:ty, $variant:ident, $to:expr, $from:expr;)*) => {
        $(impl AttributeValue for $t {
            fn to_attribute(&self) -> Option<Attribute> {
                let to: fn(&$t) -> _ = $to;
                Some(Attribute::$variant(to(self)))
            }
            fn from_attribute(attribute: Option<&Attribute>) -> Option<$t> {
                match attribute? {
                    Attribute::$variant(value) => $from(value),
                    _ => None,
                }
            }
        })*
    };
}

attribute_values! {
    bool, Bool, |v| *v, |v: &bool| Some(*v);
    i64, Int, |v| *v, |v: &i64| Some(*v);
    usize, Int, |v| *v as i64, |v: &i64| usize::try_from(*v).ok();
    f64, Float, |v| *v, |v: &f64| Some(*v);
    f32, Float, |v| f64::from(*v), |v: &f64| Some(*v as f32);
    String, Text, Clone::clone, |v: &String| Some(v.clone());
    Vec<i64>, Ints, Clone::clone, |v: &Vec<i64>| Some(v.clone());
    Vec<usize>, Ints, |v| v.iter().map(|&n| n as i64).collect(),
        |v: &Vec<i64>| v.iter().map(|&n| usize::try_from(n).ok()).collect();
    Vec<f64>, Floats, Clone::clone, |v: &Vec<f64>| Some(v.clone());
    Vec<f32>, Floats, |v| v.iter().map(|&x| f64::from(x)).collect(),
        |v: &Vec<f64>| Some(v.iter().map(|&x| x as f32).collect());
    DType, DType, |v| *v, |v: &DType| Some(*v);
    Vec<String>, Texts, Clone::clone, |v: &Vec<String>| Some(v.clone());
}

impl<T: AttributeValue> AttributeValue for Option<T> {
    fn to_attribute(&self) -> Option<Attribute> {
        self.as_ref().and_then(AttributeValue::to_attribute)
    }
    fn from_attribute(attribute: Option<&Attribute>) -> Option<Option<T>> {
        match attribute {
            None => Some(None),
            some => T::from_attribute(some).map(Some),
        }
    }
}
