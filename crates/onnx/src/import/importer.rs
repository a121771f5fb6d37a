//! Walks a model's graph and hands each node to the function of its operator.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use anychip_ir::{Builder, Definition, Op, Prim, ValueId};

use super::call::{Call, ImportError};
use super::functions::{self, FunctionKey};
use super::sequence;
use super::sort::{node_order, uses};
use super::table::{self, Domain};
use crate::diagnostic::{Code, Diagnostic};
use crate::files::Files;
use crate::proto::{FunctionProto, GraphProto, NodeProto, OperatorSetIdProto};
use crate::tensor;

/// Nodes imported in all, counting those of function bodies at each call: a small file can call functions
/// that call functions, doubling at each level.
const MOST_NODES: usize = 1 << 20;

/// Functions and sub-graphs within each other.
const DEEPEST: usize = 64;

/// The newest version of the default domain whose definitions the rows follow.
pub(crate) const NEWEST_OPSET: i64 = 28;

/// What a name stands for while a graph is imported.
#[derive(Debug, Clone)]
pub(crate) enum Bound {
    /// A value of the graph being built.
    Tensor(ValueId),
    /// A sequence, followed during the import: its elements.
    Sequence(Vec<ValueId>),
    /// An optional without an element.
    Absent,
    /// A value that could not be made; why is reported.
    Missing,
}

/// Names and what they stand for; names of the graphs around are found through `parent`.
#[derive(Debug, Default)]
pub(crate) struct Scope<'a> {
    pub(crate) values: BTreeMap<String, Bound>,
    pub(crate) parent: Option<&'a Scope<'a>>,
}

impl Scope<'_> {
    /// What a name stands for here.
    pub(crate) fn find(&self, name: &str) -> Option<&Bound> {
        self.values.get(name).or_else(|| self.parent?.find(name))
    }
}

/// What all graphs of a model share while it is imported.
pub(crate) struct Importer {
    pub(crate) files: Files,
    pub(crate) diagnostics: Vec<Diagnostic>,
    pub(super) functions: BTreeMap<FunctionKey, Rc<FunctionProto>>,
    /// Version of each domain, for the graph or function being imported.
    pub(super) opsets: BTreeMap<String, i64>,
    /// Operators that are not there: how many nodes, and the name of the first.
    unsupported: BTreeMap<(String, String), (usize, String)>,
    /// Names already reported as missing.
    missing: BTreeSet<String>,
    nodes: usize,
    depth: usize,
}

impl Importer {
    pub(crate) fn new(files: Files) -> Importer {
        Importer {
            files,
            diagnostics: Vec::new(),
            functions: BTreeMap::new(),
            opsets: BTreeMap::new(),
            unsupported: BTreeMap::new(),
            missing: BTreeSet::new(),
            nodes: 0,
            depth: 0,
        }
    }

    pub(crate) fn report(&mut self, diagnostic: Diagnostic) {
        self.diagnostics.push(diagnostic);
    }

    /// Everything that was found, operators that are not there as one line each.
    pub(crate) fn finish(mut self) -> Vec<Diagnostic> {
        for ((domain, op), (count, first)) in std::mem::take(&mut self.unsupported) {
            let full = if domain.is_empty() { op } else { format!("{domain}::{op}") };
            let nodes = if count == 1 {
                format!("node `{first}`")
            } else {
                format!("{count} nodes, the first `{first}`")
            };
            let message = format!("operator {full} is not supported ({nodes})");
            let help = "export with an older opset or without this operator, or define it as a model-local function";
            self.report(Diagnostic::new(Code::UnsupportedOperator, message).help(help));
        }
        self.diagnostics
    }

    /// The versions that a model or function names.
    pub(crate) fn versions(imports: &[OperatorSetIdProto]) -> BTreeMap<String, i64> {
        imports
            .iter()
            .map(|import| {
                let domain = if import.domain() == "ai.onnx" { "" } else { import.domain() };
                (domain.to_string(), import.version())
            })
            .collect()
    }

    /// Goes one level into a function or sub-graph.
    pub(super) fn enter(&mut self) -> Result<(), ImportError> {
        if self.depth >= DEEPEST {
            return Err(ImportError::TooDeep(DEEPEST));
        }
        self.depth += 1;
        Ok(())
    }

    pub(super) fn leave(&mut self) {
        self.depth -= 1;
    }

    /// Adds the weights of a graph that something uses, then its nodes; what its outputs stand for. Outputs
    /// that could not be made are reported and `Missing`.
    pub(crate) fn graph(
        &mut self,
        b: &mut Builder,
        graph: &GraphProto,
        scope: &mut Scope<'_>,
    ) -> Vec<Bound> {
        self.initializers(b, graph, scope);
        self.nodes(b, &graph.node, scope);
        let mut outputs = Vec::new();
        for output in &graph.output {
            outputs.push(self.resolve(output.name(), scope, "graph output"));
        }
        outputs
    }

    fn initializers(&mut self, b: &mut Builder, graph: &GraphProto, scope: &mut Scope<'_>) {
        let mut used = uses(&graph.node);
        used.extend(graph.output.iter().map(|o| o.name().to_string()));
        let before = b.set_scope("");
        let dense = graph.initializer.iter().map(|t| (t.name().to_string(), Some(t), None));
        let sparse = graph.sparse_initializer.iter().map(|s| {
            let name = s.values.as_ref().map(|v| v.name().to_string()).unwrap_or_default();
            (name, None, Some(s))
        });
        let mut seen = BTreeSet::new();
        for (name, dense, sparse) in dense.chain(sparse) {
            if name.is_empty() {
                continue;
            }
            if !seen.insert(name.clone()) {
                self.report(
                    Diagnostic::new(Code::DuplicateValue, "two initializers have this name")
                        .at(&name),
                );
                continue;
            }
            // An input that the caller supplies or binds comes before its default.
            if scope.values.contains_key(&name) || !used.contains(&name) {
                continue;
            }
            let read = match (dense, sparse) {
                (Some(dense), _) => tensor::dense(dense, &self.files),
                (None, Some(sparse)) => tensor::sparse(sparse, &self.files),
                (None, None) => continue,
            };
            let bound = match read {
                Ok(tensor) => {
                    let value = b.constant(tensor);
                    b.name_value(value, &name);
                    Bound::Tensor(value)
                }
                Err(problem) => {
                    self.report(Diagnostic::tensor(&name, &problem));
                    Bound::Missing
                }
            };
            scope.values.insert(name, bound);
        }
        b.set_scope(before);
    }

    /// Adds nodes in an order in which they can run.
    pub(super) fn nodes(&mut self, b: &mut Builder, nodes: &[NodeProto], scope: &mut Scope<'_>) {
        let order = node_order(nodes, &mut self.diagnostics);
        for &i in &order.waiting {
            for output in nodes[i].output.iter().filter(|o| !o.is_empty()) {
                scope.values.entry(output.clone()).or_insert(Bound::Missing);
            }
        }
        for i in order.sorted {
            let node = &nodes[i];
            self.nodes += 1;
            let result = if self.nodes > MOST_NODES {
                Err(ImportError::TooMany(MOST_NODES))
            } else {
                self.node(b, node, scope)
            };
            let mut results = match result {
                Ok(results) => results,
                Err(error) => {
                    let last = self.nodes > MOST_NODES;
                    if self.nodes <= MOST_NODES + 1 {
                        self.node_error(b, node, scope, error);
                    }
                    if last {
                        self.nodes = MOST_NODES + 2;
                    }
                    vec![Bound::Missing; node.output.len()]
                }
            };
            let named = node.output.iter().rposition(|o| !o.is_empty()).map_or(0, |i| i + 1);
            if results.len() < named {
                let message = format!(
                    "{} names {named} outputs and has {} of them here",
                    node.op_type(),
                    results.len()
                );
                self.report(Diagnostic::new(Code::UnsupportedForm, message).at(label(node)));
                results.resize(named, Bound::Missing);
            }
            for (name, bound) in node.output.iter().zip(results) {
                if name.is_empty() {
                    continue;
                }
                if let Bound::Tensor(value) = bound {
                    b.name_value(value, name);
                }
                if scope.values.insert(name.clone(), bound).is_some() {
                    self.report(
                        Diagnostic::new(Code::DuplicateValue, "this name is defined twice")
                            .at(name),
                    );
                }
            }
        }
    }

    /// What a name stands for; one that nothing defines is reported once.
    fn resolve(&mut self, name: &str, scope: &Scope<'_>, user: &str) -> Bound {
        if let Some(bound) = scope.find(name) {
            return bound.clone();
        }
        if self.missing.insert(name.to_string()) {
            self.report(
                Diagnostic::new(
                    Code::MissingValue,
                    format!("`{name}` is used by {user} and nothing defines it"),
                )
                .at(name)
                .help("the file may be incomplete; export the model again"),
            );
        }
        Bound::Missing
    }

    fn node(
        &mut self,
        b: &mut Builder,
        node: &NodeProto,
        scope: &Scope<'_>,
    ) -> Result<Vec<Bound>, ImportError> {
        let used = node.input.iter().rposition(|i| !i.is_empty()).map_or(0, |i| i + 1);
        let mut inputs = Vec::with_capacity(used);
        for name in &node.input[..used] {
            inputs.push(if name.is_empty() {
                None
            } else {
                Some(self.resolve(name, scope, &format!("node `{}`", label(node))))
            });
        }
        if inputs.iter().flatten().any(|bound| matches!(bound, Bound::Missing)) {
            self.note_unsupported(node);
            return Err(ImportError::Reported);
        }
        let domain_name = if node.domain() == "ai.onnx" { "" } else { node.domain() };
        let opset = self.opset(domain_name);
        let before = b.set_scope(label(node));
        let result = self.dispatch(b, node, domain_name, opset, &inputs, scope);
        b.set_scope(before);
        result
    }

    fn dispatch(
        &mut self,
        b: &mut Builder,
        node: &NodeProto,
        domain_name: &str,
        opset: i64,
        inputs: &[Option<Bound>],
        scope: &Scope<'_>,
    ) -> Result<Vec<Bound>, ImportError> {
        let key = FunctionKey::of(domain_name, node);
        if let Some(function) = self.functions.get(&key).cloned() {
            return self.call_function(b, node, &function, inputs);
        }
        let domain = Domain::parse(domain_name);
        let outputs = node.output.iter().rposition(|o| !o.is_empty()).map_or(0, |i| i + 1);
        if domain == Some(Domain::Onnx)
            && let Some(import) =
                sequence::find(node.op_type()).or_else(|| sequence::find_control(node, inputs))
        {
            let operands = inputs.iter().map(tensor_of).collect();
            let mut call = Call {
                b,
                opset,
                op: node.op_type(),
                inputs: operands,
                outputs,
                attributes: &node.attribute,
                importer: self,
                scope,
            };
            return import(&mut call, inputs);
        }
        let row = domain.and_then(|domain| table::find(domain, node.op_type(), opset));
        if let Some(row) = row {
            let mut operands = Vec::with_capacity(inputs.len());
            for (i, input) in inputs.iter().enumerate() {
                operands.push(match input {
                    None | Some(Bound::Absent) => None,
                    Some(Bound::Tensor(value)) => Some(*value),
                    Some(Bound::Missing) => return Err(ImportError::Reported),
                    Some(Bound::Sequence(_)) => {
                        return Err(ImportError::Invalid(format!(
                            "input {i} is a sequence, expected a tensor"
                        )));
                    }
                });
            }
            let mut call = Call {
                b,
                opset,
                op: node.op_type(),
                inputs: operands,
                outputs,
                attributes: &node.attribute,
                importer: self,
                scope,
            };
            let results = (row.import)(&mut call)?;
            return Ok(results.into_iter().map(Bound::Tensor).collect());
        }
        if let Some(function) = functions::standard(domain_name, node.op_type(), opset) {
            return self.call_function(b, node, &function, inputs);
        }
        self.count_unsupported(domain_name, node);
        Err(ImportError::Reported)
    }

    /// The version of a domain where the graph or function being imported is.
    fn opset(&self, domain_name: &str) -> i64 {
        let default = if domain_name.is_empty() { NEWEST_OPSET } else { 1 };
        self.opsets.get(domain_name).copied().unwrap_or(default)
    }

    fn count_unsupported(&mut self, domain_name: &str, node: &NodeProto) {
        let key = (domain_name.to_string(), node.op_type().to_string());
        let entry = self.unsupported.entry(key).or_insert_with(|| (0, label(node).to_string()));
        entry.0 += 1;
    }

    /// Counts a node that is passed over because of its inputs, and those of its sub-graphs, when their operators
    /// are not there: the user is to learn of all of them at once.
    fn note_unsupported(&mut self, node: &NodeProto) {
        let domain_name = if node.domain() == "ai.onnx" { "" } else { node.domain() };
        let opset = self.opset(domain_name);
        let op = node.op_type();
        let domain = Domain::parse(domain_name);
        let known = self.functions.contains_key(&FunctionKey::of(domain_name, node))
            || (domain == Some(Domain::Onnx) && sequence::find(op).is_some())
            || domain.is_some_and(|domain| table::find(domain, op, opset).is_some())
            || functions::standard(domain_name, op, opset).is_some();
        if !known {
            self.count_unsupported(domain_name, node);
        }
        for attribute in &node.attribute {
            for graph in attribute.g.as_deref().into_iter().chain(&attribute.graphs) {
                for inner in &graph.node {
                    self.note_unsupported(inner);
                }
            }
        }
    }

    /// Turns what a node failed with into what the user reads.
    #[expect(clippy::needless_pass_by_value, reason = "the error ends here")]
    fn node_error(&mut self, b: &Builder, node: &NodeProto, scope: &Scope<'_>, error: ImportError) {
        use anychip_ir::IrError;
        let mut values: Vec<Option<ValueId>> = Vec::new();
        for name in &node.input {
            values.push(match scope.find(name) {
                Some(Bound::Tensor(value)) => Some(*value),
                _ => None,
            });
        }
        let (code, asked): (Code, Vec<ValueId>) = match &error {
            ImportError::Reported => return,
            ImportError::NeedsSizes { input, .. } => (
                Code::NeedsValue,
                values.get(*input).copied().flatten().map_or(Vec::new(), |v| homes(b, v)),
            ),
            ImportError::NeedsValue { input, .. } => {
                (Code::NeedsValue, values.get(*input).copied().flatten().into_iter().collect())
            }
            ImportError::Ir(inner) => {
                let mut inner = inner;
                while let IrError::At { source, .. } = inner {
                    inner = source;
                }
                match inner {
                    // Which operand of the primitive came from which of the node is not known: the small
                    // integers are what sizes come from.
                    IrError::NeedsValue { .. } => {
                        let sizes = |v: &ValueId| {
                            let ty = b.ty(*v);
                            !ty.dtype.is_float() && ty.rank() <= 1
                        };
                        (Code::NeedsValue, values.iter().flatten().copied().filter(sizes).collect())
                    }
                    _ => (Code::InvalidNode, Vec::new()),
                }
            }
            ImportError::MissingInput(_)
            | ImportError::MissingAttribute(_)
            | ImportError::Attribute { .. }
            | ImportError::Invalid(_) => (Code::InvalidNode, Vec::new()),
            ImportError::Tensor { .. } => (Code::BadTensor, Vec::new()),
            ImportError::Unsupported(_) => (Code::UnsupportedForm, Vec::new()),
            ImportError::TooDeep(_) | ImportError::TooMany(_) => (Code::TooDeep, Vec::new()),
        };
        let mut diagnostic = Diagnostic::new(code, format!("{}: {error}", node.op_type()));
        diagnostic.node = Some(label(node).to_string());
        if code == Code::NeedsValue {
            diagnostic.needs = sources(b, &asked);
            diagnostic.help = Some(if diagnostic.needs.is_empty() {
                "give the sizes of the inputs as numbers".into()
            } else {
                format!("give the contents of {}", diagnostic.needs.join(", "))
            });
        }
        self.report(diagnostic);
    }
}

/// A node as the model's author would know it.
pub(super) fn label(node: &NodeProto) -> &str {
    if !node.name().is_empty() {
        return node.name();
    }
    node.output.iter().find(|o| !o.is_empty()).map_or(node.op_type(), |o| o)
}

#[expect(clippy::ref_option, reason = "it is mapped over a slice of options")]
fn tensor_of(bound: &Option<Bound>) -> Option<ValueId> {
    match bound {
        Some(Bound::Tensor(value)) => Some(*value),
        Some(Bound::Sequence(_) | Bound::Absent | Bound::Missing) | None => None,
    }
}

/// The inputs of the graph being built whose contents decide the given values. Sizes do not count: what is
/// computed from a shape does not depend on contents.
pub(super) fn sources(b: &Builder, values: &[ValueId]) -> Vec<String> {
    let graph = b.graph();
    let mut seen = BTreeSet::new();
    let mut stack = values.to_vec();
    let mut names = BTreeSet::new();
    while let Some(value) = stack.pop() {
        if !seen.insert(value) {
            continue;
        }
        match graph.definition(value) {
            Definition::Input(_) => {
                names.insert(graph.value_name(value).unwrap_or_default().to_string());
            }
            Definition::Output(node, _) => {
                let node = graph.node(node);
                if !matches!(node.op, Op::Prim(Prim::ShapeOf)) {
                    stack.extend(&node.inputs);
                }
            }
        }
    }
    names.into_iter().collect()
}

/// The values whose contents decide the sizes of a value that only a run can tell.
fn homes(b: &Builder, value: ValueId) -> Vec<ValueId> {
    let graph = b.graph();
    let unknown: BTreeSet<_> = graph
        .ty(value)
        .shape
        .iter()
        .flat_map(anychip_tensor::Dim::symbols)
        .filter(|symbol| symbol.starts_with('?'))
        .collect();
    let mut found = BTreeSet::new();
    let mut result = Vec::new();
    for candidate in graph.values() {
        for dim in &graph.ty(candidate).shape {
            if let anychip_tensor::Dim::Sym(symbol) = dim
                && unknown.contains(symbol)
                && found.insert(symbol.clone())
                && let Some(node) = graph.producer(candidate)
            {
                result.extend(&node.inputs);
            }
        }
    }
    result
}
