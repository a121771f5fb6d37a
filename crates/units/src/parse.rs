//! Quantities as people type them: `40GB`, `10ms`, `15W`, `$500`, `100mm2`, `200/s`. The one parser for all commands.

use crate::unit::{Style, Unit};

/// Decimal prefixes; `K` and `u` are what keyboards offer for `k` and `µ`.
const DECIMAL: [(&str, f64); 15] = [
    ("", 1.0),
    ("k", 1e3),
    ("K", 1e3),
    ("M", 1e6),
    ("G", 1e9),
    ("T", 1e12),
    ("P", 1e15),
    ("E", 1e18),
    ("m", 1e-3),
    ("µ", 1e-6),
    ("μ", 1e-6),
    ("u", 1e-6),
    ("n", 1e-9),
    ("p", 1e-12),
    ("f", 1e-15),
];

/// Binary prefixes, for memory.
const BINARY: [(&str, f64); 5] = [
    ("Ki", 1024.0),
    ("Mi", 1_048_576.0),
    ("Gi", 1_073_741_824.0),
    ("Ti", 1_099_511_627_776.0),
    ("Pi", 1_125_899_906_842_624.0),
];

/// Why a text is not a quantity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// It does not begin with a number.
    #[error("`{text}` does not begin with a number; write it as {example}")]
    NoNumber {
        /// What was met.
        text: String,
        /// A quantity of the unit.
        example: &'static str,
    },
    /// A bare number, where a unit is needed.
    #[error("`{text}` has no unit; write it as {example}")]
    NoUnit {
        /// What was met.
        text: String,
        /// A quantity of the unit.
        example: &'static str,
    },
    /// Another unit than the one asked for.
    #[error("`{met}` in `{text}` is not a unit that fits here; write it as {example}")]
    WrongUnit {
        /// What was met.
        text: String,
        /// What stands where the unit should be.
        met: String,
        /// A quantity of the unit.
        example: &'static str,
    },
    /// Negative, zero where zero cannot be, or not finite.
    #[error("`{text}` is no possible amount; write it as {example}")]
    Impossible {
        /// What was met.
        text: String,
        /// A quantity of the unit.
        example: &'static str,
    },
}

/// The value in `U` of a quantity as people type it: `parse::<Seconds>("10ms")` is 0.01.
///
/// The unit is needed except where `U` has none. Memory takes decimal (`GB`) and binary (`GiB`) prefixes. Letters may be
/// of either case where that leaves no doubt: `40gb` is 40e9 bytes, but `15mW` and `15MW` stay what they are.
pub fn parse<U: Unit>(text: &str) -> Result<f64, ParseError> {
    let example = U::EXAMPLE;
    let owned = || text.to_owned();
    let trimmed = text.trim();
    let (dollar, body) = match (U::STYLE, trimmed.strip_prefix('$')) {
        (Style::Dollars, Some(rest)) => (true, rest.trim_start()),
        (_, _) => (false, trimmed),
    };
    let (number, unit) =
        split(body).ok_or_else(|| ParseError::NoNumber { text: owned(), example })?;
    let unit = unit.trim();
    // `$3/h`: the sign said dollars already, what follows is the symbol itself.
    let factor = if dollar && unit == U::SYMBOL {
        1.0
    } else if unit.is_empty() {
        if !matches!(U::STYLE, Style::Plain | Style::Bare) || !U::SYMBOL.is_empty() {
            return Err(ParseError::NoUnit { text: owned(), example });
        }
        1.0
    } else {
        factor::<U>(unit).ok_or_else(|| ParseError::WrongUnit {
            text: owned(),
            met: unit.to_owned(),
            example,
        })?
    };
    // The division by a whole power of ten is exact where the product with its inverse is not: 5 µs is 5e-6.
    let value =
        if factor < 1.0 { number / factor.recip().round() } else { number * factor } / U::SCALE;
    let possible = value.is_finite() && (value > 0.0 || (U::ZERO && value == 0.0));
    if possible { Ok(value) } else { Err(ParseError::Impossible { text: owned(), example }) }
}

/// The number a text begins with, thousands separated or not, and what follows it.
fn split(text: &str) -> Option<(f64, &str)> {
    let digits =
        |text: &str| text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let mut end = usize::from(text.starts_with(['-', '+']));
    end += text[end..].len()
        - text[end..]
            .trim_start_matches(|c: char| c.is_ascii_digit() || matches!(c, '.' | ',' | '_'))
            .len();
    // An exponent is an `e` with digits behind it; the `E` of exa has none.
    if let Some(rest) = text[end..].strip_prefix(['e', 'E']) {
        let sign = usize::from(rest.starts_with(['-', '+']));
        let exponent = digits(&rest[sign..]);
        if exponent > 0 {
            end += 1 + sign + exponent;
        }
    }
    let number: String = text[..end].chars().filter(|c| !matches!(c, ',' | '_')).collect();
    Some((number.parse().ok()?, &text[end..]))
}

/// What one of the unit as written is in the unit of [`Unit::SYMBOL`].
fn factor<U: Unit>(unit: &str) -> Option<f64> {
    let percent = if U::STYLE == Style::Percent { 0.01 } else { 1.0 };
    let spellings =
        || std::iter::once(&U::SYMBOL).chain(U::SPELLINGS).filter(|one| !one.is_empty());
    let bytes = U::SYMBOL.starts_with('B');
    let prefixes = || DECIMAL.iter().chain(BINARY.iter().filter(move |_| bytes));
    let exact = spellings().find_map(|spelling| {
        let prefix = unit.strip_suffix(*spelling)?.trim_end();
        prefixes().find(|(known, _)| *known == prefix).map(|(_, factor)| *factor)
    });
    // Parts of a byte, an operation or a cycle are not asked for, so `m` can only be meant as mega there.
    let whole = bytes || U::SYMBOL.contains("OP") || U::SYMBOL == "Hz" || U::SYMBOL == "IPS";
    let relaxed = || {
        let unit = unit.to_lowercase();
        spellings().find_map(|spelling| {
            let prefix = unit.strip_suffix(&spelling.to_lowercase())?.trim_end().to_owned();
            let fits = |known: &str, factor: f64| {
                known.to_lowercase() == prefix
                    && (if whole { factor >= 1.0 } else { prefix != "m" })
            };
            prefixes().find(|(known, factor)| fits(known, *factor)).map(|(_, factor)| *factor)
        })
    };
    Some(percent * exact.or_else(relaxed)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        format,
        unit::{
            Bytes, BytesPerSecond, Count, Hertz, Joules, OperationsPerSecond, PerSecond, Ratio,
            Seconds, SquareMillimeters, TeraOperationsPerSecond, UsDollars, UsDollarsPerHour,
            Watts, Year,
        },
    };

    #[test]
    fn what_people_type() {
        assert_eq!(parse::<Bytes>("40GB"), Ok(40e9));
        assert_eq!(parse::<Bytes>(" 40 gb "), Ok(40e9));
        assert_eq!(parse::<Bytes>("512mb"), Ok(512e6));
        assert_eq!(parse::<Bytes>("8GiB"), Ok(8.0 * 1_073_741_824.0));
        assert_eq!(parse::<Bytes>("1,024 B"), Ok(1024.0));
        assert_eq!(parse::<BytesPerSecond>("2.04TB/s"), Ok(2.04e12));
        assert_eq!(parse::<Seconds>("10ms"), Ok(0.01));
        assert_eq!(parse::<Seconds>("5us"), Ok(5e-6));
        assert_eq!(parse::<Seconds>("1e-3 s"), Ok(0.001));
        assert_eq!(parse::<Watts>("15W"), Ok(15.0));
        assert_eq!(parse::<Watts>("75w"), Ok(75.0));
        assert_eq!(parse::<Watts>("70mW"), Ok(0.07));
        assert_eq!(parse::<Watts>("1kW"), Ok(1000.0));
        assert_eq!(parse::<Joules>("26pJ"), Ok(26e-12));
        for text in ["500usd", "$500", "500 USD", "0.5kusd", "$ 500"] {
            assert_eq!(parse::<UsDollars>(text), Ok(500.0), "{text}");
        }
        assert_eq!(parse::<UsDollarsPerHour>("$3.93/h"), Ok(3.93));
        assert_eq!(parse::<UsDollarsPerHour>("2usd/h"), Ok(2.0));
        assert_eq!(parse::<SquareMillimeters>("100mm2"), Ok(100.0));
        assert_eq!(parse::<SquareMillimeters>("826 mm²"), Ok(826.0));
        assert_eq!(parse::<PerSecond>("200/s"), Ok(200.0));
        assert_eq!(parse::<PerSecond>("1.5 k/s"), Ok(1500.0));
        assert_eq!(parse::<OperationsPerSecond>("312TFLOP/s"), Ok(312e12));
        assert_eq!(parse::<OperationsPerSecond>("100tops"), Ok(100e12));
        assert_eq!(parse::<TeraOperationsPerSecond>("100TOPS"), Ok(100.0));
        assert_eq!(parse::<Hertz>("200mhz"), Ok(200e6));
        assert_eq!(parse::<Ratio>("50%"), Ok(0.5));
        assert_eq!(parse::<Count>("4,096"), Ok(4096.0));
        assert_eq!(parse::<Count>("0"), Ok(0.0));
        assert_eq!(parse::<Year>("2020"), Ok(2020.0));
    }

    #[test]
    fn what_is_refused_says_how_to_write_it() {
        let refused = |error: ParseError| error.to_string();
        assert_eq!(
            refused(parse::<Bytes>("40").unwrap_err()),
            "`40` has no unit; write it as 40GB"
        );
        assert_eq!(
            refused(parse::<Watts>("75 GB").unwrap_err()),
            "`GB` in `75 GB` is not a unit that fits here; write it as 15W"
        );
        assert_eq!(
            refused(parse::<Seconds>("fast").unwrap_err()),
            "`fast` does not begin with a number; write it as 10ms"
        );
        assert_eq!(
            refused(parse::<Watts>("-3W").unwrap_err()),
            "`-3W` is no possible amount; write it as 15W"
        );
        for bad in [
            "", " ", "W", "1.2.3W", "NaN W", "inf W", "1e999W", "0W", "3 W W", "3qW", "$3W",
            "--3W", "3é",
        ] {
            assert!(parse::<Watts>(bad).is_err(), "{bad}");
        }
        // Case that leaves doubt is not guessed at: seconds know milli and, written out, mega.
        assert_eq!(
            parse::<Seconds>("10MS"),
            Err(ParseError::WrongUnit {
                text: "10MS".to_owned(),
                met: "MS".to_owned(),
                example: "10ms",
            })
        );
    }

    #[test]
    fn the_examples_are_quantities() {
        fn check<U: Unit>() {
            assert!(parse::<U>(U::EXAMPLE).is_ok(), "{}", U::EXAMPLE);
        }
        check::<Seconds>();
        check::<Watts>();
        check::<Joules>();
        check::<UsDollars>();
        check::<UsDollarsPerHour>();
        check::<crate::PerUsDollar>();
        check::<SquareMillimeters>();
        check::<crate::Nanometers>();
        check::<Bytes>();
        check::<BytesPerSecond>();
        check::<crate::Operations>();
        check::<OperationsPerSecond>();
        check::<crate::FlopsPerSecond>();
        check::<TeraOperationsPerSecond>();
        check::<crate::InstructionsPerSecond>();
        check::<PerSecond>();
        check::<Hertz>();
        check::<Count>();
        check::<Ratio>();
        check::<Year>();
    }

    #[test]
    fn what_is_printed_reads_back() {
        // A linear congruential generator (Knuth's MMIX constants) with a fixed seed.
        let mut state: u64 = 11;
        for _ in 0..2_000 {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let value = 10f64.powf((state >> 11) as f64 / (1u64 << 53) as f64 * 28.0 - 12.0);
            let text = format::quantity::<Watts>(value);
            let read = parse::<Watts>(&text).unwrap_or_else(|error| panic!("{error}, seed 11"));
            assert!((read / value - 1.0).abs() < 0.0051, "{value:e} became {text}, seed 11");
            let text = format::quantity::<UsDollars>(value);
            assert!(parse::<UsDollars>(&text).is_ok(), "{text}, seed 11");
        }
    }
}
