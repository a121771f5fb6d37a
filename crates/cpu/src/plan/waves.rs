//! Which steps run at the same time: short ones that need nothing of each other, each whole on one thread.
//!
//! A long step is worth splitting among the threads; a short one costs more to hand out than it takes. Where a graph has branches
//! (heads of a detector, directions, projections), their short steps meet in a wave, which is handed out once.

/// Of a step that is yet to be ordered.
pub(super) struct Candidate {
    /// The steps, all before it, whose results it reads.
    pub(super) after: Vec<usize>,
    /// Whether it may share a wave.
    pub(super) short: bool,
}

/// How many waves back a step may be moved: what it makes has to be held from there on.
const REACH: usize = 16;

/// The wave of each step. Waves run one after the other; a step that is not short has one to itself, and among the others each
/// comes later than those it reads.
pub(super) fn waves(steps: &[Candidate]) -> Vec<usize> {
    let mut wave_of: Vec<usize> = Vec::with_capacity(steps.len());
    // Whether short steps are in it.
    let mut shared: Vec<bool> = Vec::new();
    for step in steps {
        let first = step.after.iter().map(|&i| wave_of[i] + 1).max().unwrap_or(0);
        let first = first.max(shared.len().saturating_sub(REACH));
        let open = (first..shared.len()).find(|&wave| step.short && shared[wave]);
        wave_of.push(open.unwrap_or(shared.len()));
        if open.is_none() {
            shared.push(step.short);
        }
    }
    wave_of
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(after: &[usize], short: bool) -> Candidate {
        Candidate { after: after.to_vec(), short }
    }

    #[test]
    fn short_steps_of_two_branches_meet() {
        // A long step, then two chains of two short ones that read it, one after the other as files have them, and their sum.
        let steps = [
            step(&[], false),
            step(&[0], true),
            step(&[1], true),
            step(&[0], true),
            step(&[3], true),
            step(&[2, 4], true),
        ];
        assert_eq!(waves(&steps), [0, 1, 2, 1, 2, 3]);
    }

    #[test]
    fn a_chain_stays_as_it_is_and_long_steps_are_alone() {
        let chain: Vec<_> =
            (0..5).map(|i: usize| step(&[i.saturating_sub(1)][..i.min(1)], true)).collect();
        assert_eq!(waves(&chain), [0, 1, 2, 3, 4]);
        let long = [step(&[], false), step(&[], false), step(&[], true), step(&[], false)];
        assert_eq!(waves(&long), [0, 1, 2, 3]);
    }

    #[test]
    fn no_step_comes_before_what_it_reads_or_from_too_far() {
        let mut state = 7u64;
        let mut random = |n: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) as usize % n
        };
        for _ in 0..200 {
            let steps: Vec<Candidate> = (0..60)
                .map(|i| Candidate {
                    after: (0..random(3)).filter(|_| i > 0).map(|_| random(i.max(1))).collect(),
                    short: random(3) > 0,
                })
                .collect();
            let found = waves(&steps);
            let mut latest = 0;
            for (i, step) in steps.iter().enumerate() {
                assert!(step.after.iter().all(|&before| found[before] < found[i]));
                let together = (0..steps.len()).filter(|&other| found[other] == found[i]);
                assert!(
                    together.clone().count() == 1 || together.into_iter().all(|o| steps[o].short)
                );
                assert!(found[i] + REACH >= latest);
                latest = latest.max(found[i]);
            }
        }
    }
}
