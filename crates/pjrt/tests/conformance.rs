//! The conformance suite on the plugin that `ANYCHIP_PJRT_TEST_PLUGIN` names, or, where it names none, one test that says so.
//!
//! `cargo xtask pjrt-tests` installs two plugins and runs this file with each. Every case goes through the first device.

#![allow(clippy::print_stdout, reason = "a skip must be seen, and so must what passed")]

use std::path::PathBuf;
use std::sync::LazyLock;

use anychip_conformance::{Family, Settings};
use anychip_pjrt::PjrtTarget;

/// The variable that names the plugin.
const PLUGIN: &str = "ANYCHIP_PJRT_TEST_PLUGIN";

static TARGET: LazyLock<Option<PjrtTarget>> =
    LazyLock::new(|| Some(PjrtTarget::new(vec![PathBuf::from(std::env::var_os(PLUGIN)?)])));

/// Cases that devices of this interface cannot be held to, and why.
const SKIPS: &[(&str, &str)] = &[];

fn family(family: Family) {
    let Some(target) = &*TARGET else {
        // Seen with `--no-capture`; `cargo xtask test` names the task that runs these.
        println!("skipped: {PLUGIN} names no plugin; `cargo xtask pjrt-tests` installs two");
        return;
    };
    let settings = Settings { skip: SKIPS, threads: &[], refusals_allowed: true };
    let report = anychip_conformance::run(target, family, &settings);
    println!("{report}");
    assert!(report.is_success(), "{report}");
    assert!(report.passed() > 0, "nothing passed: {report}");
}

macro_rules! families {
    ($($name:ident: $family:ident,)*) => {
        $(
            #[test]
            fn $name() {
                family(Family::$family);
            }
        )*
    };
}

families! {
    elementwise: Elementwise, casts: Casts, contractions: Contractions, reductions: Reductions,
    movement: Movement, indexing: Indexing, quantization: Quantization, control_flow: ControlFlow,
    composites: Composites, networks: Networks,
}
