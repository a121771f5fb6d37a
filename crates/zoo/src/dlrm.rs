//! Recommendation: DLRM (arXiv:1906.00091) in the size that MLPerf runs, whose tables are nearly all of it.

use anychip_ir::{DotDims, Prim, ValueId};
use anychip_tensor::{DType, Tensor};

use crate::activation::Activation::{Relu, Sigmoid};
use crate::net::{Made, Net, Outputs};
use crate::row::{Published, Row};
use crate::settings::Settings;

/// Rows of the 26 tables: categories of the Criteo Terabyte data set, at most 40 million each.
const TABLES: [usize; 26] = [
    39_884_406, 39_043, 17_289, 7_420, 20_263, 3, 7_120, 1_543, 63, 38_532_951, 2_953_546, 403_346,
    10, 2_208, 11_938, 155, 4, 976, 14, 39_979_771, 25_641_295, 39_664_984, 585_935, 12_972, 108,
    36,
];

/// Width of a table's rows and of what the numbers become.
const WIDTH: usize = 128;

pub(crate) const ROWS: &[Row] = &[Row {
    name: "dlrm",
    aliases: &["dlrm-mlperf"],
    parameters: Published::Unknown,
    macs: Published::Unknown,
    macs_at: "",
    source: "table sizes and layers: MLPerf inference, recommendation, DLRM on Criteo 1TB",
    dtype: DType::F32,
    build,
}];

fn build(net: &mut Net, _: &mut Settings) -> Made<Outputs> {
    let numbers = net.input("dense", &[13]);
    let bottom = layers(net, "bottom", numbers, &[512, 256, WIDTH])?;
    let mut vectors = vec![net.b.unsqueeze(bottom, &[1])?];
    for (i, rows) in TABLES.into_iter().enumerate() {
        let ids = net.indices(&format!("category.{i}"), &[1usize.into()]);
        vectors.push(net.embedding(&format!("tables.{i}"), ids, rows, WIDTH)?);
    }
    let pairs = net.within("interaction", |net| interact(net, &vectors))?;
    let joint = net.b.concat(&[bottom, pairs], 1)?;
    let hidden = layers(net, "top", joint, &[1024, 1024, 512, 256])?;
    let score = net.linear("top.4", hidden, 1, true)?;
    Ok(vec![("probability".into(), net.activate(score, Sigmoid)?)])
}

fn layers(net: &mut Net, name: &str, x: ValueId, widths: &[usize]) -> Made {
    let mut x = x;
    for (i, &width) in widths.iter().enumerate() {
        let y = net.linear(&format!("{name}.{i}"), x, width, true)?;
        x = net.activate(y, Relu)?;
    }
    Ok(x)
}

/// The dot products of all pairs of different vectors, `[n, 351]`.
fn interact(net: &mut Net, vectors: &[ValueId]) -> Made {
    let count = vectors.len();
    let all = net.b.concat(vectors, 1)?;
    let dims = DotDims {
        lhs_batch: vec![0],
        rhs_batch: vec![0],
        lhs_contract: vec![2],
        rhs_contract: vec![2],
    };
    let products = net.b.prim(Prim::DotGeneral(dims, net.dtype), &[all, all])?;
    let batch = net.b.dims(products)[0].clone();
    let flat = net.b.reshape(products, &[batch, (count * count).into()])?;
    let below: Vec<i64> =
        (0..count).flat_map(|i| (0..i).map(move |j| (i * count + j) as i64)).collect();
    let below = net.b.constant(Tensor::from_i64s(&below));
    net.b.prim(Prim::Take { axis: 1 }, &[flat, below])
}
