//! `docs/passes.md` is the passes' own comments. `UPDATE_EXPECT=1` writes it anew.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops where its own material is wrong"
)]

use anychip_passes::{INTEGER, PIPELINE, Pass};
use expect_test::expect_file;

const HEAD: &str = "\
# The passes

<!-- Generated from the passes' comments: UPDATE_EXPECT=1 cargo nextest run -p anychip-passes --test document -->

`anychip_passes::optimize` runs these in this order, and again from the start until none changes anything. Each is one file in
`crates/passes/src/` with a case at least in `crates/passes/tests/cases/`; `anychip explain` prints what each changed in a model.
";

const INTEGER_HEAD: &str = "
# On the way to targets that compute in integers

A target asks for these (`Target::integers`); they are no part of what `anychip optimize` writes, for a result may differ by a
step of its own scale from that of the float form. The form they make is defined in integers, for every target alike.
";

fn is_listed(pass: &Pass) -> bool {
    PIPELINE.iter().any(|other| other.name == pass.name)
}

fn write(text: &mut String, passes: &[Pass]) {
    for (i, pass) in passes.iter().enumerate() {
        let number = i + 1;
        text.extend(["\n## ", &number.to_string(), ". ", pass.name, "\n\n"]);
        for line in pass.equation.lines() {
            text.push_str(line.strip_prefix(' ').unwrap_or(line));
            text.push('\n');
        }
    }
}

#[test]
fn the_document_says_what_the_passes_say() {
    let mut text = HEAD.to_string();
    write(&mut text, PIPELINE);
    text.push_str(INTEGER_HEAD);
    // Those listed above have been described there.
    let own: Vec<Pass> = INTEGER.iter().filter(|p| !is_listed(p)).copied().collect();
    write(&mut text, &own);
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/passes.md");
    expect_file![path].assert_eq(&text);
}

#[test]
fn names_are_kebab_case_and_differ() {
    let mut names: Vec<&str> = PIPELINE.iter().map(|pass| pass.name).collect();
    names.extend(INTEGER.iter().filter(|pass| !is_listed(pass)).map(|pass| pass.name));
    assert!(names.iter().all(|n| n.chars().all(|c| c.is_ascii_lowercase() || c == '-')));
    names.sort_unstable();
    assert!(names.windows(2).all(|pair| pair[0] != pair[1]));
}
