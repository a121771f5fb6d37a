//! Classical machine learning.

use anychip_ir::{Prim, ReduceKind, ValueId};
use anychip_ops::Softmax;
use anychip_tensor::{DType, Dim, Tensor};

use crate::import::call::{Call, ImportError};

type Results = Result<Vec<ValueId>, ImportError>;

pub(super) fn array_feature_extractor(call: &mut Call<'_>) -> Results {
    let (x, places) = (call.input(0)?, call.input(1)?);
    let Some(axis) = call.b.rank(x).checked_sub(1) else { return Err(call.invalid("needs a dim")) };
    let count = call.b.ty(places).elements();
    let places = call.b.reshape(places, &[count])?;
    let y = call.b.prim(Prim::Take { axis }, &[x, places])?;
    // A vector gives one row.
    Ok(vec![if axis == 0 { call.b.unsqueeze(y, &[0])? } else { y }])
}

pub(super) fn binarizer(call: &mut Call<'_>) -> Results {
    let x = call.input(0)?;
    let threshold = call.b.scalar_like(x, f64::from(call.float("threshold", 0.0)))?;
    let above = call.b.gt(x, threshold)?;
    let dtype = call.b.dtype(x);
    Ok(vec![call.b.cast(above, dtype)?])
}

/// Inner nodes and leaves in one numbering: leaves follow the nodes.
struct Trees {
    roots: Vec<i64>,
    features: Vec<i64>,
    modes: Vec<i64>,
    splits: Tensor,
    /// What a membership node looks for, padded with NaN, `[nodes, most]`.
    members: Option<(usize, Vec<f64>)>,
    yes: Vec<i64>,
    no: Vec<i64>,
    missing: Vec<i64>,
}

impl Trees {
    fn read(call: &Call<'_>) -> Result<Trees, ImportError> {
        let tensor = |name: &str| {
            call.tensor(name)?.ok_or_else(|| ImportError::MissingAttribute(name.into()))
        };
        let features = call.need_ints("nodes_featureids")?;
        let nodes = features.len();
        let modes = tensor("nodes_modes")?.to_i64();
        let branch = |ids: &str, leaves: &str| -> Result<Vec<i64>, ImportError> {
            let (ids, leaves) = (call.need_ints(ids)?, call.need_ints(leaves)?);
            Ok(ids
                .iter()
                .zip(leaves)
                .map(|(&id, leaf)| if leaf != 0 { id.saturating_add(nodes as i64) } else { id })
                .collect())
        };
        let trees = Trees {
            roots: call.need_ints("tree_roots")?,
            splits: tensor("nodes_splits")?,
            members: None,
            yes: branch("nodes_truenodeids", "nodes_trueleafs")?,
            no: branch("nodes_falsenodeids", "nodes_falseleafs")?,
            missing: call.ints("nodes_missing_value_tracks_true").unwrap_or_else(|| vec![0; nodes]),
            features,
            modes,
        };
        let lengths = [
            trees.modes.len(),
            trees.splits.len(),
            trees.yes.len(),
            trees.no.len(),
            trees.missing.len(),
        ];
        if nodes == 0 || lengths != [nodes; 5] {
            return Err(call.invalid("every node needs an entry in each list"));
        }
        let members = match call.tensor("membership_values")? {
            Some(values) => trees.sets(&values.to_f64()),
            None => None,
        };
        Ok(Trees { members, ..trees })
    }

    /// The sets of membership nodes, which are separated by NaN.
    fn sets(&self, values: &[f64]) -> Option<(usize, Vec<f64>)> {
        let sets: Vec<&[f64]> = values.split(|v| v.is_nan()).collect();
        let most = sets.iter().map(|s| s.len()).max().filter(|&n| n > 0)?;
        let mut sets = sets.into_iter();
        let mut table = Vec::new();
        for &mode in &self.modes {
            let set = if mode == 6 { sets.next().unwrap_or_default() } else { &[] };
            table.extend_from_slice(set);
            table.extend(std::iter::repeat_n(f64::NAN, most - set.len()));
        }
        Some((most, table))
    }

    /// The most steps from a root to a leaf.
    fn depth(&self, call: &Call<'_>) -> Result<usize, ImportError> {
        let nodes = self.features.len();
        let mut level: Vec<i64> = self.roots.clone();
        let mut depth = 0;
        level.sort_unstable();
        level.dedup();
        while level.iter().any(|&n| n < nodes as i64) {
            let inner =
                level.iter().filter_map(|&n| usize::try_from(n).ok().filter(|&n| n < nodes));
            level = inner.flat_map(|n| [self.yes[n], self.no[n]]).collect();
            // Branches may meet again; each node counts once a level.
            level.sort_unstable();
            level.dedup();
            depth += 1;
            if depth > nodes || level.iter().any(|&n| n < 0) {
                return Err(call.invalid("the nodes do not form trees"));
            }
        }
        Ok(depth)
    }
}

/// Every tree's leaf for every row, its weight counted for the leaf's target.
pub(super) fn tree_ensemble(call: &mut Call<'_>) -> Results {
    let x = call.input(0)?;
    let trees = Trees::read(call)?;
    let depth = trees.depth(call)?;
    let (weights, targets) = (
        call.tensor("leaf_weights")?
            .ok_or_else(|| ImportError::MissingAttribute("leaf_weights".into()))?,
        call.need_ints("leaf_targetids")?,
    );
    let count = usize::try_from(call.need_int("n_targets")?)
        .map_err(|_| call.bad_attribute("n_targets", "must not be negative"))?;
    let nodes = trees.features.len() as i64;
    let Some(rows) = call.b.dims(x).first().cloned() else {
        return Err(call.invalid("needs rows"));
    };
    let b = &mut *call.b;
    let dtype = b.dtype(x);
    let roots = b.integers(&trees.roots);
    let mut place = b.broadcast(roots, &[rows, Dim::Fixed(trees.roots.len())])?;
    let tables = [&trees.features, &trees.modes, &trees.yes, &trees.no, &trees.missing]
        .map(|list| b.integers(list));
    let splits = b.constant(trees.splits.clone());
    let splits = b.cast(splits, dtype)?;
    let members = match &trees.members {
        Some((most, table)) => {
            let shape = vec![trees.features.len(), *most];
            Some(b.constant(Tensor::from_f64(dtype, shape, table)?))
        }
        None => None,
    };
    let take = Prim::Take { axis: 0 };
    let (zero, last) = (b.scalar(DType::I64, 0.0)?, b.scalar(DType::I64, (nodes - 1) as f64)?);
    for _ in 0..depth {
        let inner = b.le(place, last)?;
        let node = b.min(place, last)?;
        let [feature, mode, yes, no, missing] = {
            let mut read = Vec::new();
            for table in tables {
                read.push(b.prim(take.clone(), &[table, node])?);
            }
            [read[0], read[1], read[2], read[3], read[4]]
        };
        let value = b.prim(Prim::TakeAlong { axis: 1 }, &[x, feature])?;
        let split = b.prim(take.clone(), &[splits, node])?;
        let mut holds = b.le(value, split)?;
        let others = [
            (1, b.lt(value, split)?),
            (2, b.ge(value, split)?),
            (3, b.gt(value, split)?),
            (4, b.eq(value, split)?),
            (5, b.ne(value, split)?),
        ];
        for (number, other) in others {
            let number = b.scalar(DType::I64, f64::from(number))?;
            let is = b.eq(mode, number)?;
            holds = b.select(is, other, holds)?;
        }
        if let Some(members) = members {
            let sets = b.prim(take.clone(), &[members, node])?;
            let own = b.unsqueeze(value, &[2])?;
            let equal = b.eq(own, sets)?;
            let found = b.reduce(ReduceKind::Max, equal, &[2], false)?;
            let number = b.scalar(DType::I64, 6.0)?;
            let is = b.eq(mode, number)?;
            holds = b.select(is, found, holds)?;
        }
        let absent = b.is_nan(value)?;
        let tracks = b.ne(missing, zero)?;
        let follows = b.and(absent, tracks)?;
        let holds = b.or(holds, follows)?;
        let next = b.select(holds, yes, no)?;
        place = b.select(inner, next, place)?;
    }
    let first = b.scalar(DType::I64, nodes as f64)?;
    let leaf = b.sub(place, first)?;
    let weights = b.constant(weights);
    let weights = b.cast(weights, dtype)?;
    let targets = b.integers(&targets);
    let weight = b.prim(take.clone(), &[weights, leaf])?;
    let target = b.prim(take, &[targets, leaf])?;
    let weight = b.unsqueeze(weight, &[2])?;
    let target = b.unsqueeze(target, &[2])?;
    let columns = b.iota(&Dim::Fixed(count))?;
    let own = b.eq(target, columns)?;
    let (kind, neutral) = match call.int("aggregate_function", 1) {
        0 | 1 => (ReduceKind::Sum, 0.0),
        2 => (ReduceKind::Min, f64::INFINITY),
        3 => (ReduceKind::Max, f64::NEG_INFINITY),
        _ => return Err(call.bad_attribute("aggregate_function", "is 0 to 3")),
    };
    let b = &mut *call.b;
    let neutral = b.scalar(dtype, neutral)?;
    let shares = b.select(own, weight, neutral)?;
    let mut scores = b.reduce(kind, shares, &[1], false)?;
    if call.int("aggregate_function", 1) == 0 {
        scores = call.b.scale(scores, 1.0 / trees.roots.len() as f64)?;
    }
    Ok(vec![match call.int("post_transform", 0) {
        0 => scores,
        1 => call.b.composite(Softmax { axis: 1 }, &[scores])?,
        2 => call.b.sigmoid(scores)?,
        _ => {
            return Err(
                call.unsupported("a transform of the scores other than softmax or logistic")
            );
        }
    }])
}
