//! The stepped simulator is the oracle of the closed form: cycles and causes of stalls agree exactly, and what leaves the
//! array is the product.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use anychip_chips::Dataflow;
use anychip_conformance::Random;
use anychip_systolic::schedule::schedule;
use anychip_systolic::stepped::{Values, step};
use anychip_systolic::tiling::{Mapping, Order, Product, Split, Tiling};
use anychip_systolic::{Bandwidth, Machine, Rate};

/// Shapes of the property; a tenth of them in a build without optimization.
const SHAPES: u64 = 10_000;

fn machine(random: &mut Random) -> Machine {
    let pick = |random: &mut Random, most: u64| random.below(most as usize) as u64;
    let dataflow = Dataflow::ALL[random.below(3)];
    let mut machine = Machine::ideal(1 + pick(random, 6), 1 + pick(random, 6), dataflow);
    machine.overlaps_loads = random.below(2) == 0;
    machine.tiles_ahead = 1 + pick(random, 4);
    if random.below(3) > 0 {
        machine.memory =
            Some(Bandwidth { bytes: 1 + pick(random, 9), cycles: 1 + pick(random, 5) });
    }
    machine.memory_latency = pick(random, 12);
    machine.transfer_cycles = pick(random, 4);
    machine.activation_bytes = Some(pick(random, 200));
    machine.weight_bytes = pick(random, 200);
    machine
}

fn product(random: &mut Random) -> Product {
    let mut size = |most: usize| 1 + random.below(most) as u64;
    let (groups, m, n, k) = (size(3), size(19), size(19), size(19));
    let mut product = Product::on_chip(groups, m, n, k);
    product.lhs.in_memory = random.below(2) == 0;
    product.rhs.in_memory = random.below(4) > 0;
    product.out.in_memory = random.below(2) == 0;
    product
}

fn mapping(random: &mut Random) -> Mapping {
    Mapping {
        split: Split::Columns,
        order: if random.below(2) == 0 { Order::StationaryOutside } else { Order::MovingOutside },
        moving_tile: 1 + random.below(20) as u64,
        pack: 1,
    }
}

/// The product by its definition.
fn expected(
    moving: &[i32],
    fixed: &[i32],
    groups: usize,
    (m, n, k): (usize, usize, usize),
) -> Vec<i32> {
    let mut sums = vec![0i32; groups * m * n];
    for g in 0..groups {
        for i in 0..m {
            for j in 0..n {
                sums[(g * m + i) * n + j] = (0..k)
                    .map(|d| moving[(g * m + i) * k + d].wrapping_mul(fixed[(g * k + d) * n + j]))
                    .fold(0, i32::wrapping_add);
            }
        }
    }
    sums
}

#[test]
fn closed_form_and_values_equal_the_stepped_simulator() {
    for seed in 0..SHAPES {
        let mut random = Random::new(seed);
        let machine = machine(&mut random);
        let product = product(&mut random);
        let mapping = mapping(&mut random);
        let told = || format!("seed {seed}: {machine:?}\n{product:?}\n{mapping:?}");
        let tiling = Tiling::new(&machine, product, mapping, Rate::ONE);
        let folds = tiling.folds(&machine);
        assert_eq!(folds.count(), tiling.tiles().len() as u64, "{}", told());

        // As the machine turns the operands: where inputs stay, the product is the transposed one.
        let turned = machine.dataflow == Dataflow::InputStationary;
        let (m, n) = if turned { (product.n, product.m) } else { (product.m, product.n) };
        let sizes = (m as usize, n as usize, product.k as usize);
        let groups = product.groups as usize;
        let mut numbers = |count: usize| -> Vec<i32> {
            (0..count).map(|_| random.below(256) as i32 - 128).collect()
        };
        let moving = numbers(groups * sizes.0 * sizes.2);
        let fixed = numbers(groups * sizes.2 * sizes.1);
        let mut sums = vec![0; groups * sizes.0 * sizes.1];
        let values = Values { moving: &moving, fixed: &fixed, sizes };
        let stepped = step(&machine, &tiling, Some(values), &mut sums);
        let closed = schedule(tiling.pipe(&machine), &folds);
        assert_eq!(closed, stepped, "{}", told());
        assert!(sums == expected(&moving, &fixed, groups, sizes), "values differ, {}", told());
    }
}
