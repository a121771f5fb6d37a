//! The one suite that every target is held to: cases × targets, with the reference evaluator as the oracle.
//!
//! A target writes one line:
//!
//! ```ignore
//! anychip_conformance::suite! { target: CpuTarget::new(), skip: [("random", "draws its own numbers")] }
//! ```
//!
//! and gets one test a [`Family`] of cases. A new composite is tested as soon as it has its row in `anychip_ops::ROWS`;
//! its operands are guessed from its rank rules, or given in `cases/composites.rs`. A skip names a case, or all that begin
//! with it, and has a reason; it fails when what it skips passes, and when it skips nothing.

mod cases;
mod compare;
mod operators;
mod random;
mod run;

pub use cases::{Case, Family};
pub use compare::{Mismatch, compare, tolerance};
pub use operators::{OPERATORS, random_case};
pub use random::Random;
pub use run::{
    Outcome, Report, Settings, expected, is_ill_conditioned, run, run_case, run_expecting,
};

/// Tests a target against every case: one test a family.
///
/// `target` is evaluated once a test. `skip` lists `("case or beginning of one", "why")`. `threads` gives the thread counts
/// to run with (default: the machine's). With `refusals: allowed` a case whose operators the target refuses is no failure.
#[macro_export]
macro_rules! suite {
    (
        target: $target:expr
        $(, skip: [$(($case:expr, $reason:expr)),* $(,)?])?
        $(, threads: [$($threads:expr),* $(,)?])?
        $(, refusals: $refusals:ident)?
        $(,)?
    ) => {
        $crate::suite!(@tests
            ($target)
            ([$($(($case, $reason)),*)?])
            ([$($(Some($threads)),*)?])
            (false $(|| $crate::suite!(@allowed $refusals))?)
            elementwise: Elementwise, casts: Casts, contractions: Contractions, reductions: Reductions,
            movement: Movement, indexing: Indexing, quantization: Quantization, control_flow: ControlFlow,
            composites: Composites, networks: Networks,
        );
    };
    (@allowed allowed) => { true };
    (@tests ($target:expr) ($skip:expr) ($threads:expr) ($refusals:expr) $($name:ident: $family:ident,)*) => {
        $(
            #[test]
            fn $name() {
                let settings = $crate::Settings {
                    skip: &$skip,
                    threads: &$threads,
                    refusals_allowed: $refusals,
                };
                let report = $crate::run(&$target, $crate::Family::$family, &settings);
                assert!(report.is_success(), "{report}");
            }
        )*
    };
}
