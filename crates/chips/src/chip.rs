//! [`Chip`]: the head that all products share, and the body by technology.

use anychip_units::{
    Count, Figure, FigureError, Nanometers, SquareMillimeters, Unit, UsDollars, UsDollarsPerHour,
    Watts, Year,
};
use serde::{Deserialize, Serialize};

use crate::{
    compute::Compute,
    fabric::Fabric,
    quantum::Quantum,
    spec::{AnySpec, Entry, Figures, See, Spec, each_field},
    spiking::Spiking,
    systolic::Systolic,
};

/// What sort of product it is; the words of the catalog and of tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Family {
    /// General-purpose processor.
    Cpu,
    /// Graphics processor, embedded ones included.
    Gpu,
    /// Google's systolic machines.
    Tpu,
    /// Other neural-network silicon.
    Asic,
    /// A system on a chip with several kinds of engine.
    Soc,
    /// A whole wafer as one chip.
    WaferScale,
    /// Configurable logic.
    Fpga,
    /// Spiking neurons.
    Neuromorphic,
    /// Qubits.
    Quantum,
}

impl Family {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Cpu,
        Self::Gpu,
        Self::Tpu,
        Self::Asic,
        Self::Soc,
        Self::WaferScale,
        Self::Fpga,
        Self::Neuromorphic,
        Self::Quantum,
    ];

    /// From the word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|family| family.word() == word)
    }

    /// The word that files and tables use.
    pub fn word(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Gpu => "gpu",
            Self::Tpu => "tpu",
            Self::Asic => "asic",
            Self::Soc => "soc",
            Self::WaferScale => "wafer-scale",
            Self::Fpga => "fpga",
            Self::Neuromorphic => "neuromorphic",
            Self::Quantum => "quantum",
        }
    }
}

impl std::fmt::Display for Family {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(self.word())
    }
}

/// One product.
#[derive(Debug, Clone, PartialEq)]
pub struct Chip {
    /// The name commands use: lower-case words joined by `-`, the same as the file's.
    pub id: String,
    /// Shorter or older names commands accept too.
    pub aliases: Vec<String>,
    /// The name people use.
    pub name: String,
    /// Who makes it.
    pub vendor: String,
    /// What sort of product it is.
    pub family: Family,
    /// What its maker calls the design of its units, in lower case: `ampere`, `cdna-2`, `golden-cove`. Chips of one
    /// architecture are alike in how well programs use them.
    pub architecture: Option<String>,
    /// The target that can compile for it, if there is one.
    pub target: Option<String>,
    /// The software it is commonly run with, the default first.
    pub stacks: Vec<String>,
    /// The year it came out.
    pub year: Option<Spec<Year>>,
    /// The process it is made in.
    pub process_nm: Option<Spec<Nanometers>>,
    /// The area of its silicon, all compute dies together.
    pub die_mm2: Option<Spec<SquareMillimeters>>,
    /// How many dies that area is of; one where it is not stated.
    pub dies: Option<Spec<Count>>,
    /// The area of the smallest board or module it is sold on.
    pub board_mm2: Option<Spec<SquareMillimeters>>,
    /// The highest power it is designed for.
    pub power_w: Option<Spec<Watts>>,
    /// What buying one costs, the most typical price first.
    pub price_usd: Vec<Spec<UsDollars>>,
    /// What renting one costs, the most typical price first.
    pub price_usd_per_hour: Vec<Spec<UsDollarsPerHour>>,
    /// What it is made of.
    pub body: Body,
    /// Its matrix engine, where that is a systolic array that somebody described.
    pub systolic: Option<Systolic>,
}

/// What a chip is made of, by technology.
#[derive(Debug, Clone, PartialEq)]
pub enum Body {
    /// Arithmetic units and a memory hierarchy.
    Compute(Compute),
    /// Configurable logic.
    Fabric(Fabric),
    /// Spiking neurons.
    Spiking(Spiking),
    /// Qubits.
    Quantum(Quantum),
}

impl Chip {
    /// A chip made in code, with no figures yet: `stack` is the software it runs with.
    pub fn new(
        id: &str,
        name: &str,
        vendor: &str,
        family: Family,
        stack: &str,
        body: Body,
    ) -> Self {
        Self {
            id: id.to_owned(),
            aliases: Vec::new(),
            name: name.to_owned(),
            vendor: vendor.to_owned(),
            family,
            architecture: None,
            target: None,
            stacks: vec![stack.to_owned()],
            year: None,
            process_nm: None,
            die_mm2: None,
            dies: None,
            board_mm2: None,
            power_w: None,
            price_usd: Vec::new(),
            price_usd_per_hour: Vec::new(),
            body,
            systolic: None,
        }
    }

    /// The compute body, if it has one.
    pub fn compute(&self) -> Option<&Compute> {
        match &self.body {
            Body::Compute(compute) => Some(compute),
            Body::Fabric(_) | Body::Spiking(_) | Body::Quantum(_) => None,
        }
    }

    /// What buying one costs: the first price listed, the interval spans them all. `None` where none is known.
    pub fn purchase_price(&self) -> Option<Result<Figure<UsDollars>, FigureError>> {
        spanning(&self.price_usd)
    }

    /// What renting one costs: the first price listed, the interval spans them all. `None` where none is known.
    pub fn rental_price(&self) -> Option<Result<Figure<UsDollarsPerHour>, FigureError>> {
        spanning(&self.price_usd_per_hour)
    }

    /// Every figure of the chip, in reading order.
    pub fn entries(&self) -> Vec<Entry> {
        let mut entries = Vec::new();
        // The walk can edit, so it walks a copy; a chip has a few dozen figures.
        self.clone().each("", &mut |path, symbol, spec| entries.push(spec.entry(path, symbol)));
        entries
    }
}

fn spanning<U: Unit>(prices: &[Spec<U>]) -> Option<Result<Figure<U>, FigureError>> {
    let first = prices.first()?;
    let ends =
        || prices.iter().flat_map(|price| [Some(price.value), price.low, price.high]).flatten();
    let low = ends().fold(first.value, f64::min);
    let high = ends().fold(first.value, f64::max);
    let dated = |price: &Spec<U>| match &price.date {
        // A price is often as old as its source, which says so already.
        Some(date) if !price.source.ends_with(date.as_str()) => {
            format!("{} ({date})", price.source)
        }
        Some(_) | None => price.source.clone(),
    };
    let mut sources: Vec<String> = prices.iter().map(dated).collect();
    sources.dedup();
    Some(Figure::estimated(first.value, low, high, sources.join("; ")))
}

impl Figures for Chip {
    fn each(&mut self, at: &str, see: See<'_>) {
        each_field!(self, at, see, year, process_nm, die_mm2, dies, board_mm2, power_w);
        for price in &mut self.price_usd {
            see("price_usd", None, price as &mut dyn AnySpec);
        }
        for price in &mut self.price_usd_per_hour {
            see("price_usd_per_hour", None, price as &mut dyn AnySpec);
        }
        match &mut self.body {
            Body::Compute(body) => body.each("compute", see),
            Body::Fabric(body) => body.each("fabric", see),
            Body::Spiking(body) => body.each("spiking", see),
            Body::Quantum(body) => body.each("quantum", see),
        }
        if let Some(systolic) = &mut self.systolic {
            systolic.each("systolic", see);
        }
    }
}
