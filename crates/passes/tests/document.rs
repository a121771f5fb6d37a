//! `docs/passes.md` is the passes' own comments. `UPDATE_EXPECT=1` writes it anew.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops where its own material is wrong"
)]

use anychip_passes::PIPELINE;
use expect_test::expect_file;

const HEAD: &str = "\
# The passes

<!-- Generated from the passes' comments: UPDATE_EXPECT=1 cargo nextest run -p anychip-passes --test document -->

`anychip_passes::optimize` runs these in this order, and again from the start until none changes anything. Each is one file in
`crates/passes/src/` with a case at least in `crates/passes/tests/cases/`; `anychip explain` prints what each changed in a model.
";

#[test]
fn the_document_says_what_the_passes_say() {
    let mut text = HEAD.to_string();
    for (i, pass) in PIPELINE.iter().enumerate() {
        let number = i + 1;
        text.extend(["\n## ", &number.to_string(), ". ", pass.name, "\n\n"]);
        for line in pass.equation.lines() {
            text.push_str(line.strip_prefix(' ').unwrap_or(line));
            text.push('\n');
        }
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/passes.md");
    expect_file![path].assert_eq(&text);
}

#[test]
fn names_are_kebab_case_and_differ() {
    let mut names: Vec<&str> = PIPELINE.iter().map(|pass| pass.name).collect();
    assert!(names.iter().all(|n| n.chars().all(|c| c.is_ascii_lowercase() || c == '-')));
    names.sort_unstable();
    assert!(names.windows(2).all(|pair| pair[0] != pair[1]));
}
