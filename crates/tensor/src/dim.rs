//! Sizes that may not be known yet: numbers, names, and polynomials of names.
//!
//! A polynomial is kept canonical (a sorted map from monomial to coefficient), so two dims computed in
//! different ways compare equal when they are equal as polynomials. Division, maximum and minimum
//! that do not simplify become opaque atoms of it.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::{Add, Mul, Sub};
use std::sync::Arc;

/// The name of a size: `batch`, `sequence`, or `?3` for one that only a run can tell.
pub type Symbol = Arc<str>;

/// One dim of a shape, never negative once known.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Dim {
    /// Known now.
    Fixed(usize),
    /// A named size.
    Sym(Symbol),
    /// A polynomial of named sizes that is neither a number nor a single name.
    Expr(Arc<Polynomial>),
}

/// Something that a [`Polynomial`] multiplies: a name, or an operation that is not polynomial.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Atom {
    /// A named size.
    Sym(Symbol),
    /// `⌊a ÷ b⌋`
    FloorDiv(Dim, Dim),
    /// The larger of two.
    Max(Dim, Dim),
    /// The smaller of two.
    Min(Dim, Dim),
}

/// Product of atoms, sorted, repeated for powers; empty is 1.
type Monomial = Vec<Atom>;

/// Sum of monomials with non-zero coefficients.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Debug)]
pub struct Polynomial(BTreeMap<Monomial, i128>);

impl Dim {
    /// A named size.
    pub fn sym(name: &str) -> Dim {
        Dim::Sym(name.into())
    }

    /// The number, when it is known.
    pub fn fixed(&self) -> Option<usize> {
        match self {
            Dim::Fixed(n) => Some(*n),
            Dim::Sym(_) | Dim::Expr(_) => None,
        }
    }

    /// As a signed number: a shape value under computation may be negative for a while.
    pub fn constant(&self) -> Option<i64> {
        match self {
            Dim::Fixed(n) => i64::try_from(*n).ok(),
            Dim::Sym(_) => None,
            Dim::Expr(p) => p.constant().and_then(|c| i64::try_from(c).ok()),
        }
    }

    /// From a signed number; a negative one is an expression, as only a step of a computation can be.
    pub fn from_i64(value: i64) -> Dim {
        if let Ok(value) = usize::try_from(value) {
            return Dim::Fixed(value);
        }
        Polynomial::from_constant(i128::from(value)).into_dim()
    }

    /// `⌊self ÷ divisor⌋`; exact where the division of polynomials is.
    #[must_use]
    pub fn floor_div(&self, divisor: &Dim) -> Dim {
        if let (Dim::Fixed(a), Dim::Fixed(b @ 1..)) = (self, divisor) {
            return Dim::Fixed(a / b);
        }
        let (a, b) = (self.polynomial(), divisor.polynomial());
        if let (Some(a), Some(b)) = (a.constant(), b.constant())
            && b != 0
        {
            return Polynomial::from_constant(a.div_euclid(b)).into_dim();
        }
        if let Some(quotient) = a.divide_exactly(&b) {
            return quotient.into_dim();
        }
        if let Some(b) = b.constant().filter(|&b| b > 0) {
            // ⌊(q·b + r) ÷ b⌋ = q + ⌊r ÷ b⌋, whichever terms make up q: so equal quotients have one form.
            let (mut whole, mut rest) = (Polynomial::default(), Polynomial::default());
            for (monomial, &coefficient) in &a.0 {
                if monomial.is_empty() || coefficient % b == 0 {
                    whole.add_term(monomial, coefficient.div_euclid(b));
                    rest.add_term(monomial, coefficient.rem_euclid(b));
                } else {
                    rest.add_term(monomial, coefficient);
                }
            }
            if let Some(constant) = rest.constant() {
                debug_assert!((0..b).contains(&constant));
                return whole.into_dim();
            }
            let atom = Atom::FloorDiv(rest.into_dim(), divisor.clone());
            return whole.combine(&Polynomial::from_atom(atom), 1).into_dim();
        }
        Polynomial::from_atom(Atom::FloorDiv(self.clone(), divisor.clone())).into_dim()
    }

    /// `⌈self ÷ divisor⌉` for a positive number.
    #[must_use]
    pub fn ceil_div(&self, divisor: usize) -> Dim {
        let d = Dim::Fixed(divisor);
        if let Some(q) = self.polynomial().divide_exactly(&d.polynomial()) {
            return q.into_dim();
        }
        (self.clone() + Dim::Fixed(divisor.saturating_sub(1))).floor_div(&d)
    }

    /// The sum of many: as adding one after another gives it, without the sums on the way.
    #[must_use]
    pub fn sum<'a>(dims: impl IntoIterator<Item = &'a Dim>) -> Dim {
        let mut fixed = Dim::Fixed(0);
        let mut sum = Polynomial::default();
        for dim in dims {
            match dim {
                Dim::Fixed(_) => fixed = fixed + dim.clone(),
                Dim::Sym(name) => sum.add_term(&vec![Atom::Sym(name.clone())], 1),
                Dim::Expr(p) => p.0.iter().for_each(|(m, c)| sum.add_term(m, *c)),
            }
        }
        sum.into_dim() + fixed
    }

    /// The larger of two.
    #[must_use]
    pub fn maximum(&self, other: &Dim) -> Dim {
        if let (Dim::Fixed(a), Dim::Fixed(b)) = (self, other) {
            return Dim::Fixed(*a.max(b));
        }
        match (self.clone() - other.clone()).constant() {
            Some(difference) if difference >= 0 => self.clone(),
            Some(_) => other.clone(),
            None => {
                let (a, b) = order(self, other);
                Polynomial::from_atom(Atom::Max(a, b)).into_dim()
            }
        }
    }

    /// The smaller of two.
    #[must_use]
    pub fn minimum(&self, other: &Dim) -> Dim {
        if let (Dim::Fixed(a), Dim::Fixed(b)) = (self, other) {
            return Dim::Fixed(*a.min(b));
        }
        match (self.clone() - other.clone()).constant() {
            Some(difference) if difference <= 0 => self.clone(),
            Some(_) => other.clone(),
            None => {
                let (a, b) = order(self, other);
                Polynomial::from_atom(Atom::Min(a, b)).into_dim()
            }
        }
    }

    /// The value when every name in it has one; `None` when a name is unbound or the result negative.
    pub fn evaluate(&self, bindings: &dyn Fn(&str) -> Option<usize>) -> Option<usize> {
        usize::try_from(self.evaluate_signed(bindings)?).ok()
    }

    /// As [`Dim::evaluate`], for values that may be negative.
    pub fn evaluate_signed(&self, bindings: &dyn Fn(&str) -> Option<usize>) -> Option<i128> {
        match self {
            Dim::Fixed(n) => Some(*n as i128),
            Dim::Sym(s) => bindings(s).map(|n| n as i128),
            Dim::Expr(p) => p.evaluate(bindings),
        }
    }

    /// Replaces names by other dims; names that `replace` does not know stay.
    #[must_use]
    pub fn substitute(&self, replace: &dyn Fn(&str) -> Option<Dim>) -> Dim {
        match self {
            Dim::Fixed(_) => self.clone(),
            Dim::Sym(s) => replace(s).unwrap_or_else(|| self.clone()),
            Dim::Expr(p) => p.substitute(replace),
        }
    }

    /// Every name in it, in order of appearance, with repeats.
    pub fn symbols(&self) -> Vec<Symbol> {
        match self {
            Dim::Fixed(_) => Vec::new(),
            Dim::Sym(s) => vec![s.clone()],
            Dim::Expr(p) => p.0.keys().flatten().flat_map(Atom::symbols).collect(),
        }
    }

    /// As a polynomial.
    pub fn polynomial(&self) -> Polynomial {
        match self {
            Dim::Fixed(n) => Polynomial::from_constant(*n as i128),
            Dim::Sym(s) => Polynomial::from_atom(Atom::Sym(s.clone())),
            Dim::Expr(p) => (**p).clone(),
        }
    }
}

fn order(a: &Dim, b: &Dim) -> (Dim, Dim) {
    if a <= b { (a.clone(), b.clone()) } else { (b.clone(), a.clone()) }
}

impl Atom {
    fn symbols(&self) -> Vec<Symbol> {
        match self {
            Atom::Sym(s) => vec![s.clone()],
            Atom::FloorDiv(a, b) | Atom::Max(a, b) | Atom::Min(a, b) => {
                let mut all = a.symbols();
                all.extend(b.symbols());
                all
            }
        }
    }

    fn evaluate(&self, bindings: &dyn Fn(&str) -> Option<usize>) -> Option<i128> {
        match self {
            Atom::Sym(s) => bindings(s).map(|n| n as i128),
            Atom::FloorDiv(a, b) => {
                let (a, b) = (a.evaluate_signed(bindings)?, b.evaluate_signed(bindings)?);
                if b == 0 { None } else { Some(a.div_euclid(b)) }
            }
            Atom::Max(a, b) => Some(a.evaluate_signed(bindings)?.max(b.evaluate_signed(bindings)?)),
            Atom::Min(a, b) => Some(a.evaluate_signed(bindings)?.min(b.evaluate_signed(bindings)?)),
        }
    }

    fn substitute(&self, replace: &dyn Fn(&str) -> Option<Dim>) -> Dim {
        match self {
            Atom::Sym(s) => replace(s).unwrap_or_else(|| Dim::Sym(s.clone())),
            Atom::FloorDiv(a, b) => a.substitute(replace).floor_div(&b.substitute(replace)),
            Atom::Max(a, b) => a.substitute(replace).maximum(&b.substitute(replace)),
            Atom::Min(a, b) => a.substitute(replace).minimum(&b.substitute(replace)),
        }
    }
}

impl Polynomial {
    fn from_constant(value: i128) -> Polynomial {
        let mut terms = BTreeMap::new();
        if value != 0 {
            terms.insert(Vec::new(), value);
        }
        Polynomial(terms)
    }

    fn from_atom(atom: Atom) -> Polynomial {
        Polynomial(BTreeMap::from([(vec![atom], 1)]))
    }

    /// The terms: coefficient and atoms multiplied.
    pub fn terms(&self) -> impl Iterator<Item = (i128, &[Atom])> {
        self.0.iter().map(|(monomial, &coefficient)| (coefficient, monomial.as_slice()))
    }

    fn constant(&self) -> Option<i128> {
        match self.0.len() {
            0 => Some(0),
            1 => self.0.get(&Vec::new()).copied(),
            _ => None,
        }
    }

    fn into_dim(self) -> Dim {
        if let Some(value) = self.constant()
            && let Ok(value) = usize::try_from(value)
        {
            return Dim::Fixed(value);
        }
        if self.0.len() == 1
            && let Some((monomial, 1)) = self.0.first_key_value()
            && let [Atom::Sym(name)] = monomial.as_slice()
        {
            return Dim::Sym(name.clone());
        }
        Dim::Expr(Arc::new(self))
    }

    fn add_term(&mut self, monomial: &Monomial, coefficient: i128) {
        let entry = self.0.entry(monomial.clone()).or_insert(0);
        *entry = entry.saturating_add(coefficient);
        if *entry == 0 {
            self.0.remove(monomial);
        }
    }

    fn combine(&self, other: &Polynomial, sign: i128) -> Polynomial {
        let mut sum = self.clone();
        for (monomial, coefficient) in &other.0 {
            sum.add_term(monomial, coefficient.saturating_mul(sign));
        }
        sum
    }

    fn multiply(&self, other: &Polynomial) -> Polynomial {
        let mut product = Polynomial::default();
        for (a, x) in &self.0 {
            for (b, y) in &other.0 {
                let mut monomial = a.clone();
                monomial.extend(b.iter().cloned());
                monomial.sort();
                product.add_term(&monomial, x.saturating_mul(*y));
            }
        }
        product
    }

    /// The quotient when `divisor` is a single term that divides every term of `self`, or when both
    /// are the same polynomial up to a factor.
    fn divide_exactly(&self, divisor: &Polynomial) -> Option<Polynomial> {
        if divisor.0.len() == 1 {
            let (factor, &scale) = divisor.0.first_key_value()?;
            let mut quotient = Polynomial::default();
            for (monomial, coefficient) in &self.0 {
                if coefficient % scale != 0 {
                    return None;
                }
                let mut rest = monomial.clone();
                for atom in factor {
                    rest.remove(rest.iter().position(|a| a == atom)?);
                }
                quotient.add_term(&rest, coefficient / scale);
            }
            return Some(quotient);
        }
        let (monomial, coefficient) = divisor.0.first_key_value()?;
        // Try the quotient's one term: the ratio of matching leading terms.
        for (own, own_coefficient) in &self.0 {
            if own_coefficient % coefficient != 0 {
                continue;
            }
            let mut rest = own.clone();
            let divides = monomial
                .iter()
                .all(|atom| rest.iter().position(|a| a == atom).map(|i| rest.remove(i)).is_some());
            if divides {
                let term = Polynomial(BTreeMap::from([(rest, own_coefficient / coefficient)]));
                if term.multiply(divisor) == *self {
                    return Some(term);
                }
            }
        }
        None
    }

    fn evaluate(&self, bindings: &dyn Fn(&str) -> Option<usize>) -> Option<i128> {
        let mut sum = 0i128;
        for (monomial, coefficient) in &self.0 {
            let mut product = *coefficient;
            for atom in monomial {
                product = product.checked_mul(atom.evaluate(bindings)?)?;
            }
            sum = sum.checked_add(product)?;
        }
        Some(sum)
    }

    fn substitute(&self, replace: &dyn Fn(&str) -> Option<Dim>) -> Dim {
        let mut sum = Polynomial::default();
        for (monomial, coefficient) in &self.0 {
            let mut product = Polynomial::from_constant(*coefficient);
            for atom in monomial {
                product = product.multiply(&atom.substitute(replace).polynomial());
            }
            sum = sum.combine(&product, 1);
        }
        sum.into_dim()
    }
}

impl From<usize> for Dim {
    fn from(value: usize) -> Dim {
        Dim::Fixed(value)
    }
}

impl Add for Dim {
    type Output = Dim;
    fn add(self, other: Dim) -> Dim {
        match (&self, &other) {
            (Dim::Fixed(0), _) => return other,
            (_, Dim::Fixed(0)) => return self,
            (Dim::Fixed(a), Dim::Fixed(b)) => {
                if let Some(sum) = a.checked_add(*b) {
                    return Dim::Fixed(sum);
                }
            }
            _ => {}
        }
        self.polynomial().combine(&other.polynomial(), 1).into_dim()
    }
}

impl Sub for Dim {
    type Output = Dim;
    fn sub(self, other: Dim) -> Dim {
        match (&self, &other) {
            (_, Dim::Fixed(0)) => return self,
            (Dim::Fixed(a), Dim::Fixed(b)) => {
                if let Some(difference) = a.checked_sub(*b) {
                    return Dim::Fixed(difference);
                }
            }
            _ => {}
        }
        self.polynomial().combine(&other.polynomial(), -1).into_dim()
    }
}

impl Mul for Dim {
    type Output = Dim;
    fn mul(self, other: Dim) -> Dim {
        match (&self, &other) {
            (Dim::Fixed(1), _) => return other,
            (_, Dim::Fixed(1)) => return self,
            (Dim::Fixed(a), Dim::Fixed(b)) => {
                if let Some(product) = a.checked_mul(*b) {
                    return Dim::Fixed(product);
                }
            }
            _ => {}
        }
        self.polynomial().multiply(&other.polynomial()).into_dim()
    }
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Dim::Fixed(n) => write!(f, "{n}"),
            Dim::Sym(s) => f.write_str(s),
            Dim::Expr(p) => write!(f, "{p}"),
        }
    }
}

impl fmt::Debug for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Display for Atom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Atom::Sym(s) => f.write_str(s),
            Atom::FloorDiv(a, b) => write!(f, "floordiv({a}, {b})"),
            Atom::Max(a, b) => write!(f, "max({a}, {b})"),
            Atom::Min(a, b) => write!(f, "min({a}, {b})"),
        }
    }
}

impl fmt::Display for Polynomial {
    /// `2*batch*sequence + 3`, highest monomials last as sorted; parses back in the IR's text form.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("0");
        }
        for (i, (monomial, coefficient)) in self.0.iter().rev().enumerate() {
            let sign = if *coefficient < 0 { "-" } else { "+" };
            match (i, sign) {
                (0, "-") => f.write_str("-")?,
                (0, _) => {}
                (_, sign) => write!(f, " {sign} ")?,
            }
            let magnitude = coefficient.unsigned_abs();
            if monomial.is_empty() || magnitude != 1 {
                write!(f, "{magnitude}")?;
            }
            for (j, atom) in monomial.iter().enumerate() {
                if j > 0 || magnitude != 1 {
                    f.write_str("*")?;
                }
                write!(f, "{atom}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_polynomials_are_equal_dims() {
        let (b, s) = (Dim::sym("b"), Dim::sym("s"));
        let left = (b.clone() + s.clone()) * Dim::Fixed(2);
        let right = s.clone() + b.clone() * Dim::Fixed(2) + s.clone();
        assert_eq!(left, right);
        assert_eq!(b.clone() - b.clone(), Dim::Fixed(0));
        assert_eq!(b.clone() + s.clone() - s, b);
    }

    #[test]
    fn a_sum_is_what_adding_gives() {
        let (a, b) = (Dim::sym("a"), Dim::sym("b"));
        let dims = [a.clone(), Dim::Fixed(2), b.clone() - a.clone(), b, Dim::Fixed(3), a];
        let added = dims.iter().cloned().fold(Dim::Fixed(0), |sum, dim| sum + dim);
        assert_eq!(Dim::sum(&dims), added);
        assert_eq!(Dim::sum(&dims[..0]), Dim::Fixed(0));
    }

    #[test]
    fn division_is_exact_where_it_can_be() {
        let b = Dim::sym("b");
        let elements = b.clone() * Dim::Fixed(197 * 768);
        assert_eq!(elements.floor_div(&Dim::Fixed(197 * 768)), b);
        assert_eq!(elements.floor_div(&b), Dim::Fixed(197 * 768));
        let sum = (b.clone() + Dim::Fixed(1)) * Dim::Fixed(4);
        assert_eq!(sum.floor_div(&(b.clone() + Dim::Fixed(1))), Dim::Fixed(4));
        assert_eq!(b.floor_div(&Dim::Fixed(2)).to_string(), "floordiv(b, 2)");
        assert_eq!(b.ceil_div(2).evaluate(&|_| Some(7)), Some(4));
        let window = (b.clone() * Dim::Fixed(4) + b.clone() * b.clone() - Dim::Fixed(3))
            .floor_div(&Dim::Fixed(2));
        assert_eq!(window.to_string(), "floordiv(b*b + 1, 2) + 2*b - 2");
        for n in 0..9i128 {
            let value = window.evaluate_signed(&|_| Some(n as usize));
            assert_eq!(value, Some((4 * n + n * n - 3).div_euclid(2)));
        }
    }

    #[test]
    fn maximum_simplifies_when_the_difference_is_known() {
        let b = Dim::sym("b");
        assert_eq!(b.maximum(&(b.clone() + Dim::Fixed(1))), b.clone() + Dim::Fixed(1));
        assert_eq!(b.minimum(&Dim::Fixed(3)).evaluate(&|_| Some(9)), Some(3));
    }

    #[test]
    fn huge_dims_saturate_instead_of_wrapping() {
        let huge = Dim::Fixed(usize::MAX);
        let product = huge.clone() * huge.clone() * huge;
        assert_eq!(product.fixed(), None);
    }

    #[test]
    fn displays_as_a_formula() {
        let d = Dim::sym("b") * Dim::Fixed(12) - Dim::Fixed(3);
        assert_eq!(d.to_string(), "12*b - 3");
    }
}
