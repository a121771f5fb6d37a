//! Where values live: offsets in one arena, so that a program allocates once and runs without.

use anychip_ir::{Graph, Op, Prim, ValueId};

use crate::fuse::{self, Access, FusionGroups, GroupKind};

/// Every offset is a multiple of this many bytes: a cache line, and the widest vectors there are.
pub const ALIGNMENT: usize = 64;

/// One value to be placed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetime {
    /// Its size in bytes.
    pub bytes: usize,
    /// The step that writes it.
    pub first: usize,
    /// The last step that reads it; `first` where none does.
    pub last: usize,
    /// Another value (by its place in the list) whose storage this one may take over: its `last` is this
    /// one's `first`, and the step reads an element before it writes that element.
    pub may_replace: Option<usize>,
}

/// Offsets for a list of values.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Arena {
    /// Where each value starts.
    pub offsets: Vec<usize>,
    /// Bytes that the arena takes.
    pub peak: usize,
    /// Bytes that all values take together.
    pub sum: usize,
    /// No arena is smaller: the most bytes that live at one step.
    pub lower_bound: usize,
    /// Values that take the storage of an operand.
    pub in_place: usize,
}

/// Values that share storage: one that others replaced in turn.
struct Block {
    bytes: usize,
    first: usize,
    last: usize,
    offset: usize,
}

fn align(bytes: usize) -> usize {
    bytes.div_ceil(ALIGNMENT).saturating_mul(ALIGNMENT)
}

/// Places values so that none overlaps another in both time and space: the largest first, each in the
/// tightest gap that fits (greedy by size, best fit).
pub fn arena(lifetimes: &[Lifetime]) -> Arena {
    let (mut blocks, block_of, in_place) = merge(lifetimes);
    let mut order: Vec<usize> = (0..blocks.len()).collect();
    order.sort_by_key(|&i| (std::cmp::Reverse(blocks[i].bytes), blocks[i].first, i));
    // The blocks that are placed, by offset.
    let mut placed: Vec<usize> = Vec::with_capacity(order.len());
    let mut peak = 0;
    for &i in &order {
        let (bytes, first, last) = (blocks[i].bytes, blocks[i].first, blocks[i].last);
        let mut best: Option<(usize, usize)> = None;
        let mut end = 0;
        for &p in &placed {
            let other = &blocks[p];
            if other.first > last || other.last < first {
                continue;
            }
            if other.offset >= end {
                let gap = other.offset - end;
                if gap >= bytes && best.is_none_or(|(tightest, _)| gap < tightest) {
                    best = Some((gap, end));
                }
            }
            end = end.max(other.offset + other.bytes);
        }
        let offset = best.map_or(end, |(_, offset)| offset);
        blocks[i].offset = offset;
        peak = peak.max(offset + bytes);
        let at = placed.partition_point(|&p| blocks[p].offset <= offset);
        placed.insert(at, i);
    }
    Arena {
        offsets: block_of.iter().map(|&block| blocks[block].offset).collect(),
        peak,
        sum: lifetimes.iter().map(|l| align(l.bytes)).sum(),
        lower_bound: lower_bound(&blocks),
        in_place,
    }
}

/// Puts values that may replace an operand of the same size into its block.
fn merge(lifetimes: &[Lifetime]) -> (Vec<Block>, Vec<usize>, usize) {
    let mut order: Vec<usize> = (0..lifetimes.len()).collect();
    order.sort_by_key(|&i| (lifetimes[i].first, i));
    let mut blocks: Vec<Block> = Vec::new();
    let mut block_of: Vec<Option<usize>> = vec![None; lifetimes.len()];
    let mut replaced = vec![false; lifetimes.len()];
    let mut in_place = 0;
    for i in order {
        let l = &lifetimes[i];
        let source = l.may_replace.filter(|&j| {
            let other = &lifetimes[j];
            // Another value of the same step may have taken it over already.
            !replaced[j]
                && other.first < l.first
                && other.last.max(other.first) == l.first
                && align(other.bytes) == align(l.bytes)
        });
        let last = l.last.max(l.first);
        if let Some((j, block)) = source.and_then(|j| Some((j, block_of[j]?))) {
            replaced[j] = true;
            in_place += 1;
            blocks[block].last = last;
            block_of[i] = Some(block);
        } else {
            block_of[i] = Some(blocks.len());
            blocks.push(Block { bytes: align(l.bytes), first: l.first, last, offset: 0 });
        }
    }
    (blocks, block_of.into_iter().flatten().collect(), in_place)
}

fn lower_bound(blocks: &[Block]) -> usize {
    let mut events: Vec<(usize, bool, usize)> = Vec::with_capacity(blocks.len() * 2);
    for block in blocks {
        events.push((block.first, true, block.bytes));
        events.push((block.last + 1, false, block.bytes));
    }
    // What ends goes before what starts at the same step: `false` sorts first.
    events.sort_unstable();
    let (mut live, mut most) = (0usize, 0);
    for (_, starts, bytes) in events {
        if starts {
            live += bytes;
            most = most.max(live);
        } else {
            live -= bytes;
        }
    }
    most
}

/// Where a value of a graph lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Nowhere: it is inside a fusion group.
    Nowhere,
    /// In the storage of the same or another value that comes from outside: an input or a constant.
    Outside(ValueId),
    /// At an offset of the arena.
    Arena(usize),
}

/// Where the values of a graph live when its groups run one after the other.
#[derive(Debug, Clone)]
pub struct MemoryPlan {
    /// For each value, where it lives.
    pub places: Vec<Place>,
    /// The arena's figures; its offsets are those of the values that have their own storage.
    pub arena: Arena,
}

/// Plans the storage of all values, given the bytes of each. A reshape shares the storage of its operand;
/// an elementwise group may write into an operand of its shape and size that nothing reads later. Outputs of
/// the graph live to the end.
pub fn memory(
    graph: &Graph,
    groups: &FusionGroups,
    bytes: &dyn Fn(ValueId) -> usize,
) -> MemoryPlan {
    let end = groups.groups().len();
    // The value whose storage each value is in.
    let mut owner: Vec<Option<ValueId>> = vec![None; graph.value_count()];
    for &input in graph.inputs() {
        owner[input.index()] = Some(input);
    }
    for node in graph.nodes() {
        if matches!(node.op, Op::Prim(Prim::Constant(_))) {
            owner[node.outputs[0].index()] = Some(node.outputs[0]);
        }
    }
    let mut last = vec![0usize; graph.value_count()];
    let mut lifetimes: Vec<Lifetime> = Vec::new();
    let mut index: Vec<Option<usize>> = vec![None; graph.value_count()];
    for (step, group) in groups.iter().enumerate() {
        for &output in &group.outputs {
            owner[output.index()] = Some(match view_of(graph, group) {
                Some(x) => owner[x.index()].unwrap_or(x),
                None => output,
            });
        }
        for &value in group.inputs.iter().chain(&group.outputs) {
            if let Some(own) = owner[value.index()] {
                last[own.index()] = step;
            }
        }
    }
    for &output in graph.outputs() {
        if let Some(own) = owner[output.index()] {
            last[own.index()] = end;
        }
    }
    for (step, group) in groups.iter().enumerate() {
        for &output in &group.outputs {
            if owner[output.index()] != Some(output) {
                continue;
            }
            let may_replace = group
                .inputs
                .iter()
                .filter(|_| group.kind == GroupKind::Elementwise)
                .filter(|&&v| fuse::access(graph, v, &graph.ty(output).shape) == Access::Full)
                .filter(|&&v| bytes(v) == bytes(output))
                .filter_map(|&v| owner[v.index()])
                .filter(|own| last[own.index()] == step)
                .find_map(|own| index[own.index()]);
            index[output.index()] = Some(lifetimes.len());
            lifetimes.push(Lifetime {
                bytes: bytes(output),
                first: step,
                last: last[output.index()],
                may_replace,
            });
        }
    }
    let arena = arena(&lifetimes);
    let places = graph
        .values()
        .map(|value| match owner[value.index()] {
            None => Place::Nowhere,
            Some(own) => match index[own.index()] {
                Some(i) => Place::Arena(arena.offsets[i]),
                None => Place::Outside(own),
            },
        })
        .collect();
    MemoryPlan { places, arena }
}

/// The operand whose storage the result of a group shares.
fn view_of(graph: &Graph, group: &fuse::Group) -> Option<ValueId> {
    let [only] = group.nodes[..] else { return None };
    let node = graph.node(only);
    matches!(node.op.prim()?, Prim::Reshape).then(|| node.inputs[0])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(bytes: usize, first: usize, last: usize) -> Lifetime {
        Lifetime { bytes, first, last, may_replace: None }
    }

    #[test]
    fn values_that_do_not_meet_share() {
        let plan = arena(&[value(64, 0, 1), value(128, 1, 2), value(64, 2, 3)]);
        assert_eq!((plan.peak, plan.sum, plan.lower_bound), (192, 256, 192));
    }

    #[test]
    fn the_tightest_gap_is_taken() {
        // The third is free once the first two are placed; the fourth fits the gap of 64 it leaves beside it.
        let plan = arena(&[value(512, 0, 9), value(256, 0, 4), value(192, 5, 9), value(64, 5, 9)]);
        assert_eq!(plan.peak, 768);
        assert_eq!(plan.peak, plan.lower_bound);
    }

    #[test]
    fn an_operand_read_for_the_last_time_is_replaced_once() {
        let replacing = Lifetime { may_replace: Some(0), ..value(100, 3, 5) };
        let plan = arena(&[value(100, 0, 3), replacing, replacing]);
        assert_eq!(plan.in_place, 1);
        assert_eq!(plan.offsets[0], plan.offsets[1]);
        assert_ne!(plan.offsets[0], plan.offsets[2]);
        assert_eq!(plan.peak, 256);
    }

    #[test]
    fn an_empty_list_takes_nothing() {
        assert_eq!(arena(&[]), Arena::default());
    }
}
