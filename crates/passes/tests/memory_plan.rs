//! The memory plan never gives one byte to two values at once.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops where its own material is wrong"
)]

mod common;

use anychip_ir::{Graph, ValueId, evaluate};
use anychip_passes::fuse::groups;
use anychip_passes::optimize;
use anychip_passes::plan::{ALIGNMENT, Lifetime, Place, arena, memory};

#[test]
fn random_lifetimes_do_not_overlap() {
    for seed in 0..300 {
        let mut r = common::Random::new(seed);
        let steps = 2 + r.below(30);
        let mut lifetimes: Vec<Lifetime> = Vec::new();
        for i in 0..=r.below(60) {
            let first = r.below(steps);
            let last = first + r.below(steps - first);
            let may_replace = (i > 0 && r.below(2) == 0).then(|| r.below(i));
            lifetimes.push(Lifetime { bytes: r.below(1000), first, last, may_replace });
        }
        let plan = arena(&lifetimes);
        assert!(plan.lower_bound <= plan.peak && plan.peak <= plan.sum, "seed {seed}");
        for (i, a) in lifetimes.iter().enumerate() {
            assert_eq!(plan.offsets[i] % ALIGNMENT, 0, "seed {seed}");
            assert!(plan.offsets[i] + a.bytes <= plan.peak, "seed {seed}");
            for (j, b) in lifetimes.iter().enumerate().take(i) {
                let (x, y) = (plan.offsets[i], plan.offsets[j]);
                let in_space = x < y + b.bytes && y < x + a.bytes;
                let in_time = a.first <= b.last && b.first <= a.last;
                let taken_over = x == y
                    && ((a.may_replace == Some(j) && a.first == b.last)
                        || (b.may_replace == Some(i) && b.first == a.last));
                assert!(!in_space || !in_time || taken_over, "seed {seed}: {i} and {j}");
            }
        }
    }
}

/// Runs a plan with the owner of each byte written instead of its contents.
fn simulate(graph: &Graph, what: &str) {
    let bytes = |v: ValueId| {
        let ty = graph.ty(v);
        let count = ty.shape.iter().map(|d| d.evaluate(&|_| Some(common::N)).unwrap_or(common::N));
        ty.dtype.bytes_for(count.product()).unwrap()
    };
    let groups = groups(graph);
    let plan = memory(graph, &groups, &bytes);
    assert!(plan.arena.lower_bound <= plan.arena.peak, "{what}");
    let mut memory: Vec<Option<ValueId>> = vec![None; plan.arena.peak];
    // Which value's contents each value has: a reshape has its operand's.
    let mut contents: Vec<ValueId> = graph.values().collect();
    let check = |memory: &[Option<ValueId>], contents: &[ValueId], v: ValueId| match plan.places
        [v.index()]
    {
        Place::Arena(offset) => {
            let own = &memory[offset..offset + bytes(v)];
            assert!(
                own.iter().all(|&o| o == Some(contents[v.index()])),
                "{what}: {v:?} was overwritten"
            );
        }
        Place::Outside(_) => {}
        Place::Nowhere => panic!("{what}: {v:?} is read and lives nowhere"),
    };
    for group in groups.iter() {
        for &v in &group.inputs {
            check(&memory, &contents, v);
        }
        for &v in &group.outputs {
            let node = graph.node(group.nodes[0]);
            if node.op.name() == "reshape" {
                contents[v.index()] = contents[node.inputs[0].index()];
                continue;
            }
            let Place::Arena(offset) = plan.places[v.index()] else {
                panic!("{what}: {v:?} is computed and not in the arena")
            };
            memory[offset..offset + bytes(v)].fill(Some(v));
        }
    }
    for &v in graph.outputs() {
        check(&memory, &contents, v);
    }
}

#[test]
fn no_value_is_overwritten_before_its_last_use() {
    for seed in 0..300 {
        let (graph, inputs) = common::graph(seed, false);
        if evaluate(&graph, &inputs).is_err() {
            continue;
        }
        simulate(&graph, &format!("seed {seed}"));
        let optimized = optimize(&graph, &mut |_| {}).unwrap();
        simulate(&optimized, &format!("seed {seed}, optimized"));
    }
}
