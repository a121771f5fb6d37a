//! Functions: operators that a model, or the standard, defines by a graph of others.

use std::collections::BTreeMap;
use std::rc::Rc;

use anychip_ir::Builder;
use prost::Message;

use super::call::ImportError;
use super::importer::{Bound, Importer, Scope, label};
use crate::proto::{AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto};

/// What a function is called by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct FunctionKey {
    domain: String,
    name: String,
    overload: String,
}

impl FunctionKey {
    /// What a node calls.
    pub(super) fn of(domain: &str, node: &NodeProto) -> FunctionKey {
        FunctionKey {
            domain: domain.into(),
            name: node.op_type().into(),
            overload: node.overload().into(),
        }
    }

    /// What a definition is called by.
    pub(crate) fn defined_by(function: &FunctionProto) -> FunctionKey {
        let domain = if function.domain() == "ai.onnx" { "" } else { function.domain() };
        FunctionKey {
            domain: domain.into(),
            name: function.name().into(),
            overload: function.overload().into(),
        }
    }
}

/// The standard's bodies, as `tools/standard_functions.py` collects them; `overload` is the version of the
/// definition that a body belongs to.
const STANDARD: &[u8] = include_bytes!("../../proto/functions.binpb");

type Bodies = BTreeMap<(String, String), Vec<(i64, Rc<FunctionProto>)>>;

thread_local! {
    static BODIES: Bodies = {
        let mut bodies = Bodies::new();
        let model = ModelProto::decode(STANDARD).expect("the standard's functions are whole");
        for function in model.functions {
            let key = (function.domain().to_string(), function.name().to_string());
            let since = function.overload().parse().expect("the version is a number");
            bodies.entry(key).or_default().push((since, Rc::new(function)));
        }
        bodies
    };
}

/// The standard's own body of an operator at a version, where it has one.
pub(super) fn standard(domain: &str, op: &str, opset: i64) -> Option<Rc<FunctionProto>> {
    BODIES.with(|bodies| {
        let versions = bodies.get(&(domain.to_string(), op.to_string()))?;
        let newest = versions.iter().filter(|(since, _)| *since <= opset).max_by_key(|v| v.0)?;
        Some(Rc::clone(&newest.1))
    })
}

impl Importer {
    /// Adds the nodes of a function in place of a node that calls it.
    pub(super) fn call_function(
        &mut self,
        b: &mut Builder,
        node: &NodeProto,
        function: &FunctionProto,
        inputs: &[Option<Bound>],
    ) -> Result<Vec<Bound>, ImportError> {
        if inputs.len() > function.input.len() {
            return Err(ImportError::Invalid(format!(
                "the function takes {} inputs and got {}",
                function.input.len(),
                inputs.len()
            )));
        }
        self.enter()?;
        let mut given: BTreeMap<&str, &AttributeProto> =
            function.attribute_proto.iter().map(|a| (a.name(), a)).collect();
        given.extend(node.attribute.iter().map(|a| (a.name(), a)));
        let prefix = label(node).to_string();
        let body: Vec<NodeProto> = function
            .node
            .iter()
            .map(|inner| {
                let mut inner = substitute(inner, &given);
                inner.name = Some(format!("{prefix}/{}", label(&inner)));
                inner
            })
            .collect();
        let mut scope = Scope::default();
        for (i, name) in function.input.iter().enumerate() {
            let bound = inputs.get(i).cloned().flatten().unwrap_or(Bound::Absent);
            scope.values.insert(name.clone(), bound);
        }
        let versions = Importer::versions(&function.opset_import);
        let outside = std::mem::replace(&mut self.opsets, versions);
        self.nodes(b, &body, &mut scope);
        self.opsets = outside;
        self.leave();
        function
            .output
            .iter()
            .map(|name| match scope.find(name) {
                Some(bound) => Ok(bound.clone()),
                None => Err(ImportError::Invalid(format!(
                    "the function does not define its output `{name}`"
                ))),
            })
            .collect()
    }
}

/// A node of a function body with the caller's attributes in place of references to them.
fn substitute(node: &NodeProto, given: &BTreeMap<&str, &AttributeProto>) -> NodeProto {
    let mut node = node.clone();
    node.attribute = node
        .attribute
        .iter()
        .filter_map(|attribute| {
            if !attribute.ref_attr_name().is_empty() {
                let mut value = (*given.get(attribute.ref_attr_name())?).clone();
                value.name.clone_from(&attribute.name);
                return Some(value);
            }
            let mut attribute = attribute.clone();
            if let Some(graph) = &mut attribute.g {
                substitute_graph(graph, given);
            }
            for graph in &mut attribute.graphs {
                substitute_graph(graph, given);
            }
            Some(attribute)
        })
        .collect();
    node
}

fn substitute_graph(graph: &mut GraphProto, given: &BTreeMap<&str, &AttributeProto>) {
    for node in &mut graph.node {
        *node = substitute(node, given);
    }
}
