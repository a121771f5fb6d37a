//! The intermediate representation: graph, primitives, composites, verifier, text form, reference evaluator, work counts.
