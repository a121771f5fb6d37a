//! The text form: what prints parses back, and nothing breaks the parser.

#[allow(unreachable_pub, dead_code, reason = "shared by tests and examples, which each use a part")]
mod support;

use anychip_ir::text::{Problem, parse, print, print_summary};
use anychip_ir::{Builder, TensorType, evaluate, verify};
use anychip_tensor::{DType, Dim, Tensor};
use support::{ROWS, Rng};

#[test]
fn random_graphs_print_and_parse_back() {
    for seed in 0..400 {
        let graph = support::graph(&mut Rng(seed), 24);
        let text = print(&graph);
        let parsed = parse(&text, ROWS).unwrap_or_else(|e| panic!("seed {seed}: {e}\n{text}"));
        assert_eq!(print(&parsed), text, "seed {seed}");
        verify(&graph).unwrap_or_else(|e| panic!("seed {seed}: {e:#?}\n{text}"));
        verify(&parsed).unwrap_or_else(|e| panic!("seed {seed}: {e:#?}\n{text}"));
    }
}

#[test]
fn a_graph_by_hand() {
    let text = r#"
        // Values, types that may be left out, a formula, a quoted name.
        graph "head" (%0 "x": f32["batch size", 2*h + 1]) {
          %7: f32[] = constant [0.5]
          %8 = add %0, %7
          %9 "sum" = reduce %8 {kind = "sum", axes = [1]} @"total"
          return %9 "y"
        }"#;
    let graph = parse(text, &[]).unwrap();
    assert_eq!(
        print(&graph),
        r#"graph "head" (%0 "x": f32["batch size", 2*h + 1]) {
  %1: f32[] = constant [0.5]
  %2: f32["batch size", 2*h + 1] = add %0, %1
  %3 "sum": f32["batch size"] = reduce %2 {kind = "sum", axes = [1]} @"total"
  return %3 "y"
}
"#
    );
    let x = Tensor::from_vec([1, 3], vec![1f32, 2.0, 3.0]).unwrap();
    assert_eq!(evaluate(&graph, &[x]).unwrap()[0].to_f64(), [7.5]);
}

#[test]
fn errors_name_the_place() {
    let problem = |text: &str| parse(text, &[]).unwrap_err();
    let error = problem("graph \"g\" () {\n  %1 = exp %0\n  return\n}");
    assert_eq!((error.line, error.column), (2, 12));
    assert_eq!(error.problem, Problem::UnknownValue(0));
    let error = problem("graph \"g\" () {\n  %1: f32[3] = constant [1.0, 2.0]\n return }");
    assert!(matches!(error.problem, Problem::Elements(_)), "{error}");
    let error = problem("graph \"g\" (%0: f32[3]) {\n  %1: f32[4] = exp %0\n return }");
    assert_eq!(error.to_string(), "2:3: the result is written f32[4] and follows to be f32[3]");
    let error = problem("graph \"g\" (%0: f32[3]) { %1 = glu %0 return }");
    assert_eq!(error.problem, Problem::UnknownOperator("glu".to_string()));
    let error = problem("graph \"g\" (%0: f32[3]) { %1 = reduce %0 {axes = [0]} return }");
    assert_eq!(error.problem, Problem::Settings("reduce".to_string()));
    assert!(matches!(problem("graph \"g").problem, Problem::Text));
    assert!(matches!(problem("graph ⊕").problem, Problem::Character('⊕')));
    let nested = format!("graph \"g\" (%0: f32[{}", "max(n, ".repeat(100_000));
    assert_eq!(problem(&nested).problem, Problem::TooDeep);
    let long = format!("graph \"g\" (%0: f32[n{}", "*n".repeat(100_000));
    assert_eq!(problem(&long).problem, Problem::TooDeep);
}

#[test]
fn constants_keep_every_bit() {
    let mut b = Builder::new("constants");
    let nan = Tensor::from_vec([2], vec![f32::from_bits(0x7fc0_1234), -0.0]).unwrap();
    let many = Tensor::from_vec([40], (0..40u16).collect()).unwrap();
    let small = Tensor::from_codes(DType::F8E4M3FN, [3], &[0x7f, 0x80, 0x01]).unwrap();
    let values: Vec<_> = [&nan, &many, &small].map(|t| b.constant(t.clone())).into();
    let graph = b.finish(&values);
    let parsed = parse(&print(&graph), &[]).unwrap();
    let results = evaluate(&parsed, &[]).unwrap();
    assert_eq!(results, [nan, many, small]);
    assert!(print_summary(&graph).contains("u16[40] = constant …"));
}

#[test]
fn a_size_with_the_largest_number_for_a_name() {
    let text = "graph \"g\" (%0: f32[?18446744073709551615]) { %1 = exp %0 return %1 \"y\" }";
    let graph = parse(text, &[]).unwrap();
    verify(&graph).unwrap();
    assert_eq!(print(&parse(&print(&graph), &[]).unwrap()), print(&graph));
    // No builder counts as far, so it takes no number from those to come.
    assert_eq!(anychip_ir::first_free_symbol(&graph), 0);
}

#[test]
fn names_that_look_like_syntax_are_quoted() {
    let mut b = Builder::new("");
    for name in ["max", "a-b", "3", "", "x\"y\\", "é", "f(n)", "a\u{0}b\n"] {
        b.input(
            name,
            TensorType::new(DType::F32, [Dim::sym(name), Dim::sym(name) * Dim::sym("k")]),
        );
    }
    let graph = b.finish(&[]);
    assert_eq!(print(&parse(&print(&graph), &[]).unwrap()), print(&graph));
}

#[test]
fn mutated_text_is_an_error_or_a_graph() {
    let mut rng = Rng(2026);
    for seed in 0..60 {
        let text = print(&support::graph(&mut Rng(seed), 12));
        for _ in 0..40 {
            let mut bytes = text.clone().into_bytes();
            for _ in 0..=rng.below(4) {
                let at = rng.below(bytes.len());
                match rng.below(3) {
                    0 => bytes[at] = rng.next() as u8 & 0x7f,
                    1 => drop(bytes.remove(at)),
                    _ => bytes.truncate(at.max(1)),
                }
            }
            let mutated = String::from_utf8_lossy(&bytes);
            if let Ok(graph) = parse(&mutated, ROWS) {
                assert_eq!(print(&parse(&print(&graph), ROWS).unwrap()), print(&graph));
            }
        }
    }
}
