//! Whose bytes each value of a graph is, and how long they are needed: what a plan keeps on the chip.

use anychip_ir::{Graph, NodeId, ValueId};
use anychip_passes::Uses;
use anychip_passes::fuse::Group;

use crate::lower::{centers_for_products, moves_nothing};

/// Whether a group only renames what is there, or does what arrays do by themselves.
pub(crate) fn does_nothing(graph: &Graph, uses: &Uses, group: &Group) -> bool {
    group.nodes.len() == 1 && moves_nothing(graph.node(group.nodes[0]))
        || centers_for_products(graph, uses, group)
}

/// Whose bytes each value is, and how long they are needed: what only renames a value has no bytes of its own.
pub(crate) struct Stored {
    /// The value that was stored.
    pub(crate) at: Vec<ValueId>,
    /// The last node that reads a stored value under any of its names; none where the graph returns it.
    pub(crate) last: Vec<Option<NodeId>>,
}

impl Stored {
    pub(crate) fn of(graph: &Graph, uses: &Uses, groups: &[Group]) -> Stored {
        let mut at: Vec<ValueId> = graph.values().collect();
        for group in groups.iter().filter(|group| does_nothing(graph, uses, group)) {
            if let Some(input) = graph.node(group.nodes[0]).inputs.first() {
                let stored = at[input.index()];
                group.outputs.iter().for_each(|v| at[v.index()] = stored);
            }
        }
        let mut last = vec![None; at.len()];
        let mut returned = vec![false; at.len()];
        for value in graph.values() {
            let stored = at[value.index()].index();
            last[stored] = last[stored].max(uses.last(value));
            returned[stored] |= uses.is_output(value);
        }
        returned.iter().zip(&mut last).filter(|(r, _)| **r).for_each(|(_, last)| *last = None);
        Stored { at, last }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anychip_ir::{Builder, TensorType};
    use anychip_passes::fuse;
    use anychip_tensor::{DType, Tensor};

    /// Codes that only products read centered are stored as codes, and needed as long as the last product.
    #[test]
    fn centered_codes_have_no_bytes_of_their_own() {
        let mut b = Builder::new("codes");
        let x = b.input("x", TensorType::new(DType::I8, [4usize, 8]));
        let weights = b.constant(Tensor::zeros(DType::I32, [8, 8]).unwrap());
        let wide = b.cast(x, DType::I32).unwrap();
        let centered = b.offset(wide, -3.0).unwrap();
        let first = b.matmul(centered, weights, DType::I32).unwrap();
        let second = b.matmul(centered, weights, DType::I32).unwrap();
        let sum = b.add(first, second).unwrap();
        let graph = b.finish(&[sum]);
        let groups = fuse::groups(&graph);
        let stored = Stored::of(&graph, &Uses::of(&graph), groups.groups());
        assert_eq!(stored.at[centered.index()], x);
        let last = graph.node(stored.last[x.index()].unwrap());
        assert_eq!(last.outputs, [second]);
        assert_eq!(stored.last[sum.index()], None);
    }
}
