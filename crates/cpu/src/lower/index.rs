//! Reading and writing at indices, and the largest elements in order.

use std::cmp::Ordering;

use anychip_ir::{Combine, IrError, Node, Prim};
use anychip_tensor::{DType, Element, Tensor};

use super::movement::width;
use super::{Cx, Lowered};
use crate::kernel::copy::row_major;
use crate::step::{Io, Kernel};

/// Indices as they lie in memory: `i64` or `i32`.
#[derive(Clone, Copy)]
struct Indices {
    operand: usize,
    wide: bool,
}

impl Indices {
    fn new(operand: usize, dtype: DType) -> Option<Indices> {
        match dtype {
            DType::I64 => Some(Indices { operand, wide: true }),
            DType::I32 => Some(Indices { operand, wide: false }),
            _ => None,
        }
    }

    /// The `i`-th as a place in a dim of `size`; negative ones count from the end.
    fn place(self, io: &Io<'_>, i: usize, op: &'static str, size: usize) -> Result<usize, IrError> {
        let index = if self.wide {
            io.operand::<i64>(self.operand)[i]
        } else {
            io.operand::<i32>(self.operand)[i].into()
        };
        let wrapped = if index < 0 { index.saturating_add(size as i64) } else { index };
        usize::try_from(wrapped).ok().filter(|&p| p < size).ok_or(IrError::IndexOutOfRange {
            op,
            index,
            size,
        })
    }
}

pub(crate) fn lower(cx: &Cx<'_>, node: &Node) -> Option<Lowered> {
    let prim = node.op.prim()?;
    let x = node.inputs[0];
    let shape = cx.shape(x);
    let indices = Indices::new(1, cx.dtype(node.inputs[1]))?;
    let width = width(cx.dtype(x))?;
    let count = cx.len(node.inputs[1]);
    Some(if let Prim::Take { axis } = prim {
        let block = shape[axis + 1..].iter().product::<usize>() * width;
        let outer = shape[..*axis].iter().product();
        let size = shape[*axis];
        // A table of the file is read where it is, aligned or not: only its rows that are wanted are ever touched.
        if let Some(table) = cx.constant(x) {
            let indices = Indices::new(0, cx.dtype(node.inputs[1]))?;
            let take = Take { table: Some(table.clone()), indices, outer, size, count, block };
            Lowered::new("gather", take, &node.inputs[1..])
        } else {
            let take = Take { table: None, indices, outer, size, count, block };
            Lowered::new("gather", take, &node.inputs)
        }
    } else if let Prim::TakeAlong { axis } = prim {
        let along = Along::new(indices, *axis, shape, cx.shape(node.inputs[1]), "take-along")?;
        Lowered::new("gather-along", TakeAlong { along, width }, &node.inputs)
    } else if let Prim::GatherNd { batch } = prim {
        let rows = Rows::new(indices, *batch, shape, cx.shape(node.inputs[1]), "gather-nd");
        Lowered::new("gather-nd", GatherNd { rows, width }, &node.inputs)
    } else if let Prim::ScatterAlong { axis, combine } = prim {
        if cx.shape(node.inputs[1]) != cx.shape(node.inputs[2]) {
            return None;
        }
        let along = Along::new(indices, *axis, shape, cx.shape(node.inputs[1]), "scatter-along")?;
        let write = Write::new(*combine, cx.dtype(x), width)?;
        Lowered {
            in_place: vec![0],
            ..Lowered::new("scatter-along", ScatterAlong { along, write }, &node.inputs)
        }
    } else if let Prim::ScatterNd { combine } = prim {
        let rows = Rows::new(indices, 0, shape, cx.shape(node.inputs[1]), "scatter-nd");
        if rows.count * rows.block != cx.len(node.inputs[2]) {
            return None;
        }
        let write = Write::new(*combine, cx.dtype(x), width)?;
        Lowered {
            in_place: vec![0],
            ..Lowered::new("scatter-nd", ScatterNd { rows, write }, &node.inputs)
        }
    } else {
        return None;
    })
}

struct Take {
    /// The operand, when it is a constant; else it is the first the step reads.
    table: Option<Tensor>,
    indices: Indices,
    outer: usize,
    size: usize,
    count: usize,
    /// Bytes.
    block: usize,
}

impl Kernel for Take {
    fn run(&self, io: &Io<'_>) -> Result<(), IrError> {
        let result = io.result_bytes(0);
        let x: &[u8] = match &self.table {
            Some(table) => table.bytes(),
            None => io.bytes(0),
        };
        for i in 0..self.count {
            let place = self.indices.place(io, i, "take", self.size)?;
            for o in 0..self.outer {
                let from = (o * self.size + place) * self.block;
                let to = (o * self.count + i) * self.block;
                result[to..to + self.block].copy_from_slice(&x[from..from + self.block]);
            }
        }
        Ok(())
    }
}

/// Each index stands for the element at its own place with one axis replaced by it.
struct Along {
    op: &'static str,
    indices: Indices,
    axis: usize,
    /// Of the data.
    size: usize,
    strides: Vec<usize>,
    /// Of the indices.
    shape: Vec<usize>,
    count: usize,
}

impl Along {
    fn new(
        indices: Indices,
        axis: usize,
        data: &[usize],
        shape: &[usize],
        op: &'static str,
    ) -> Option<Along> {
        let count = shape.iter().product();
        let fits = shape.iter().zip(data).enumerate().all(|(d, (a, b))| d == axis || a <= b);
        (fits || count == 0).then(|| Along {
            op,
            indices,
            axis,
            size: data[axis],
            strides: row_major(data),
            shape: shape.to_vec(),
            count,
        })
    }

    /// The element of the data that index `i` stands for.
    fn element(&self, io: &Io<'_>, i: usize) -> Result<usize, IrError> {
        let mut element = self.indices.place(io, i, self.op, self.size)? * self.strides[self.axis];
        let mut rest = i;
        for d in (0..self.shape.len()).rev() {
            if d != self.axis {
                element += rest % self.shape[d] * self.strides[d];
            }
            rest /= self.shape[d];
        }
        Ok(element)
    }
}

struct TakeAlong {
    along: Along,
    width: usize,
}

impl Kernel for TakeAlong {
    fn run(&self, io: &Io<'_>) -> Result<(), IrError> {
        let (x, result, w) = (io.bytes(0), io.result_bytes(0), self.width);
        for i in 0..self.along.count {
            let from = self.along.element(io, i)? * w;
            result[i * w..(i + 1) * w].copy_from_slice(&x[from..from + w]);
        }
        Ok(())
    }
}

/// Rows of indices that each address a block of the data.
struct Rows {
    op: &'static str,
    indices: Indices,
    count: usize,
    depth: usize,
    /// Rows of one batch.
    per_batch: usize,
    batch_size: usize,
    /// Sizes and strides of the dims that are addressed.
    addressed: Vec<(usize, usize)>,
    /// Elements.
    block: usize,
}

impl Rows {
    fn new(
        indices: Indices,
        batch: usize,
        data: &[usize],
        shape: &[usize],
        op: &'static str,
    ) -> Rows {
        let depth = shape[shape.len() - 1];
        let strides = row_major(data);
        Rows {
            op,
            indices,
            count: shape[..shape.len() - 1].iter().product(),
            depth,
            per_batch: if batch == 0 {
                usize::MAX
            } else {
                shape[batch..shape.len() - 1].iter().product::<usize>().max(1)
            },
            batch_size: data[batch..].iter().product(),
            addressed: (batch..batch + depth).map(|d| (data[d], strides[d])).collect(),
            block: data[batch + depth..].iter().product(),
        }
    }

    /// The first element of the block that a row addresses.
    fn start(&self, io: &Io<'_>, row: usize) -> Result<usize, IrError> {
        let mut start = row / self.per_batch * self.batch_size;
        for (d, &(size, stride)) in self.addressed.iter().enumerate() {
            start += self.indices.place(io, row * self.depth + d, self.op, size)? * stride;
        }
        Ok(start)
    }
}

struct GatherNd {
    rows: Rows,
    width: usize,
}

impl Kernel for GatherNd {
    fn run(&self, io: &Io<'_>) -> Result<(), IrError> {
        let (x, result, n) = (io.bytes(0), io.result_bytes(0), self.rows.block * self.width);
        for row in 0..self.rows.count {
            let from = self.rows.start(io, row)? * self.width;
            result[row * n..(row + 1) * n].copy_from_slice(&x[from..from + n]);
        }
        Ok(())
    }
}

/// How updates are written.
#[derive(Clone, Copy)]
enum Write {
    /// Bytes an element.
    Set(usize),
    F32(Combine),
    I64(Combine),
    I32(Combine),
}

impl Write {
    fn new(combine: Combine, dtype: DType, width: usize) -> Option<Write> {
        Some(match (combine, dtype) {
            (Combine::Set, _) => Write::Set(width),
            (_, DType::F32) => Write::F32(combine),
            (_, DType::I64) => Write::I64(combine),
            (_, DType::I32) => Write::I32(combine),
            _ => return None,
        })
    }

    /// Copies the data to the result unless it is there already.
    fn begin(io: &Io<'_>) {
        if io.operand_raw(0).start != io.result_raw(0).start {
            io.result_bytes(0).copy_from_slice(io.bytes(0));
        }
    }

    /// Writes updates `from..from + n` to elements `to..to + n` of the result.
    fn write(self, io: &Io<'_>, result: &mut [u8], to: usize, from: usize, n: usize) {
        fn each<T: Element>(
            io: &Io<'_>,
            result: &mut [u8],
            to: usize,
            from: usize,
            n: usize,
            f: fn(T, T) -> T,
        ) {
            let target = &mut bytemuck::cast_slice_mut::<u8, T>(result)[to..to + n];
            for (own, &update) in target.iter_mut().zip(&io.operand::<T>(2)[from..from + n]) {
                *own = f(*own, update);
            }
        }
        match self {
            Write::Set(w) => {
                result[to * w..(to + n) * w]
                    .copy_from_slice(&io.bytes(2)[from * w..(from + n) * w]);
            }
            Write::F32(combine) => each::<f32>(
                io,
                result,
                to,
                from,
                n,
                match combine {
                    Combine::Set => |_, u| u,
                    Combine::Add => |a, u| a + u,
                    Combine::Mul => |a, u| a * u,
                    Combine::Max => |a, u| if a.is_nan() || a > u { a } else { u },
                    Combine::Min => |a, u| if a.is_nan() || a < u { a } else { u },
                },
            ),
            Write::I64(combine) => each::<i64>(
                io,
                result,
                to,
                from,
                n,
                match combine {
                    Combine::Set => |_, u| u,
                    Combine::Add => i64::wrapping_add,
                    Combine::Mul => i64::wrapping_mul,
                    Combine::Max => i64::max,
                    Combine::Min => i64::min,
                },
            ),
            Write::I32(combine) => each::<i32>(
                io,
                result,
                to,
                from,
                n,
                match combine {
                    Combine::Set => |_, u| u,
                    Combine::Add => i32::wrapping_add,
                    Combine::Mul => i32::wrapping_mul,
                    Combine::Max => i32::max,
                    Combine::Min => i32::min,
                },
            ),
        }
    }
}

struct ScatterAlong {
    along: Along,
    write: Write,
}

impl Kernel for ScatterAlong {
    fn run(&self, io: &Io<'_>) -> Result<(), IrError> {
        Write::begin(io);
        let result = io.result_bytes(0);
        for i in 0..self.along.count {
            let to = self.along.element(io, i)?;
            self.write.write(io, result, to, i, 1);
        }
        Ok(())
    }
}

struct ScatterNd {
    rows: Rows,
    write: Write,
}

impl Kernel for ScatterNd {
    fn run(&self, io: &Io<'_>) -> Result<(), IrError> {
        Write::begin(io);
        let (result, n) = (io.result_bytes(0), self.rows.block);
        for row in 0..self.rows.count {
            let to = self.rows.start(io, row)?;
            self.write.write(io, result, to, row * n, n);
        }
        Ok(())
    }
}

#[expect(clippy::unnecessary_wraps, reason = "a factory as all others")]
pub(crate) fn lower_iota(_: &Cx<'_>, node: &Node) -> Option<Lowered> {
    struct Iota;
    impl Kernel for Iota {
        fn run(&self, io: &Io<'_>) -> Result<(), IrError> {
            io.result::<i64>(0).iter_mut().enumerate().for_each(|(i, x)| *x = i as i64);
            Ok(())
        }
    }
    Some(Lowered::new("iota", Iota, &node.inputs))
}

/// The `k` largest or smallest of each line, in order.
pub(crate) fn lower_top_k(cx: &Cx<'_>, node: &Node) -> Option<Lowered> {
    let Some(Prim::TopK { axis, largest }) = node.op.prim() else { return None };
    let x = node.inputs[0];
    let shape = cx.shape(x);
    let lines = TopK {
        outer: shape[..*axis].iter().product(),
        n: shape[*axis],
        inner: shape[axis + 1..].iter().product(),
        k: cx.shape(node.outputs[0])[*axis],
        largest: *largest,
        dtype: cx.dtype(x),
    };
    let known = matches!(
        lines.dtype,
        DType::F32 | DType::F64 | DType::I64 | DType::I32 | DType::U8 | DType::I8
    );
    let scratch = lines.n * 8;
    known.then(|| Lowered { scratch, ..Lowered::new("top-k", lines, &[x]) })
}

struct TopK {
    outer: usize,
    n: usize,
    inner: usize,
    k: usize,
    largest: bool,
    dtype: DType,
}

impl TopK {
    fn of<T: Element>(&self, io: &Io<'_>, is_nan: fn(T) -> bool) {
        let (x, values, indices) = (io.operand::<T>(0), io.result::<T>(0), io.result::<i64>(1));
        let order = &mut io.scratch::<i64>()[..self.n];
        for line in 0..self.outer * self.inner {
            let (o, inner) = (line / self.inner, line % self.inner);
            let at = |place: i64| x[(o * self.n + place as usize) * self.inner + inner];
            // NaN above all; the lower index first among equals, so that no two compare equal.
            let compare = |&a: &i64, &b: &i64| {
                let (u, v) = (at(a), at(b));
                let order = u.partial_cmp(&v).unwrap_or_else(|| is_nan(u).cmp(&is_nan(v)));
                let order = if self.largest { order.reverse() } else { order };
                if order == Ordering::Equal { a.cmp(&b) } else { order }
            };
            order.iter_mut().enumerate().for_each(|(i, x)| *x = i as i64);
            if self.k < self.n && self.k > 0 {
                order.select_nth_unstable_by(self.k - 1, compare);
            }
            order[..self.k].sort_unstable_by(compare);
            for (rank, &place) in order[..self.k].iter().enumerate() {
                let to = (o * self.k + rank) * self.inner + inner;
                values[to] = at(place);
                indices[to] = place;
            }
        }
    }
}

impl Kernel for TopK {
    fn run(&self, io: &Io<'_>) -> Result<(), IrError> {
        match self.dtype {
            DType::F32 => self.of::<f32>(io, f32::is_nan),
            DType::F64 => self.of::<f64>(io, f64::is_nan),
            DType::I64 => self.of::<i64>(io, |_| false),
            DType::I32 => self.of::<i32>(io, |_| false),
            DType::I8 => self.of::<i8>(io, |_| false),
            DType::U8 => self.of::<u8>(io, |_| false),
            other => unreachable!("{other} was left to the reference"),
        }
        Ok(())
    }
}
