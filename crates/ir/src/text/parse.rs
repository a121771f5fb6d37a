//! Text into a graph.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::Arc;

use anychip_tensor::{DType, Dim, Tensor};

use super::lex::{Lexer, ParseError, Problem, Word};
use super::settings;
use crate::rewrite::number_after;
use crate::{Attribute, Builder, CompositeRow, Graph, Op, Prim, TensorType, ValueId};

/// How deep regions and formulas may nest.
const DEEPEST: usize = 24;
/// How many terms a formula and how many factors a term may have.
const LONGEST_FORMULA: usize = 64;

/// The graph that a text describes. Composites are looked up in `rows`; operands are typed as a builder
/// types them, so what parses is well formed.
pub fn parse(text: &str, rows: &[CompositeRow]) -> Result<Graph, ParseError> {
    let mut parser = Parser { lexer: Lexer::new(text)?, rows, depth: 0 };
    let mut b = Builder::new("");
    b.reserve_symbols(first_free_symbol(text));
    let graph = parser.graph(b)?;
    match parser.lexer.peek() {
        Word::End => Ok(graph),
        _ => Err(parser.lexer.expected("the end")),
    }
}

/// One more than the largest `n` of a `?n` anywhere in the text.
fn first_free_symbol(text: &str) -> usize {
    text.split('?')
        .skip(1)
        .filter_map(|after| {
            let digits = after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len());
            number_after(&after[..digits])
        })
        .max()
        .unwrap_or(0)
}

struct Parser<'a, 'r> {
    lexer: Lexer<'a>,
    rows: &'r [CompositeRow],
    depth: usize,
}

type Parsed<T> = Result<T, ParseError>;

/// A value as it is written where it is defined.
struct Defined {
    number: u64,
    name: Option<String>,
    ty: Option<TensorType>,
    at: usize,
}

impl Parser<'_, '_> {
    fn mark(&mut self, mark: char, expected: &'static str) -> Parsed<()> {
        if self.take_mark(mark)? { Ok(()) } else { Err(self.lexer.expected(expected)) }
    }

    fn take_mark(&mut self, mark: char) -> Parsed<bool> {
        let found = *self.lexer.peek() == Word::Mark(mark);
        if found {
            self.lexer.take()?;
        }
        Ok(found)
    }

    fn take_name(&mut self, name: &str) -> Parsed<bool> {
        let found = matches!(self.lexer.peek(), Word::Name(own) if *own == name);
        if found {
            self.lexer.take()?;
        }
        Ok(found)
    }

    fn keyword(&mut self, name: &str, expected: &'static str) -> Parsed<()> {
        if self.take_name(name)? { Ok(()) } else { Err(self.lexer.expected(expected)) }
    }

    fn name(&mut self, expected: &'static str) -> Parsed<String> {
        match self.lexer.peek() {
            Word::Name(name) => {
                let name = (*name).to_string();
                self.lexer.take()?;
                Ok(name)
            }
            _ => Err(self.lexer.expected(expected)),
        }
    }

    fn quoted(&mut self, expected: &'static str) -> Parsed<String> {
        match self.take_quoted()? {
            Some(text) => Ok(text),
            None => Err(self.lexer.expected(expected)),
        }
    }

    fn take_quoted(&mut self) -> Parsed<Option<String>> {
        if !matches!(self.lexer.peek(), Word::Text(_)) {
            return Ok(None);
        }
        match self.lexer.take()? {
            Word::Text(text) => Ok(Some(text)),
            _ => Ok(None),
        }
    }

    fn value(&mut self) -> Parsed<u64> {
        match *self.lexer.peek() {
            Word::Value(number) => {
                self.lexer.take()?;
                Ok(number)
            }
            _ => Err(self.lexer.expected("a value (%number)")),
        }
    }

    /// A value that is defined before.
    fn operand(&mut self, values: &BTreeMap<u64, ValueId>) -> Parsed<ValueId> {
        let place = self.lexer.at();
        let number = self.value()?;
        let found = values.get(&number).copied();
        found.ok_or_else(|| self.lexer.error_at(place, Problem::UnknownValue(number)))
    }

    /// What stands between two marks, separated by commas; the opening mark is already taken.
    fn list<T>(
        &mut self,
        close: char,
        mut one: impl FnMut(&mut Self) -> Parsed<T>,
    ) -> Parsed<Vec<T>> {
        let mut items = Vec::new();
        if self.take_mark(close)? {
            return Ok(items);
        }
        loop {
            items.push(one(self)?);
            if self.take_mark(close)? {
                return Ok(items);
            }
            self.mark(',', "`,` or the end of the list")?;
        }
    }

    fn deeper(&mut self) -> Parsed<()> {
        self.depth += 1;
        if self.depth > DEEPEST { Err(self.lexer.error(Problem::TooDeep)) } else { Ok(()) }
    }

    fn graph(&mut self, mut b: Builder) -> Parsed<Graph> {
        self.deeper()?;
        self.keyword("graph", "`graph`")?;
        b.rename(&self.quoted("the graph's name in quotes")?);
        let mut values: BTreeMap<u64, ValueId> = BTreeMap::new();
        self.mark('(', "`(`")?;
        for input in self.list(')', Self::defined)? {
            let Some(ty) = input.ty else {
                return Err(self.lexer.error_at(input.at, expected("the input's type", "none")));
            };
            let value = b.input(input.name.as_deref().unwrap_or_default(), ty);
            if values.insert(input.number, value).is_some() {
                return Err(self.lexer.error_at(input.at, Problem::Redefined(input.number)));
            }
        }
        self.mark('{', "`{`")?;
        while !self.take_name("return")? {
            self.node(&mut b, &mut values)?;
        }
        let mut outputs: Vec<(Arc<str>, ValueId)> = Vec::new();
        if !self.take_mark('}')? {
            outputs = self.list('}', |parser| {
                let value = parser.operand(&values)?;
                Ok((parser.quoted("the output's name in quotes")?.into(), value))
            })?;
        }
        self.depth -= 1;
        Ok(b.finish_named(&outputs))
    }

    /// `%3 "name": f32[n]`, name and type optional.
    fn defined(&mut self) -> Parsed<Defined> {
        let at = self.lexer.at();
        let number = self.value()?;
        let name = self.take_quoted()?;
        let ty = if self.take_mark(':')? { Some(self.ty()?) } else { None };
        Ok(Defined { number, name, ty, at })
    }

    fn ty(&mut self) -> Parsed<TensorType> {
        let dtype = self.dtype()?;
        self.mark('[', "`[`")?;
        let shape = self.list(']', Self::dim)?;
        Ok(TensorType { dtype, shape })
    }

    fn dtype(&mut self) -> Parsed<DType> {
        let found = match self.lexer.peek() {
            Word::Name(name) => name.parse().ok(),
            _ => None,
        };
        match found {
            Some(dtype) => {
                self.lexer.take()?;
                Ok(dtype)
            }
            None => Err(self.lexer.expected("an element type")),
        }
    }

    fn dim(&mut self) -> Parsed<Dim> {
        self.deeper()?;
        let mut sum = Dim::Fixed(0);
        let mut negative = self.take_mark('-')?;
        for _ in 0..LONGEST_FORMULA {
            let term = self.term()?;
            sum = if negative { sum - term } else { sum + term };
            negative = *self.lexer.peek() == Word::Mark('-');
            if !negative && *self.lexer.peek() != Word::Mark('+') {
                self.depth -= 1;
                return Ok(sum);
            }
            self.lexer.take()?;
        }
        Err(self.lexer.error(Problem::TooDeep))
    }

    fn term(&mut self) -> Parsed<Dim> {
        let mut product = self.factor()?;
        let mut factors = 1;
        while self.take_mark('*')? {
            factors += 1;
            if factors > LONGEST_FORMULA {
                return Err(self.lexer.error(Problem::TooDeep));
            }
            product = product * self.factor()?;
        }
        Ok(product)
    }

    fn factor(&mut self) -> Parsed<Dim> {
        if let Some(name) = self.take_quoted()? {
            return Ok(Dim::sym(&name));
        }
        match *self.lexer.peek() {
            Word::Number(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => {
                // Digit by digit, because a coefficient may be larger than any size.
                if digits.len() > 40 {
                    return Err(self.lexer.error(Problem::TooDeep));
                }
                let value = digits.bytes().fold(Dim::Fixed(0), |value, digit| {
                    value * Dim::Fixed(10) + Dim::Fixed(usize::from(digit - b'0'))
                });
                self.lexer.take()?;
                Ok(value)
            }
            Word::Name(function @ ("max" | "min" | "floordiv")) => {
                self.lexer.take()?;
                self.mark('(', "`(`")?;
                let a = self.dim()?;
                self.mark(',', "`,`")?;
                let b = self.dim()?;
                self.mark(')', "`)`")?;
                Ok(match function {
                    "max" => a.maximum(&b),
                    "min" => a.minimum(&b),
                    _ => a.floor_div(&b),
                })
            }
            Word::Name(name) if !name.contains('-') => {
                self.lexer.take()?;
                Ok(Dim::sym(name))
            }
            _ => Err(self.lexer.expected("a size")),
        }
    }

    fn node(&mut self, b: &mut Builder, values: &mut BTreeMap<u64, ValueId>) -> Parsed<()> {
        let mut results = vec![self.defined()?];
        while self.take_mark(',')? {
            results.push(self.defined()?);
        }
        self.mark('=', "`=`")?;
        let place = self.lexer.at();
        let operator = self.name("an operator")?;
        let constant = if operator == "constant" {
            let Some(ty) = &results[0].ty else {
                return Err(self
                    .lexer
                    .error_at(results[0].at, expected("the constant's type", "none")));
            };
            Some(self.constant(ty)?)
        } else {
            None
        };
        let mut operands = Vec::new();
        if constant.is_none() && self.take_mark('(')? {
            self.mark(')', "`)`: operands stand without parentheses")?;
        } else if constant.is_none() {
            operands.push(self.operand(values)?);
            while self.take_mark(',')? {
                operands.push(self.operand(values)?);
            }
        }
        let settings =
            if self.take_mark('{')? { self.list('}', Self::setting)? } else { Vec::new() };
        let mut regions = Vec::new();
        if self.take_name("regions")? {
            self.mark('(', "`(`")?;
            let scope = &*b;
            regions = self.list(')', |parser| parser.graph(scope.region("")))?;
        }
        let name =
            if self.take_mark('@')? { self.quoted("the node's name")? } else { String::new() };
        let op = match constant {
            Some(tensor) if settings.is_empty() => Op::Prim(Prim::Constant(tensor)),
            Some(_) => return Err(self.lexer.error_at(place, Problem::Settings(operator))),
            None => self
                .operator(&operator, &settings)
                .map_err(|problem| self.lexer.error_at(place, problem))?,
        };
        let before = b.set_scope(name);
        let made = b.node(op, &operands, regions);
        b.set_scope(before);
        let made = made.map_err(|error| self.lexer.error_at(place, Problem::Operator(error)))?;
        if made.len() != results.len() {
            let (expected, found) = (made.len(), results.len());
            return Err(self
                .lexer
                .error_at(place, Problem::Results { op: operator, expected, found }));
        }
        for (result, value) in results.into_iter().zip(made) {
            if let Some(ty) = result.ty {
                let expected = b.ty(value).clone();
                if !b.retype(value, &ty) {
                    return Err(self
                        .lexer
                        .error_at(result.at, Problem::Type { found: ty, expected }));
                }
            }
            if let Some(name) = result.name {
                b.name_value(value, &name);
            }
            if values.insert(result.number, value).is_some() {
                return Err(self.lexer.error_at(result.at, Problem::Redefined(result.number)));
            }
        }
        Ok(())
    }

    fn operator(&self, name: &str, attributes: &[(String, Attribute)]) -> Result<Op, Problem> {
        if settings::is_prim(name) {
            return settings::to_prim(name, attributes)
                .map(Op::Prim)
                .ok_or_else(|| Problem::Settings(name.to_string()));
        }
        let row = self
            .rows
            .iter()
            .find(|row| row.name == name)
            .ok_or_else(|| Problem::UnknownOperator(name.to_string()))?;
        (row.from_attributes)(attributes)
            .map(Op::Composite)
            .ok_or_else(|| Problem::Settings(name.to_string()))
    }

    fn setting(&mut self) -> Parsed<(String, Attribute)> {
        let key = self.name("a setting's name")?;
        self.mark('=', "`=`")?;
        Ok((key, self.attribute()?))
    }

    fn attribute(&mut self) -> Parsed<Attribute> {
        if let Some(text) = self.take_quoted()? {
            return Ok(Attribute::Text(text));
        }
        if self.take_mark('[')? {
            return Ok(Attribute::Ints(self.list(']', Self::integer)?));
        }
        if self.take_name("true")? {
            return Ok(Attribute::Bool(true));
        }
        if self.take_name("false")? {
            return Ok(Attribute::Bool(false));
        }
        if self.take_name("floats")? {
            self.mark('[', "`[`")?;
            return Ok(Attribute::Floats(self.list(']', Self::float)?));
        }
        if self.take_name("texts")? {
            self.mark('[', "`[`")?;
            let texts = self.list(']', |parser| parser.quoted("a quoted text"))?;
            return Ok(Attribute::Texts(texts));
        }
        if let Word::Name(name) = self.lexer.peek()
            && let Ok(dtype) = name.parse()
        {
            self.lexer.take()?;
            return Ok(Attribute::DType(dtype));
        }
        let word = self.number("a setting's value")?;
        if let Ok(integer) = word.parse() {
            return Ok(Attribute::Int(integer));
        }
        word.parse().map(Attribute::Float).map_err(|_| self.lexer.expected("a number"))
    }

    /// A signed number as written; `inf` and `nan` are numbers.
    fn number(&mut self, expected: &'static str) -> Parsed<String> {
        let sign = if self.take_mark('-')? { "-" } else { "" };
        match *self.lexer.peek() {
            Word::Number(digits) => {
                self.lexer.take()?;
                Ok(format!("{sign}{digits}"))
            }
            Word::Name(name @ ("inf" | "nan")) => {
                self.lexer.take()?;
                Ok(format!("{sign}{name}"))
            }
            _ => Err(self.lexer.expected(expected)),
        }
    }

    fn integer<T: FromStr>(&mut self) -> Parsed<T> {
        self.parsed("an integer in range")
    }

    fn float(&mut self) -> Parsed<f64> {
        self.parsed("a number")
    }

    fn parsed<T: FromStr>(&mut self, wanted: &'static str) -> Parsed<T> {
        let place = self.lexer.at();
        let word = self.number(wanted)?;
        word.parse().map_err(|_| self.lexer.error_at(place, expected(wanted, &word)))
    }

    /// `[1.0, 2.0]` or `hex "…"`
    fn constant(&mut self, ty: &TensorType) -> Parsed<Tensor> {
        let place = self.lexer.at();
        let elements = self.elements(ty)?;
        elements.ok_or_else(|| self.lexer.error_at(place, Problem::Elements(ty.clone())))
    }

    /// `None` where the elements do not fit the type.
    fn elements(&mut self, ty: &TensorType) -> Parsed<Option<Tensor>> {
        let Some(shape) = ty.fixed_shape() else { return Ok(None) };
        if self.take_name("hex")? {
            let digits = self.quoted("bytes in quotes")?;
            let read = |bytes: Vec<u8>| Tensor::from_bytes(ty.dtype, shape, bytes.into()).ok();
            return Ok(bytes(&digits).and_then(read));
        }
        self.mark('[', "`[` or `hex`")?;
        if ty.dtype.is_float() {
            let values = self.list(']', Self::float)?;
            return Ok(Tensor::from_f64(ty.dtype, shape, &values).ok());
        }
        let values: Vec<i128> = self.list(']', |parser| {
            if parser.take_name("true")? {
                return Ok(1);
            }
            if parser.take_name("false")? {
                return Ok(0);
            }
            parser.integer()
        })?;
        let (low, high) = ty.dtype.integer_range().unwrap_or((0, 0));
        let in_range = values.iter().all(|v| (low..=high).contains(v));
        Ok(Tensor::from_integers(ty.dtype, shape, &values).ok().filter(|_| in_range))
    }
}

fn expected(expected: &'static str, found: &str) -> Problem {
    Problem::Expected { expected, found: found.to_string() }
}

fn bytes(digits: &str) -> Option<Vec<u8>> {
    let digits = digits.as_bytes();
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    let value = |digit: u8| (digit as char).to_digit(16).map(|v| v as u8);
    digits.chunks(2).map(|pair| Some(value(pair[0])? << 4 | value(pair[1])?)).collect()
}
