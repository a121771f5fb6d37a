//! What has been counted of a model, so that asking about many chips counts once.

use std::cell::{OnceCell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use anychip_chips::Precision;
use anychip_ir::{Graph, IrError};

use crate::cost::{ModelCost, cost};
use crate::graph_kernels::{Label, Launching, graph_kernels, labeled_kernels};
use crate::kernel::Kernel;
use crate::precision::model_precision;
use crate::serving::{Call, serving_calls};

/// An optimized graph with a number for every size, and its work.
#[derive(Debug)]
pub struct Counted<'a> {
    graph: &'a Graph,
    precision: Precision,
    pub(crate) work: ModelCost,
    kernels: RefCell<Kernels>,
    labels: RefCell<BTreeMap<Launching, Rc<[Label]>>>,
    calls: OnceCell<Option<Vec<Call>>>,
}

/// By how they are launched, and the bits of the factor on their bytes.
type Kernels = BTreeMap<(Launching, u64), Rc<[Kernel]>>;

impl<'a> Counted<'a> {
    /// Counts the work of a graph.
    ///
    /// # Errors
    /// When a size is no number.
    pub fn new(graph: &'a Graph) -> Result<Self, IrError> {
        let precision = model_precision(graph);
        let work = cost(graph, precision.bits())?;
        Ok(Self {
            graph,
            precision,
            work,
            kernels: RefCell::default(),
            labels: RefCell::default(),
            calls: OnceCell::new(),
        })
    }

    /// The number format the model computes in.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// [`serving_calls`], counted now or found.
    pub(crate) fn calls(&self) -> Result<Option<&[Call]>, IrError> {
        if self.calls.get().is_none() {
            let counted = serving_calls(self.graph)?;
            return Ok(self.calls.get_or_init(|| counted).as_deref());
        }
        Ok(self.calls.get().and_then(|calls| calls.as_deref()))
    }

    /// [`graph_kernels`], counted now or found.
    pub(crate) fn kernels(
        &self,
        launching: Launching,
        scale: f64,
    ) -> Result<Rc<[Kernel]>, IrError> {
        let key = (launching, scale.to_bits());
        if let Some(found) = self.kernels.borrow().get(&key) {
            return Ok(Rc::clone(found));
        }
        let counted: Rc<[Kernel]> = graph_kernels(self.graph, launching, scale)?.into();
        self.kernels.borrow_mut().insert(key, Rc::clone(&counted));
        Ok(counted)
    }

    /// The labels of [`Counted::kernels`], which no factor on bytes changes.
    pub(crate) fn labels(&self, launching: Launching) -> Result<Rc<[Label]>, IrError> {
        if let Some(found) = self.labels.borrow().get(&launching) {
            return Ok(Rc::clone(found));
        }
        let labels: Rc<[Label]> = labeled_kernels(self.graph, launching, 1.0)?.1.into();
        self.labels.borrow_mut().insert(launching, Rc::clone(&labels));
        Ok(labels)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anychip_ir::{Builder, TensorType, Unary};
    use anychip_tensor::DType;

    #[test]
    fn kernels_are_counted_once_for_each_way_to_launch_and_scale() {
        let mut b = Builder::new("exp");
        let x = b.input("x", TensorType::new(DType::F32, [12usize, 64]));
        let y = b.prim(anychip_ir::Prim::Unary(Unary::Exp), &[x]).expect("types agree");
        let graph = b.finish(&[y]);
        let counted = Counted::new(&graph).expect("counts");
        let first = counted.kernels(Launching::Eager, 1.0).expect("counts");
        let again = counted.kernels(Launching::Eager, 1.0).expect("counts");
        assert!(Rc::ptr_eq(&first, &again));
        let half = counted.kernels(Launching::Eager, 0.5).expect("counts");
        assert_eq!(half[0].bytes * 2.0, first[0].bytes);
    }
}
