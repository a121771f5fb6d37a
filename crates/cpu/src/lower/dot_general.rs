//! Dot products of any layout as (batched) matrix products: dims collapse to a row, a column and a sum
//! stride each, and what does not collapse becomes one more batch dim.

use std::ops::Range;
use std::sync::Arc;

use anychip_ir::{DotDims, IrError, Node, Prim, ValueId};
use anychip_tensor::DType;

use super::tail::Written;
use super::{Cx, Lowered, runs};
use crate::fusion::Tail;
use crate::kernel::gemm::{A, B, Epilogue, Gemm, GemmShape, Matrix, Offsets, PackedA, PackedB};
use crate::kernel::split::Split;
use crate::step::{Io, Kernel};

pub(crate) fn lower(cx: &Cx<'_>, node: &Node) -> Option<Lowered> {
    lower_tail(cx, &Tail::alone(node))
}

/// A product and what is done to its result as it is written.
pub(crate) fn lower_tail(cx: &Cx<'_>, tail: &Tail<'_>) -> Option<Lowered> {
    let node = tail.anchor;
    let Some(Prim::DotGeneral(dims, output)) = node.op.prim() else { return None };
    let &[lhs, rhs] = node.inputs.as_slice() else { return None };
    if *output != DType::F32 || cx.dtype(lhs) != DType::F32 || cx.dtype(rhs) != DType::F32 {
        return None;
    }
    let layout = Layout::of(dims, cx.shape(lhs), cx.shape(rhs))?;
    // A bias runs along the columns, so all of the last dim must be columns of one matrix.
    let last = cx.shape(node.outputs[0]).last().copied().unwrap_or(1);
    if tail.bias.is_some() && (layout.swapped || layout.n != last) {
        return None;
    }
    Some(product(cx, &layout, lhs, rhs, tail))
}

/// A dot product as products of matrices.
#[derive(Debug)]
struct Layout {
    m: usize,
    n: usize,
    k: usize,
    /// Row and column stride of the left matrix, of the right one, and the row stride of the result.
    a: (usize, usize),
    b: (usize, usize),
    c_stride: usize,
    batch: Vec<Offsets>,
    /// Whether left and right have changed places (the result is a column, computed as a row).
    swapped: bool,
}

/// A dim: its size, and its stride in each of `N` tensors.
type Strided<const N: usize> = (usize, [usize; N]);

/// Neighboring dims that are one dim in every tensor are joined; dims of size 1 vanish.
fn collapse<const N: usize>(dims: impl IntoIterator<Item = Strided<N>>) -> Vec<Strided<N>> {
    let mut joined: Vec<Strided<N>> = Vec::new();
    for (size, strides) in dims {
        if size == 1 {
            continue;
        }
        match joined.last_mut() {
            Some((outer, outer_strides))
                if (0..N).all(|i| outer_strides[i] == size * strides[i]) =>
            {
                *outer *= size;
                *outer_strides = strides;
            }
            _ => joined.push((size, strides)),
        }
    }
    joined
}

/// Row-major strides.
pub(crate) fn strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for i in (1..shape.len()).rev() {
        strides[i - 1] = strides[i] * shape[i];
    }
    strides
}

impl Layout {
    fn of(dims: &DotDims, lhs: &[usize], rhs: &[usize]) -> Option<Layout> {
        let (ls, rs) = (strides(lhs), strides(rhs));
        let free = |shape: &[usize], batch: &[usize], contract: &[usize]| -> Vec<usize> {
            (0..shape.len()).filter(|d| !batch.contains(d) && !contract.contains(d)).collect()
        };
        let lhs_free = free(lhs, &dims.lhs_batch, &dims.lhs_contract);
        let rhs_free = free(rhs, &dims.rhs_batch, &dims.rhs_contract);
        let out: Vec<usize> = dims
            .lhs_batch
            .iter()
            .map(|&d| lhs[d])
            .chain(lhs_free.iter().map(|&d| lhs[d]))
            .chain(rhs_free.iter().map(|&d| rhs[d]))
            .collect();
        let os = strides(&out);
        let batches = dims.lhs_batch.len();
        let mut outer: Vec<Strided<3>> = dims
            .lhs_batch
            .iter()
            .zip(&dims.rhs_batch)
            .enumerate()
            .map(|(i, (&l, &r))| (lhs[l], [ls[l], rs[r], os[i]]))
            .collect();
        let mut rows =
            collapse(lhs_free.iter().enumerate().map(|(i, &d)| (lhs[d], [ls[d], os[batches + i]])));
        let mut columns = collapse(
            rhs_free
                .iter()
                .enumerate()
                .map(|(i, &d)| (rhs[d], [rs[d], os[batches + lhs_free.len() + i]])),
        );
        let sums = collapse(
            dims.lhs_contract
                .iter()
                .zip(&dims.rhs_contract)
                .map(|(&l, &r)| (lhs[l], [ls[l], rs[r]])),
        );
        let (k, [ak, bk]) = match sums.as_slice() {
            [] => (1, [1, 1]),
            [only] => *only,
            _ => return None,
        };
        let (n, [bn, _]) = columns.pop().unwrap_or((1, [1, 1]));
        let (m, [am, cm]) = rows.pop().unwrap_or((1, [k, n]));
        outer.extend(rows.into_iter().map(|(size, [a, c])| (size, [a, 0, c])));
        outer.extend(columns.into_iter().map(|(size, [b, c])| (size, [0, b, c])));
        let mut batch = vec![Offsets::default()];
        for (size, [a, b, c]) in collapse(outer) {
            batch = batch
                .iter()
                .flat_map(|at| {
                    (0..size).map(move |i| Offsets {
                        a: at.a + i * a,
                        b: at.b + i * b,
                        c: at.c + i * c,
                    })
                })
                .collect();
        }
        if n == 1 && m > 1 && cm == 1 {
            // A column: computed as the row `bᵀ aᵀ`, so that vectors run along it.
            let batch = batch.into_iter().map(|o| Offsets { a: o.b, b: o.a, c: o.c }).collect();
            return Some(Layout {
                m: 1,
                n: m,
                k,
                a: (k, bk),
                b: (ak, am),
                c_stride: m,
                batch,
                swapped: true,
            });
        }
        if cm < n && m > 1 {
            return None;
        }
        Some(Layout {
            m,
            n,
            k,
            a: (am, ak),
            b: (bk, bn),
            c_stride: cm.max(n),
            batch,
            swapped: false,
        })
    }
}

struct Product {
    gemm: Gemm,
    /// On the matrix unit, where that takes less time; `gemm` is for numbers that are not finite then.
    split: Option<Split>,
    written: Written,
    a: (usize, usize),
    b: (usize, usize),
    c_stride: usize,
    packed_a: Option<Arc<PackedA>>,
    packed_b: Option<Arc<PackedB>>,
}

fn product(cx: &Cx<'_>, layout: &Layout, lhs: ValueId, rhs: ValueId, tail: &Tail<'_>) -> Lowered {
    let (left, right) = if layout.swapped { (rhs, lhs) } else { (lhs, rhs) };
    let Layout { m, n, k, .. } = *layout;
    let simd = cx.shared.simd;
    let constant =
        |v: ValueId, unbatched: bool| cx.constant(v).filter(|t| unbatched && !t.is_empty());
    let packed_a = constant(left, layout.batch.iter().all(|o| o.a == 0)).map(|t| {
        let settings = [m, k, layout.a.0, layout.a.1];
        cx.shared.weights.kept(&cx.shared.pool, t, "product-left", &settings, |slot| {
            if layout.a == (k, 1) && t.len() == m * k {
                let read = runs(t);
                let copy = |run: Range<usize>, out: &mut [f32]| out.copy_from_slice(&read(run));
                return PackedA::from_runs(simd, m, k, &copy, slot);
            }
            let data = &t.elements::<f32>().expect("an f32 operand");
            let (row_stride, column_stride) = layout.a;
            PackedA::in_slot(simd, m, k, &Matrix { data, row_stride, column_stride }, slot)
        })
    });
    let packed_b = constant(right, layout.batch.iter().all(|o| o.b == 0)).map(|t| {
        let settings = [k, n, layout.b.0, layout.b.1];
        cx.shared.weights.kept(&cx.shared.pool, t, "product-right", &settings, |slot| {
            let in_rows = layout.b == (n, 1);
            if (in_rows || layout.b == (1, k)) && t.len() == k * n {
                return PackedB::from_runs(simd, k, n, !in_rows, &runs(t), slot);
            }
            let data = &t.elements::<f32>().expect("an f32 operand");
            let (row_stride, column_stride) = layout.b;
            PackedB::in_slot(simd, k, n, &Matrix { data, row_stride, column_stride }, slot)
        })
    });
    let shape = GemmShape { m, n, k, a_packed: packed_a.is_some(), b_packed: packed_b.is_some() };
    let gemm = Gemm::batched(simd, cx.threads(), shape, layout.batch.clone());
    let one = packed_a.is_none() && packed_b.is_some() && layout.a.1 == 1;
    let matrix = cx.shared.matrix.filter(|_| one && layout.batch == [Offsets::default()]);
    let split = matrix.and_then(|matrix| {
        Split::product(matrix, simd, cx.threads(), (m, n, k), (layout.a.0, layout.c_stride))
    });
    let mut operands = Vec::new();
    if packed_a.is_none() {
        operands.push(left);
    }
    if packed_b.is_none() {
        operands.push(right);
    }
    let detail = format!(
        "{} × {m}×{n}×{k}, {}{}{}",
        layout.batch.len(),
        split.as_ref().map_or_else(|| simd.name().to_string(), Split::describe),
        match (packed_a.is_some(), packed_b.is_some()) {
            (false, false) => "",
            (true, false) => ", left packed",
            (false, true) => ", right packed",
            (true, true) => ", both packed",
        },
        tail.names()
    );
    let scratch = gemm.scratch_len().max(split.as_ref().map_or(0, Split::scratch_len)) * 4;
    let written = Written::new(tail, &mut operands);
    let kernel = Product {
        gemm,
        split,
        written,
        a: layout.a,
        b: layout.b,
        c_stride: layout.c_stride,
        packed_a,
        packed_b,
    };
    Lowered { detail, scratch, ..Lowered::new("matrix-product", kernel, &operands) }
}

impl Kernel for Product {
    fn run(&self, io: &Io<'_>) -> Result<(), IrError> {
        let mut next = 0;
        let mut matrix = |(row_stride, column_stride): (usize, usize)| {
            next += 1;
            Matrix { data: io.operand::<f32>(next - 1), row_stride, column_stride }
        };
        let a = match &self.packed_a {
            Some(packed) => A::Packed(packed),
            None => A::Matrix(matrix(self.a)),
        };
        let b = match &self.packed_b {
            Some(packed) => B::Packed(packed),
            None => B::Matrix(matrix(self.b)),
        };
        let epilogue = Epilogue { column_bias: self.written.bias(io), ..self.written.epilogue(io) };
        if let (Some(split), A::Matrix(left), B::Packed(packed)) = (&self.split, a, b) {
            let weights = packed.panels.as_slice();
            if split.run(weights, left.data, io.result(0), &epilogue, io.scratch(), io.pool) {
                return Ok(());
            }
        }
        self.gemm.run(a, b, io.result(0), self.c_stride, &epilogue, io.scratch(), io.pool);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_linear_layer_over_a_batch_is_one_product() {
        let dims = DotDims { lhs_contract: vec![2], rhs_contract: vec![0], ..DotDims::default() };
        let layout = Layout::of(&dims, &[2, 7, 16], &[16, 32]).expect("a product");
        assert_eq!((layout.m, layout.n, layout.k, layout.batch.len()), (14, 32, 16, 1));
    }

    #[test]
    fn heads_inside_rows_become_a_batch() {
        // q, k: [batch, sequence, head, depth]
        let dims = DotDims {
            lhs_batch: vec![0, 2],
            rhs_batch: vec![0, 2],
            lhs_contract: vec![3],
            rhs_contract: vec![3],
        };
        let layout = Layout::of(&dims, &[2, 5, 3, 8], &[2, 6, 3, 8]).expect("products");
        assert_eq!((layout.m, layout.n, layout.k, layout.batch.len()), (5, 6, 8, 6));
        assert_eq!((layout.a, layout.b, layout.c_stride), ((24, 1), (1, 24), 6));
        assert_eq!(layout.batch[1], Offsets { a: 8, b: 8, c: 30 });
    }

    #[test]
    fn a_column_is_computed_as_a_row() {
        let dims = DotDims { lhs_contract: vec![1], rhs_contract: vec![0], ..DotDims::default() };
        let layout = Layout::of(&dims, &[9, 4], &[4]).expect("a product");
        assert!(layout.swapped && (layout.m, layout.n) == (1, 9));
    }
}
