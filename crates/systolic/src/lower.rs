//! From nodes to products: which of a graph's nodes are matrix products, of what sizes, and their operands laid out as the
//! array takes them.

use anychip_ir::{Binary, ConvolutionDims, DotDims, Graph, Node, NodeId, Op, Prim, ValueId};
use anychip_passes::Uses;
use anychip_passes::fuse::Group;
use anychip_tensor::{DType, Tensor};

/// The sizes of a node's product: groups, rows, columns, summed indices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sizes {
    /// Independent products.
    pub(crate) groups: usize,
    /// Rows of the left operand.
    pub(crate) m: usize,
    /// Columns of the right operand.
    pub(crate) n: usize,
    /// Summed indices.
    pub(crate) k: usize,
}

/// The sizes of a convolution or dot product, whose operands' shapes are known.
pub(crate) fn sizes(prim: &Prim, lhs: &[usize], rhs: &[usize], result: &[usize]) -> Option<Sizes> {
    if let Prim::Convolution(dims, _) = prim {
        let places: usize = result.get(2..)?.iter().product();
        return Some(Sizes {
            groups: dims.groups,
            m: result[0] * places,
            n: rhs[0] / dims.groups.max(1),
            k: rhs[1..].iter().product(),
        });
    }
    let Prim::DotGeneral(dims, _) = prim else { return None };
    let product = |shape: &[usize], axes: &[usize]| axes.iter().map(|&a| shape[a]).product();
    Some(Sizes {
        groups: product(lhs, &dims.lhs_batch),
        m: product(lhs, &free(lhs.len(), &dims.lhs_batch, &dims.lhs_contract)),
        n: product(rhs, &free(rhs.len(), &dims.rhs_batch, &dims.rhs_contract)),
        k: product(lhs, &dims.lhs_contract),
    })
}

fn free(rank: usize, batch: &[usize], contracted: &[usize]) -> Vec<usize> {
    (0..rank).filter(|d| !batch.contains(d) && !contracted.contains(d)).collect()
}

/// The element type that a value had before it was widened for a product: importers widen 8-bit integers and take their
/// zero point off, which an array does in its accumulators.
pub(crate) fn narrow(graph: &Graph, value: ValueId) -> DType {
    let own = graph.ty(value).dtype;
    let mut at = value;
    for _ in 0..6 {
        let Some(node) = graph.producer(at) else { break };
        match &node.op {
            Op::Prim(Prim::Cast { .. } | Prim::Transpose { .. } | Prim::Reshape) => {}
            // A zero point; a sum of two tensors would be wider than either.
            Op::Prim(Prim::Binary(Binary::Sub | Binary::Add))
                if graph.constant(node.inputs[1]).is_some() => {}
            _ => break,
        }
        at = node.inputs[0];
        let dtype = graph.ty(at).dtype;
        if !own.is_float() && matches!(dtype, DType::I8 | DType::U8) {
            return dtype;
        }
    }
    own
}

/// Whether a node only renames what is there: nothing is computed or moved.
pub(crate) fn moves_nothing(node: &Node) -> bool {
    matches!(
        node.op,
        Op::Prim(Prim::Constant(_) | Prim::Reshape | Prim::ShapeOf | Prim::BitCast { .. })
    )
}

/// Whether a group only widens 8-bit codes and takes their zero point off, for products alone: arrays multiply the codes, and
/// what the zero point comes to is known beforehand or a sum beside the product's.
pub(crate) fn centers_for_products(graph: &Graph, uses: &Uses, group: &Group) -> bool {
    let [output] = group.outputs[..] else { return false };
    let centers = |&id: &NodeId| {
        let node = graph.node(id);
        let numbers = || node.inputs[1..].iter().all(|&v| graph.constant(v).is_some());
        match node.op.prim() {
            Some(Prim::Cast { .. }) => !graph.ty(node.inputs[0]).dtype.is_float(),
            Some(Prim::Binary(Binary::Sub | Binary::Add)) => numbers(),
            _ => false,
        }
    };
    let multiplies = |&id: &NodeId| {
        let node = graph.node(id);
        let prim = node.op.prim();
        matches!(prim, Some(Prim::Convolution(..) | Prim::DotGeneral(..)))
            && node.inputs[..2].contains(&output)
    };
    group.nodes.iter().all(centers)
        && matches!(narrow(graph, output), DType::I8 | DType::U8)
        && !graph.ty(output).dtype.is_float()
        && !uses.is_output(output)
        && uses.users(output).iter().all(multiplies)
}

/// Where each element of `[groups, m, k]` and of `[groups, k, n]` is in its operand; `None` where it is zero.
pub(crate) struct Layout {
    /// The product's sizes.
    pub(crate) sizes: Sizes,
    lhs: Vec<Option<usize>>,
    rhs: Vec<usize>,
    /// Where each of `[groups, m, n]` goes in the result.
    pub(crate) result: Vec<usize>,
}

impl Layout {
    /// The layout of a convolution or dot product.
    pub(crate) fn of(
        prim: &Prim,
        lhs: &[usize],
        rhs: &[usize],
        result: &[usize],
    ) -> Option<Layout> {
        let sizes = sizes(prim, lhs, rhs, result)?;
        if let Prim::Convolution(dims, _) = prim {
            return Some(convolution(dims, sizes, lhs, rhs, result));
        }
        let Prim::DotGeneral(dims, _) = prim else { return None };
        Some(dot(dims, sizes, lhs, rhs))
    }

    /// The left operand's elements, `[groups, m, k]`.
    pub(crate) fn gather_lhs<T: Copy>(&self, data: &[T], zero: T) -> Vec<T> {
        self.lhs.iter().map(|at| at.map_or(zero, |at| data[at])).collect()
    }

    /// The right operand's elements, `[groups, k, n]`.
    pub(crate) fn gather_rhs<T: Copy>(&self, data: &[T]) -> Vec<T> {
        self.rhs.iter().map(|&at| data[at]).collect()
    }
}

fn strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for d in (0..shape.len().saturating_sub(1)).rev() {
        strides[d] = strides[d + 1] * shape[d + 1];
    }
    strides
}

/// Every index of the given dims of a tensor, in order, as offsets into it.
fn offsets(shape: &[usize], dims: &[usize]) -> Vec<usize> {
    let strides = strides(shape);
    let mut all = vec![0];
    for &d in dims {
        all = all
            .iter()
            .flat_map(|&base| (0..shape[d]).map(move |i| (base, i)))
            .map(|(base, i)| base + i * strides[d])
            .collect();
    }
    all
}

fn dot(dims: &DotDims, sizes: Sizes, lhs: &[usize], rhs: &[usize]) -> Layout {
    let of = |shape: &[usize], batch: &[usize], contracted: &[usize]| {
        let free = free(shape.len(), batch, contracted);
        (offsets(shape, batch), offsets(shape, &free), offsets(shape, contracted))
    };
    let (lb, lf, lc) = of(lhs, &dims.lhs_batch, &dims.lhs_contract);
    let (rb, rf, rc) = of(rhs, &dims.rhs_batch, &dims.rhs_contract);
    let mut layout = Layout { sizes, lhs: Vec::new(), rhs: Vec::new(), result: Vec::new() };
    for (l, r) in lb.iter().zip(&rb) {
        for f in &lf {
            layout.lhs.extend(lc.iter().map(|c| Some(l + f + c)));
        }
        for c in &rc {
            layout.rhs.extend(rf.iter().map(|f| r + f + c));
        }
    }
    // The result has batch, left and right dims in this order already.
    layout.result = (0..sizes.groups * sizes.m * sizes.n).collect();
    layout
}

fn convolution(
    dims: &ConvolutionDims,
    sizes: Sizes,
    x: &[usize],
    w: &[usize],
    result: &[usize],
) -> Layout {
    let Sizes { groups, m, n, k } = sizes;
    let (image, kernel, places) = (&x[2..], &w[2..], &result[2..]);
    let taps: usize = kernel.iter().product();
    let plane: usize = image.iter().product();
    let place_count: usize = places.iter().product();
    // For each place and tap, where in a channel it reads.
    let read = |place: usize, tap: usize| -> Option<usize> {
        let (place_strides, kernel_strides, image_strides) =
            (strides(places), strides(kernel), strides(image));
        let mut at = 0;
        for d in 0..image.len() {
            let p = place / place_strides[d] % places[d];
            let t = tap / kernel_strides[d] % kernel[d];
            let position = (p * dims.strides[d] + t * dims.dilation[d]) as i64 - dims.padding[d].0;
            let dilation = dims.input_dilation[d] as i64;
            if position < 0 || position % dilation != 0 || position / dilation >= image[d] as i64 {
                return None;
            }
            at += (position / dilation) as usize * image_strides[d];
        }
        Some(at)
    };
    let reads: Vec<Option<usize>> = (0..place_count)
        .flat_map(|place| (0..taps).map(move |tap| (place, tap)))
        .map(|(place, tap)| read(place, tap))
        .collect();
    let channels = x[1] / groups.max(1);
    let mut layout = Layout {
        sizes,
        lhs: Vec::with_capacity(groups * m * k),
        rhs: Vec::new(),
        result: Vec::new(),
    };
    for g in 0..groups {
        for row in 0..m {
            let (image_index, place) = (row / place_count.max(1), row % place_count.max(1));
            for c in 0..channels {
                let base = (image_index * x[1] + g * channels + c) * plane;
                let line = &reads[place * taps..(place + 1) * taps];
                layout.lhs.extend(line.iter().map(|at| at.map(|at| base + at)));
            }
        }
        for depth in 0..k {
            layout.rhs.extend((0..n).map(|filter| (g * n + filter) * k + depth));
        }
        for row in 0..m {
            let (image_index, place) = (row / place_count.max(1), row % place_count.max(1));
            layout.result.extend(
                (0..n).map(|f| (image_index * groups * n + g * n + f) * place_count + place),
            );
        }
    }
    layout
}

/// The elements of a tensor as integers of 64 bits, low bits kept.
pub(crate) fn integers(x: &Tensor) -> Vec<i64> {
    x.to_integers().iter().map(|&v| v as i64).collect()
}
