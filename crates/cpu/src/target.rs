//! The `cpu` target: this machine's processor.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use anychip_chips::Chip;
use anychip_ir::{Graph, Node, Op};
use anychip_passes::specialize::fold_constants;
use anychip_target::{
    CompileError, CompileOptions, Counters, LegalGraph, OpenError, Place, Program, Run, RunError,
    Session, Support, Target,
};
use anychip_tensor::TensorView;

use crate::blocked;
use crate::costs::Costs;
use crate::detect::Simd;
use crate::executable::{Done, Executable, Shared};
use crate::kernel::split::{Engine, Matrix, Parts};
use crate::lower;
use crate::pool::Pool;
use crate::tune::Tuning;
use crate::weights::{Store, Weights};

/// Catalogue name of the machine's own processor.
const CHIP: &str = "cpu";

/// Compiles for the processor it runs on.
#[derive(Clone, Debug)]
pub struct CpuTarget {
    simd: Simd,
    /// Only for those who ask: where the system saves power it slows the unit far more than the vectors (here by 3.3 for
    /// seconds at a time), and what is chosen cannot change without results changing.
    matrix: Option<Matrix>,
}

impl Default for CpuTarget {
    fn default() -> CpuTarget {
        CpuTarget::new()
    }
}

impl CpuTarget {
    /// For the widest vectors that this processor has.
    pub fn new() -> CpuTarget {
        CpuTarget::with_simd(Simd::detect())
    }

    /// For the vectors of a given instruction set, or the widest there are where this processor lacks it.
    pub fn with_simd(simd: Simd) -> CpuTarget {
        CpuTarget { simd: simd.at_most(), matrix: None }
    }

    /// The same with something that multiplies matrices; `always` where it can, even if that takes longer. It reads weights as
    /// they are packed for vectors of 16; beside narrower ones it is left out.
    #[must_use]
    pub fn with_engine(self, engine: Engine, always: bool) -> CpuTarget {
        let packed = self.simd == Simd::Avx512;
        let matrix = packed.then_some(Matrix { engine, parts: Parts::Three, always });
        CpuTarget { matrix, ..self }
    }

    /// The names of the instruction sets that this processor has, narrowest first, and a target for each.
    pub fn available() -> Vec<(&'static str, CpuTarget)> {
        let vectors = Simd::available().into_iter();
        let mut all: Vec<_> = vectors.map(|s| (s.option(), CpuTarget::with_simd(s))).collect();
        if let Some(engine) = Engine::detect() {
            all.push((AMX, CpuTarget::new().with_engine(engine, false)));
        }
        all
    }

    /// What options ask for.
    fn chosen(&self, options: &CompileOptions) -> Result<CpuTarget, CompileError> {
        let Some(asked) = &options.isa else { return Ok(self.clone()) };
        let mut all = CpuTarget::available();
        match all.iter().position(|(name, _)| name.eq_ignore_ascii_case(asked)) {
            Some(found) => Ok(all.swap_remove(found).1),
            None => Err(CompileError::InstructionSet {
                asked: asked.clone(),
                available: all.into_iter().map(|(name, _)| name).collect(),
            }),
        }
    }
}

/// The name of the matrix unit.
const AMX: &str = "amx";

impl Target for CpuTarget {
    fn id(&self) -> &'static str {
        CHIP
    }

    fn support(&self, node: &Node, graph: &Graph) -> Support {
        match &node.op {
            Op::Prim(_) => Support::Native,
            Op::Composite(_) if lower::claims(node, graph) => Support::Native,
            Op::Composite(_) => Support::Expand,
        }
    }

    fn compile(
        &self,
        graph: &LegalGraph,
        _chip: &Chip,
        options: &CompileOptions,
    ) -> Result<Box<dyn Program>, CompileError> {
        let graph = blocked::lay_out(&fold_constants(graph.graph())?)?;
        let threads = options.threads.unwrap_or_else(crate::machine::threads);
        let chosen = self.chosen(options)?;
        let parts = if options.relaxed { Parts::Two } else { Parts::Three };
        Ok(Box::new(CpuProgram {
            graph,
            simd: chosen.simd,
            matrix: chosen.matrix.map(|matrix| Matrix { parts, ..matrix }),
            threads: threads.max(1),
            options: options.clone(),
            opened: OnceLock::new(),
        }))
    }

    fn integers(&self) -> bool {
        true
    }

    fn places(&self) -> Vec<Place> {
        vec![Place::Device { chip: CHIP.to_string(), ordinal: 0 }]
    }
}

struct CpuProgram {
    graph: Graph,
    simd: Simd,
    matrix: Option<Matrix>,
    threads: usize,
    options: CompileOptions,
    /// Threads, packed weights and plans: made by the first session, shared by all.
    opened: OnceLock<Arc<Executable>>,
}

impl CpuProgram {
    fn executable(&self) -> Result<&Arc<Executable>, OpenError> {
        if let Some(opened) = self.opened.get() {
            return Ok(opened);
        }
        let options = &self.options;
        let open = |folder: &PathBuf| Store::open(folder, self.simd.option(), &self.graph);
        let store = options.cache.as_ref().map(open).transpose()?;
        let tuning = |folder: &PathBuf| Tuning::open(folder, self.simd, options.tune);
        let tuning = options.cache.as_ref().map(tuning).transpose()?;
        // Two sessions that are opened at once may both come here; the first to be done is kept.
        Ok(self.opened.get_or_init(|| {
            let shared = Shared {
                simd: self.simd,
                matrix: self.matrix,
                pool: if options.pin {
                    Pool::pinned(self.threads)
                } else {
                    Pool::new(self.threads)
                },
                weights: Weights::kept_in(store),
                tuning,
                memory_limit: crate::machine::memory_limit(),
                layers: options.layers,
                relaxed: options.relaxed,
            };
            Arc::new(Executable::new(self.graph.clone(), Arc::new(shared)))
        }))
    }
}

impl Program for CpuProgram {
    fn open(&self, place: &Place) -> Result<Box<dyn Session>, OpenError> {
        match place {
            Place::Device { chip, ordinal: 0 } if chip == CHIP => {
                Ok(Box::new(CpuSession { executable: Arc::clone(self.executable()?) }))
            }
            Place::Device { .. } | Place::Simulator { .. } => {
                Err(OpenError::WrongPlace { target: CHIP, place: place.to_string() })
            }
        }
    }

    fn explain(&self) -> Vec<String> {
        let executable = match self.executable() {
            Ok(executable) => executable,
            Err(error) => return vec![error.to_string()],
        };
        let mut lines = vec![format!(
            "{} threads, {}, choices by the costs of a {}",
            executable.shared().pool.threads(),
            self.simd.name(),
            Costs::here(self.simd).class
        )];
        lines.extend(executable.explain());
        lines
    }
}

struct CpuSession {
    executable: Arc<Executable>,
}

impl Session for CpuSession {
    fn run(&mut self, inputs: &[TensorView<'_>]) -> Result<Run, RunError> {
        let Done { outputs, held, layers } = self.executable.run(inputs)?;
        let counters = Counters { peak_bytes: Some(held), ..Counters::default() };
        Ok(Run { outputs, counters, layers })
    }
}
