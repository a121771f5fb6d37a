//! Finds `_` arms over `Prim`, so that a new primitive makes the compiler list every decision about it.

/// Lines of `_` arms in a `match` whose other arms name members of `Prim` outright (`Prim::Relu => …`).
///
/// Reads the text, not the types: a match on something that contains a prim (`Op::Prim(Prim::Relu) => …`) is not
/// meant, since a rewrite looks for one shape among all operations.
pub(crate) fn over_prim(text: &str) -> Vec<usize> {
    let code = blank_comments_and_strings(text);
    let mut lines = Vec::new();
    for (at, _) in code.match_indices("match ") {
        let before = code[..at].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_') {
            continue;
        }
        let Some(open) = body_start(&code, at) else { continue };
        let arms = arms(&code, open);
        let names_prim = |pattern: &str| {
            let pattern = pattern.trim_start_matches(['|', '&', ' ', '\n']);
            pattern.starts_with("Prim::") || pattern.starts_with("ir::Prim::")
        };
        if arms.iter().any(|(_, pattern)| names_prim(pattern)) {
            let wild =
                arms.iter().filter(|(_, p)| p.trim() == "_" || p.trim().starts_with("_ if "));
            lines.extend(wild.map(|(at, _)| code[..*at].matches('\n').count() + 1));
        }
    }
    lines.sort_unstable();
    lines.dedup();
    lines
}

/// Where the `{` of a match's body is: the first brace outside brackets after the keyword.
fn body_start(code: &str, from: usize) -> Option<usize> {
    let mut depth = 0_i32;
    for (at, c) in code[from..].char_indices() {
        match c {
            '(' | '[' => depth += 1,
            ')' | ']' => depth -= 1,
            '{' if depth == 0 => return Some(from + at),
            ';' if depth <= 0 => return None,
            _ => {}
        }
    }
    None
}

/// The patterns of a match's arms, each with where it starts.
fn arms(code: &str, open: usize) -> Vec<(usize, &str)> {
    let mut arms = Vec::new();
    let bytes = code.as_bytes();
    let mut depth = 0_i32;
    let mut start = open + 1;
    let mut in_pattern = true;
    let mut at = open + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => {
                depth -= 1;
                if depth < 0 {
                    break;
                }
                // A block body ends its arm; a comma may or may not follow.
                if depth == 0 && bytes[at] == b'}' && !in_pattern && ends_arm(&code[at + 1..]) {
                    in_pattern = true;
                    start = at + 1;
                }
            }
            b',' if depth == 0 && !in_pattern => {
                in_pattern = true;
                start = at + 1;
            }
            b'=' if depth == 0 && in_pattern && bytes.get(at + 1) == Some(&b'>') => {
                let pattern = code[start..at].trim_start_matches([',', ' ', '\n', '\t', '\r']);
                arms.push((at - pattern.len(), pattern));
                in_pattern = false;
                at += 1;
            }
            _ => {}
        }
        at += 1;
    }
    arms
}

/// Whether what follows a closing brace begins another arm, and does not go on with the same expression.
fn ends_arm(rest: &str) -> bool {
    let rest = rest.trim_start();
    !rest.starts_with(['.', '?', '+', '-', '*', '/', '<', '>', '=', ';'])
        && !rest.starts_with("else")
        && !rest.starts_with("as ")
}

/// The same text with comments, strings and character literals turned into spaces (lines stay).
fn blank_comments_and_strings(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let skip = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |at| at + 2)
        } else if c == 'r'
            && rest[1..].trim_start_matches('#').starts_with('"')
            && !ends_in_name(&out)
        {
            raw_string(rest)
        } else if c == '"' {
            quoted(rest, '"')
        } else if c == '\'' && is_character(rest) {
            quoted(rest, '\'')
        } else {
            0
        };
        if skip == 0 {
            out.push(c);
            rest = &rest[c.len_utf8()..];
        } else {
            out.extend(rest[..skip].chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
            rest = &rest[skip..];
        }
    }
    out
}

fn ends_in_name(text: &str) -> bool {
    text.chars().next_back().is_some_and(|c| c.is_alphanumeric() || c == '_')
}

/// The length of a raw string literal at the start.
fn raw_string(text: &str) -> usize {
    let hashes = text[1..].len() - text[1..].trim_start_matches('#').len();
    let open = 1 + hashes + 1;
    let close = format!("\"{}", "#".repeat(hashes));
    text[open..].find(&close).map_or(text.len(), |at| open + at + close.len())
}

/// The length of a quoted literal at the start, escapes observed.
fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        if escaped {
            escaped = false;
        } else if c == '\\' {
            escaped = true;
        } else if c == quote {
            return at + c.len_utf8();
        }
    }
    text.len()
}

/// A character literal, not a lifetime: `'x'` or `'\…'`.
fn is_character(text: &str) -> bool {
    let mut characters = text.chars().skip(1);
    match characters.next() {
        Some('\\') => true,
        Some(_) => characters.next() == Some('\''),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcard_over_prim_is_found() {
        let text = "fn f(p: &Prim) -> u8 {\n    match p {\n        Prim::Relu => 1, // _ => 3\n        Prim::Add(x) => { g(x) }\n        _ => 2,\n    }\n}\n";
        assert_eq!(over_prim(text), [5]);
        assert_eq!(over_prim(&text.replace("Prim::Relu", "&Prim::Relu | &Prim::Neg")), [5]);
    }

    #[test]
    fn other_wildcards_are_not_meant() {
        let op = "match op { Op::Prim(Prim::Relu) => 1, _ => 2 }";
        assert!(over_prim(op).is_empty());
        let inner =
            "match p { Prim::Unary(u) => match u { Unary::Neg => 1, _ => 0 }, Prim::Iota => 2 }";
        assert!(over_prim(inner).is_empty());
        let nested =
            "match x { Some(1) => match p { Prim::Iota => 1, Prim::Select => 2 }, _ => 3 }";
        assert!(over_prim(nested).is_empty());
        let text = "let s = \"match p { Prim::Iota => 1, _ => 2 }\";";
        assert!(over_prim(text).is_empty());
    }

    #[test]
    fn strings_and_lifetimes() {
        assert_eq!(
            blank_comments_and_strings("a<'x>('{', \"}\\\"\", r#\"{\"#)").trim(),
            "a<'x>(   ,      ,       )"
        );
        assert_eq!(blank_comments_and_strings("1 // x\n2"), "1     \n2");
    }
}
