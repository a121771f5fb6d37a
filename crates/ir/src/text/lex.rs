//! Text into words, each with the place it stands at.

use crate::{IrError, TensorType};

/// Why a text is no graph, and where.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{line}:{column}: {problem}")]
pub struct ParseError {
    /// The line, from 1.
    pub line: usize,
    /// The character in the line, from 1.
    pub column: usize,
    /// What is wrong there.
    pub problem: Problem,
}

/// What can be wrong with a text.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Problem {
    /// A character that starts no word.
    #[error("`{0}` starts no word")]
    Character(char),
    /// A quoted text that does not end or has an unknown escape.
    #[error("a quoted text does not end or has an unknown escape")]
    Text,
    /// Another word than the grammar allows.
    #[error("expected {expected}, found {found}")]
    Expected {
        /// What could stand there.
        expected: &'static str,
        /// What does.
        found: String,
    },
    /// A value that nothing before defines.
    #[error("%{0} is not defined before")]
    UnknownValue(u64),
    /// A value defined twice.
    #[error("%{0} is defined twice")]
    Redefined(u64),
    /// An operator that is neither a primitive nor in the table of composites.
    #[error("no operator `{0}`")]
    UnknownOperator(String),
    /// Settings that the operator does not take as they are.
    #[error("`{0}` does not take these settings")]
    Settings(String),
    /// A number of results other than the operator gives.
    #[error("`{op}` gives {expected} results, and {found} are named")]
    Results {
        /// The operator.
        op: String,
        /// How many it gives.
        expected: usize,
        /// How many names stand there.
        found: usize,
    },
    /// A type that does not follow from the operands.
    #[error("the result is written {found} and follows to be {expected}")]
    Type {
        /// As written.
        found: TensorType,
        /// As derived.
        expected: TensorType,
    },
    /// A constant whose elements do not fit its type.
    #[error("the elements do not fit {0}")]
    Elements(TensorType),
    /// Nested more deeply, or a longer formula, than any graph needs.
    #[error("nested too deeply or too long a formula")]
    TooDeep,
    /// An operator that cannot be applied to these operands.
    #[error(transparent)]
    Operator(IrError),
}

/// One word.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Word<'a> {
    /// `%12`
    Value(u64),
    /// A name, keyword or operator.
    Name(&'a str),
    /// An unsigned number as written.
    Number(&'a str),
    /// A quoted text, without quotes and escapes.
    Text(String),
    /// A single character of punctuation.
    Mark(char),
    /// The end.
    End,
}

impl Word<'_> {
    pub(super) fn describe(&self) -> String {
        match self {
            Word::Value(n) => format!("%{n}"),
            Word::Name(name) => format!("`{name}`"),
            Word::Number(number) => format!("`{number}`"),
            Word::Text(text) => format!("{:?}", text.chars().take(40).collect::<String>()),
            Word::Mark(mark) => format!("`{mark}`"),
            Word::End => "the end".to_string(),
        }
    }
}

/// Reads words one at a time, with one word of lookahead.
pub(super) struct Lexer<'a> {
    text: &'a str,
    /// Byte position of the next character.
    position: usize,
    /// The next word and the byte at which it starts.
    next: Word<'a>,
    at: usize,
}

/// Whether a name may have this character after the first.
fn continues(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '?')
}

/// Whether a name is written without quotes.
pub(super) fn is_plain(name: &str) -> bool {
    name.chars().all(continues)
        && name.chars().next().is_some_and(|c| c.is_ascii_alphabetic() || matches!(c, '_' | '?'))
        && !matches!(name, "max" | "min" | "floordiv")
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a str) -> Result<Lexer<'a>, ParseError> {
        let mut lexer = Lexer { text, position: 0, next: Word::End, at: 0 };
        lexer.advance()?;
        Ok(lexer)
    }

    pub(super) fn peek(&self) -> &Word<'a> {
        &self.next
    }

    /// The byte at which the next word starts.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// Takes the next word.
    pub(super) fn take(&mut self) -> Result<Word<'a>, ParseError> {
        let word = std::mem::replace(&mut self.next, Word::End);
        self.advance()?;
        Ok(word)
    }

    /// An error at the next word.
    pub(super) fn error(&self, problem: Problem) -> ParseError {
        self.error_at(self.at, problem)
    }

    /// An error at a byte of the text; only now is its line counted.
    pub(super) fn error_at(&self, at: usize, problem: Problem) -> ParseError {
        let before = &self.text[..at];
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|&c| c != '\n').count() + 1;
        ParseError { line, column, problem }
    }

    pub(super) fn expected(&self, expected: &'static str) -> ParseError {
        self.error(Problem::Expected { expected, found: self.next.describe() })
    }

    fn rest(&self) -> &'a str {
        &self.text[self.position..]
    }

    fn advance(&mut self) -> Result<(), ParseError> {
        self.skip();
        self.at = self.position;
        let rest = self.rest();
        let Some(first) = rest.chars().next() else {
            self.next = Word::End;
            return Ok(());
        };
        let run = |keep: &dyn Fn(char) -> bool| rest.find(|c| !keep(c)).unwrap_or(rest.len());
        let (word, length) = match first {
            '%' => {
                let digits =
                    rest[1..].find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len() - 1);
                match rest[1..=digits].parse() {
                    Ok(number) => (Word::Value(number), 1 + digits),
                    Err(_) => return Err(self.error(Problem::Character('%'))),
                }
            }
            '"' => return self.text(),
            c if c.is_ascii_digit() => {
                let length = number_length(rest);
                (Word::Number(&rest[..length]), length)
            }
            c if c.is_ascii_alphabetic() || matches!(c, '_' | '?') => {
                let mut length = run(&continues);
                // A hyphen joins the words of an operator's name.
                while let Some(after) = rest[length..].strip_prefix('-')
                    && after.starts_with(|c: char| c.is_ascii_alphanumeric())
                {
                    length += 1 + after.find(|c| !continues(c)).unwrap_or(after.len());
                }
                (Word::Name(&rest[..length]), length)
            }
            '(' | ')' | '[' | ']' | '{' | '}' | ',' | ':' | '=' | '*' | '+' | '-' | '@' => {
                (Word::Mark(first), 1)
            }
            other => return Err(self.error(Problem::Character(other))),
        };
        self.position += length;
        self.next = word;
        Ok(())
    }

    /// Blanks and comments.
    fn skip(&mut self) {
        loop {
            let rest = self.rest();
            let blank = rest.find(|c: char| !c.is_whitespace()).unwrap_or(rest.len());
            self.position += blank;
            if !self.rest().starts_with("//") {
                return;
            }
            self.position += self.rest().find('\n').unwrap_or(self.rest().len());
        }
    }

    fn text(&mut self) -> Result<(), ParseError> {
        let mut text = String::new();
        let mut characters = self.rest().char_indices().skip(1);
        while let Some((i, c)) = characters.next() {
            match c {
                '"' => {
                    self.position += i + 1;
                    self.next = Word::Text(text);
                    return Ok(());
                }
                '\\' => match characters.next() {
                    Some((_, escaped @ ('"' | '\\'))) => text.push(escaped),
                    Some((start, 'u')) => {
                        let rest = &self.rest()[start + 1..];
                        let code = rest
                            .strip_prefix('{')
                            .and_then(|r| r.split_once('}'))
                            .filter(|(digits, _)| digits.len() <= 6)
                            .and_then(|(digits, _)| {
                                Some((digits.len(), u32::from_str_radix(digits, 16).ok()?))
                            })
                            .and_then(|(length, code)| Some((length, char::from_u32(code)?)));
                        let Some((length, code)) = code else {
                            return Err(self.error(Problem::Text));
                        };
                        text.push(code);
                        for _ in 0..length + 2 {
                            characters.next();
                        }
                    }
                    _ => return Err(self.error(Problem::Text)),
                },
                '\n' => break,
                other => text.push(other),
            }
        }
        Err(self.error(Problem::Text))
    }
}

/// Digits, then a fraction and an exponent where they stand.
fn number_length(rest: &str) -> usize {
    let digits =
        |from: usize| rest[from..].find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len() - from);
    let mut length = digits(0);
    if rest[length..].starts_with('.') {
        length += 1 + digits(length + 1);
    }
    if rest[length..].starts_with(['e', 'E']) {
        let sign = usize::from(rest[length + 1..].starts_with(['-', '+']));
        let exponent = digits(length + 1 + sign);
        if exponent > 0 {
            length += 1 + sign + exponent;
        }
    }
    length
}
