//! Who uses each value: the side table that a rewrite asks before it duplicates or drops work.

use anychip_ir::{Graph, NodeId, ValueId};

/// The uses of every value of one graph.
#[derive(Debug, Clone)]
pub struct Uses {
    /// Where each value's users start in `users`; one entry more than there are values.
    starts: Vec<u32>,
    /// The users of all values, in the order of values and then of nodes.
    users: Vec<NodeId>,
    /// How often each value is an output of the graph.
    outputs: Vec<u32>,
}

impl Uses {
    /// Reads the uses from a graph.
    pub fn of(graph: &Graph) -> Uses {
        let mut starts = vec![0u32; graph.value_count() + 1];
        for node in graph.nodes() {
            for input in &node.inputs {
                starts[input.index() + 1] += 1;
            }
        }
        for i in 1..starts.len() {
            starts[i] += starts[i - 1];
        }
        let mut next = starts.clone();
        let total = starts.last().copied().unwrap_or(0) as usize;
        let mut users = Vec::new();
        if let Some((first, _)) = graph.iter().next() {
            users = vec![first; total];
        }
        for (id, node) in graph.iter() {
            for input in &node.inputs {
                let slot = &mut next[input.index()];
                users[*slot as usize] = id;
                *slot += 1;
            }
        }
        let mut outputs = vec![0; graph.value_count()];
        for output in graph.outputs() {
            outputs[output.index()] += 1;
        }
        Uses { starts, users, outputs }
    }

    /// The nodes that take a value as an operand, in order, once for each operand.
    pub fn users(&self, value: ValueId) -> &[NodeId] {
        let i = value.index();
        &self.users[self.starts[i] as usize..self.starts[i + 1] as usize]
    }

    /// How often a value is used: as an operand or as an output of the graph.
    pub fn count(&self, value: ValueId) -> usize {
        self.users(value).len() + self.outputs[value.index()] as usize
    }

    /// Whether exactly one operand is this value and the graph does not return it.
    pub fn single(&self, value: ValueId) -> bool {
        self.outputs[value.index()] == 0 && self.users(value).len() == 1
    }

    /// Whether the graph returns this value.
    pub fn is_output(&self, value: ValueId) -> bool {
        self.outputs[value.index()] > 0
    }

    /// The last node that takes a value as an operand.
    pub fn last(&self, value: ValueId) -> Option<NodeId> {
        self.users(value).last().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anychip_ir::{Builder, TensorType};
    use anychip_tensor::DType;

    #[test]
    fn counts_operands_and_outputs() {
        let mut b = Builder::new("uses");
        let x = b.input("x", TensorType::new(DType::F32, [4usize]));
        let square = b.mul(x, x).unwrap();
        let root = b.sqrt(square).unwrap();
        let g = b.finish(&[square, root]);
        let uses = Uses::of(&g);
        assert_eq!(uses.count(x), 2);
        assert_eq!(uses.count(square), 2);
        assert!(!uses.single(square));
        assert!(uses.is_output(root));
        assert_eq!(uses.last(x).unwrap().index(), 0);
        assert_eq!(uses.last(root), None);
    }
}
