//! Composites with settings that the text form can carry and no importer would give: an error, never a panic.

use anychip_conformance::Family;
use anychip_ir::{Attribute, Attributes, Builder, Op};

/// What a number of a setting is replaced by.
const INTS: &[i64] = &[0, 1, 3, 7, 1 << 31, i64::MAX, -1, i64::MIN];
const FLOATS: &[f64] = &[0.0, -0.0, -1.0, 1e-45, 1e38, f64::INFINITY, f64::NEG_INFINITY, f64::NAN];
const TEXTS: &[&str] =
    &["", "cubic", "forward", "reverse", "bidirectional", "tf_crop_and_resize", "weights"];

/// Other values of one setting, near the one that it has.
fn others(attribute: &Attribute) -> Vec<Attribute> {
    match attribute {
        Attribute::Bool(value) => vec![Attribute::Bool(!value)],
        Attribute::Int(_) => INTS.iter().map(|&n| Attribute::Int(n)).collect(),
        Attribute::Float(_) => FLOATS.iter().map(|&x| Attribute::Float(x)).collect(),
        Attribute::Text(_) => TEXTS.iter().map(|t| Attribute::Text((*t).to_string())).collect(),
        Attribute::Ints(list) => lists(list, INTS).into_iter().map(Attribute::Ints).collect(),
        Attribute::Floats(list) => lists(list, FLOATS).into_iter().map(Attribute::Floats).collect(),
        Attribute::Texts(list) => {
            lists(list, &[String::new()]).into_iter().map(Attribute::Texts).collect()
        }
        Attribute::DType(_) => {
            anychip_tensor::DType::ALL.iter().map(|&t| Attribute::DType(t)).collect()
        }
    }
}

/// A list shorter and longer by one, empty, and with another element at each place.
fn lists<T: Clone>(list: &[T], elements: &[T]) -> Vec<Vec<T>> {
    let mut all = vec![Vec::new(), list[..list.len().saturating_sub(1)].to_vec()];
    for element in elements {
        all.push([list, std::slice::from_ref(element)].concat());
        for place in 0..list.len() {
            let mut changed = list.to_vec();
            changed[place] = element.clone();
            all.push(changed);
        }
    }
    all
}

fn with(settings: &Attributes, place: usize, value: Attribute) -> Vec<(String, Attribute)> {
    let mut all: Vec<(String, Attribute)> =
        settings.iter().map(|(name, value)| ((*name).to_string(), value.clone())).collect();
    all[place].1 = value;
    all
}

#[test]
fn no_composite_panics_on_settings_that_make_no_sense() {
    let mut tried = 0;
    for case in Family::Composites.cases() {
        let (_, node) = case.graph.iter().next().expect("a case of a composite is one node");
        let Op::Composite(composite) = &node.op else { panic!("{} has a primitive", case.name) };
        let row = anychip_ops::ROWS
            .iter()
            .find(|row| row.name == composite.name())
            .expect("the cases are made of the rows");
        let settings = composite.attributes();
        let mut variants: Vec<Vec<(String, Attribute)>> = Vec::new();
        for (place, (_, value)) in settings.iter().enumerate() {
            for other in others(value) {
                variants.push(with(&settings, place, other));
            }
        }
        // Also every list empty at once, so that lists which must agree do.
        variants.push(
            settings
                .iter()
                .map(|(name, value)| {
                    let value = match value {
                        Attribute::Ints(_) => Attribute::Ints(Vec::new()),
                        Attribute::Floats(_) => Attribute::Floats(Vec::new()),
                        Attribute::Texts(_) => Attribute::Texts(Vec::new()),
                        other => other.clone(),
                    };
                    ((*name).to_string(), value)
                })
                .collect(),
        );
        let mut b = Builder::new("settings");
        let operands: Vec<_> =
            node.inputs.iter().map(|&v| b.input("x", case.graph.ty(v).clone())).collect();
        for variant in variants {
            let Some(composite) = (row.from_attributes)(&variant) else { continue };
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                b.expansion(&*composite, &operands).is_ok()
            }));
            assert!(outcome.is_ok(), "{} panics with {variant:?}", case.name);
            tried += 1;
        }
    }
    assert!(tried > 1000, "{tried} settings were tried");
}
