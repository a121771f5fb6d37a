//! Numbers as people read them: three significant digits, SI prefixes, thousands separated.

use crate::unit::{Style, Unit};

/// Significant digits shown unless a caller says otherwise: more would claim an accuracy nobody has.
pub const DIGITS: usize = 3;

const PREFIXES: [(f64, &str); 12] = [
    (1e18, "E"),
    (1e15, "P"),
    (1e12, "T"),
    (1e9, "G"),
    (1e6, "M"),
    (1e3, "k"),
    (1.0, ""),
    (1e-3, "m"),
    (1e-6, "µ"),
    (1e-9, "n"),
    (1e-12, "p"),
    (1e-15, "f"),
];

/// A value of unit `U`: `1.23 ms`, `2.04 TB/s`, `826 mm²`, `43.1 %`, `$3.93/h`.
pub fn quantity<U: Unit>(value: f64) -> String {
    styled(value * U::SCALE, U::STYLE, U::SYMBOL)
}

/// A value of unit `U` and its interval on one prefix: `0.61 [0.50–0.74] ms`. A point interval is not shown.
pub fn quantity_with_interval<U: Unit>(value: f64, low: f64, high: f64) -> String {
    styled_with_interval(value * U::SCALE, low * U::SCALE, high * U::SCALE, U::STYLE, U::SYMBOL)
}

/// As [`quantity`], where the unit is known only at run time or goes by another name (`FLOP/s` for `OP/s`).
pub fn styled(value: f64, style: Style, symbol: &str) -> String {
    let scale = Scale::of(value, style);
    scale.dress(&scale.number(value), symbol)
}

/// As [`quantity_with_interval`], with the style and symbol given.
pub fn styled_with_interval(value: f64, low: f64, high: f64, style: Style, symbol: &str) -> String {
    let scale = Scale::of(value, style);
    let [value, low, high] = [value, low, high].map(|number| scale.number(number));
    if low == high {
        return scale.dress(&value, symbol);
    }
    scale.dress(&format!("{value} [{low}–{high}]"), symbol)
}

/// `value` with `digits` significant digits and thousands separated; no exponent, no trailing zeros after an
/// integer part that is already long enough.
pub fn significant(value: f64, digits: usize) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    let magnitude = value.abs().log10().floor() as i32;
    let decimals = (digits as i32 - 1 - magnitude).max(0) as usize;
    let text = format!("{value:.decimals$}");
    // Rounding may have carried into one more digit: 9.996 becomes 10.00, which should be 10.0.
    let leading =
        text.trim_start_matches(['-', '0', '.']).chars().filter(char::is_ascii_digit).count();
    let text =
        if leading > digits && decimals > 0 { format!("{value:.*}", decimals - 1) } else { text };
    separate_thousands(&text)
}

/// `12,345.6` from `12345.6`.
fn separate_thousands(text: &str) -> String {
    let (integer, fraction) = match text.split_once('.') {
        Some((integer, fraction)) => (integer, Some(fraction)),
        None => (text, None),
    };
    let (sign, integer) = match integer.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", integer),
    };
    let mut out = sign.to_owned();
    for (index, digit) in integer.chars().enumerate() {
        if index > 0 && (integer.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    if let Some(fraction) = fraction {
        out.push('.');
        out.push_str(fraction);
    }
    out
}

/// The prefix and dress a value asks for; an interval shares its value's.
struct Scale {
    divisor: f64,
    prefix: &'static str,
    style: Style,
}

impl Scale {
    fn of(value: f64, style: Style) -> Self {
        let (divisor, prefix) = match style {
            Style::Prefixed => prefix_of(value, f64::INFINITY),
            Style::SmallPrefixed => prefix_of(value, 1.0),
            Style::Percent => (0.01, ""),
            Style::Plain | Style::Dollars | Style::Bare => (1.0, ""),
        };
        Self { divisor, prefix, style }
    }

    fn number(&self, value: f64) -> String {
        let scaled = value / self.divisor;
        match self.style {
            Style::Bare => format!("{scaled:.0}"),
            // Whole things are whole: 4,096 cores, never 4,100.
            Style::Plain if scaled.fract() == 0.0 => separate_thousands(&format!("{scaled:.0}")),
            Style::Dollars if (0.0995..999.5).contains(&scaled) => format!("{scaled:.2}"),
            Style::Prefixed | Style::SmallPrefixed if scaled.fract() == 0.0 && scaled < 1e4 => {
                separate_thousands(&format!("{scaled:.0}"))
            }
            _ => significant(scaled, DIGITS),
        }
    }

    fn dress(&self, number: &str, symbol: &str) -> String {
        let prefix = self.prefix;
        match self.style {
            Style::Dollars => format!("${number}{symbol}"),
            _ if prefix.is_empty() && symbol.is_empty() => number.to_owned(),
            // "95.2 k/s" and "1.2 M/$" read better than "95.2 /s" does, so a bare rate is set close.
            _ if prefix.is_empty() && symbol.starts_with('/') => format!("{number}{symbol}"),
            _ => format!("{number} {prefix}{symbol}"),
        }
    }
}

/// The largest prefix at most `limit` that leaves at least one digit before the point once rounded.
fn prefix_of(value: f64, limit: f64) -> (f64, &'static str) {
    if value == 0.0 {
        return (1.0, "");
    }
    let last = PREFIXES[PREFIXES.len() - 1];
    PREFIXES
        .into_iter()
        .filter(|(size, _)| *size <= limit)
        // 0.9996e-3 rounds to 1.00 of the larger prefix.
        .find(|(size, _)| value.abs() >= size * 0.9995)
        .unwrap_or(last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::unit::{
        BytesPerSecond, Count, Joules, OperationsPerSecond, PerSecond, PerUsDollar, Ratio, Seconds,
        SquareMillimeters, TeraOperationsPerSecond, UsDollars, UsDollarsPerHour, Watts, Year,
    };

    #[test]
    fn quantities() {
        assert_eq!(quantity::<Seconds>(0.001_234), "1.23 ms");
        assert_eq!(quantity::<Seconds>(4200.0), "4,200 s");
        assert_eq!(quantity::<Seconds>(61e-6), "61 µs");
        assert_eq!(quantity::<OperationsPerSecond>(312e12), "312 TOP/s");
        assert_eq!(styled(19.49e12, Style::Prefixed, "FLOP/s"), "19.5 TFLOP/s");
        assert_eq!(quantity::<TeraOperationsPerSecond>(0.5), "500 GOP/s");
        assert_eq!(quantity::<BytesPerSecond>(2039e9), "2.04 TB/s");
        assert_eq!(quantity::<SquareMillimeters>(46_225.0), "46,225 mm²");
        assert_eq!(quantity::<Ratio>(0.431), "43.1 %");
        assert_eq!(quantity::<UsDollarsPerHour>(3.93), "$3.93/h");
        assert_eq!(quantity::<UsDollarsPerHour>(0.45), "$0.45/h");
        assert_eq!(quantity::<UsDollars>(30_678.0), "$30,678");
        assert_eq!(quantity::<UsDollars>(0.0035), "$0.00350");
        assert_eq!(quantity::<Watts>(0.07), "70 mW");
        assert_eq!(quantity::<Joules>(26e-12), "26 pJ");
        assert_eq!(quantity::<PerSecond>(95.23), "95.2/s");
        assert_eq!(quantity::<PerSecond>(95_230.0), "95.2 k/s");
        assert_eq!(quantity::<PerUsDollar>(1.234e6), "1.23 M/$");
        assert_eq!(quantity::<Count>(1_048_576.0), "1,048,576");
        assert_eq!(quantity::<Year>(2020.0), "2020");
    }

    #[test]
    fn rounding_moves_to_the_next_prefix() {
        assert_eq!(quantity::<Seconds>(0.000_999_9), "1.00 ms");
        assert_eq!(quantity::<Seconds>(0.999_99), "1.00 s");
        assert_eq!(significant(9.996, 3), "10.0");
        assert_eq!(significant(99.96, 3), "100");
        assert_eq!(significant(0.099_96, 3), "0.100");
        assert_eq!(significant(1234.5, 3), "1,234");
        assert_eq!(significant(-0.25, 2), "-0.25");
        assert_eq!(significant(0.0, 3), "0");
    }

    #[test]
    fn an_interval_shares_the_prefix_of_its_value() {
        assert_eq!(quantity_with_interval::<Seconds>(0.002, 0.0005, 0.0074), "2 [0.500–7.40] ms");
        assert_eq!(quantity_with_interval::<Seconds>(0.002, 0.002, 0.002), "2 ms");
        assert_eq!(quantity_with_interval::<Ratio>(0.5, 0.25, 0.75), "50.0 [25.0–75.0] %");
    }

    #[test]
    fn what_is_written_is_the_number_to_three_digits() {
        // A linear congruential generator (Knuth's MMIX constants) with a fixed seed.
        let mut state: u64 = 7;
        for _ in 0..20_000 {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let value = 10f64.powf((state >> 11) as f64 / (1u64 << 53) as f64 * 30.0 - 14.0);
            let text = quantity::<Watts>(value);
            let (number, unit) = text.split_once(' ').unwrap();
            let prefix = unit.strip_suffix('W').unwrap();
            let (size, _) = PREFIXES.into_iter().find(|(_, known)| *known == prefix).unwrap();
            let read: f64 = number.replace(',', "").parse().unwrap();
            assert!((read * size / value - 1.0).abs() < 0.0051, "{value:e} became {text}, seed 7");
        }
    }

    #[test]
    fn beyond_the_prefixes() {
        assert_eq!(quantity::<Seconds>(2e-18), "0.00200 fs");
        assert_eq!(quantity::<OperationsPerSecond>(1.5e22), "15,000 EOP/s");
    }
}
