//! The text form of a graph: what people read, what file tests are written in, and what parses back.
//!
//! ```text
//! graph "head" (%0 "x": f32[n, 4], %1 "w": f32[4, 2]) {
//!   %2: f32[n, 2] = dot-general %0, %1 {output = f32, lhs_batch = [], rhs_batch = [], lhs_contract = [1], rhs_contract = [0]} @"fc"
//!   %3: f32[] = constant [0.5]
//!   %4 "y": f32[n, 2] = add %2, %3
//!   return %4 "y"
//! }
//! ```
//!
//! A value is `%number`, then its name where the model gave one, then its type. A node is its operator, its
//! operands (`()` where it has none), its settings in braces, its regions after `regions`, and its name after `@`. A constant is its
//! elements in order, or its bytes after `hex` where there are many. Dims are numbers, names and formulas
//! (`2*n + floordiv(h, 2) - 1`); a name with other characters than letters, digits, `_`, `.` and `?` is quoted.
//! `//` starts a comment. The types of results may be left out; where they stand they must follow from
//! the operands.

mod lex;
mod parse;
mod print;
mod settings;

pub use lex::{ParseError, Problem};
pub use parse::parse;
pub use print::{print, print_summary};
