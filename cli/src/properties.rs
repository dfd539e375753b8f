//! Java's properties, the syntax of Kafka's `server.properties`.

/// The entries, in order: keys and values.
///
/// # Errors
/// A `\u` that isn't followed by four hexadecimal digits.
pub fn parse(text: &str) -> Result<Vec<(String, String)>, String> {
    let mut entries = Vec::new();
    let text = text.replace("\r\n", "\n");
    let mut lines = text.split(['\n', '\r']).map(str::trim_start);
    while let Some(line) = lines.next() {
        if line.is_empty() || line.starts_with(['#', '!']) {
            continue;
        }
        let mut line = line.to_owned();
        // A backslash at the end goes on in the next line.
        while ends_open(&line) {
            line.pop();
            line.push_str(lines.next().unwrap_or_default());
        }
        let (key, value) = split(&line);
        entries.push((unescape(key)?, unescape(value)?));
    }
    Ok(entries)
}

/// Whether an odd number of backslashes is at the end.
fn ends_open(line: &str) -> bool {
    (line.len() - line.trim_end_matches('\\').len()) % 2 == 1
}

/// Key and value: between them white space, an `=`, a `:`.
fn split(line: &str) -> (&str, &str) {
    let mut escaped = false;
    let end = line.find(|c: char| {
        let ends = !escaped && (c == '=' || c == ':' || c.is_ascii_whitespace());
        escaped = !escaped && c == '\\';
        ends
    });
    let (key, rest) = line.split_at(end.unwrap_or(line.len()));
    let rest = rest.trim_start();
    let value = rest.strip_prefix(['=', ':']).unwrap_or(rest);
    (key, value.trim_start())
}

fn unescape(text: &str) -> Result<String, String> {
    let mut out = String::new();
    // `\u` names UTF-16 units, of which two may make a character.
    let mut units: Vec<u16> = Vec::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        let plain = match (c, c == '\\') {
            (_, false) => c,
            _ => match chars.next() {
                Some('u') => {
                    let digits: String = chars.by_ref().take(4).collect();
                    let is_hex = digits.len() == 4 && digits.bytes().all(|b| b.is_ascii_hexdigit());
                    let unit = u16::from_str_radix(&digits, 16).ok().filter(|_| is_hex);
                    units.push(unit.ok_or_else(|| {
                        format!("{text}: \\u has to be followed by four hexadecimal digits")
                    })?);
                    continue;
                }
                Some('t') => '\t',
                Some('n') => '\n',
                Some('r') => '\r',
                Some('f') => '\u{c}',
                Some(other) => other,
                None => break,
            },
        };
        out.push_str(&String::from_utf16_lossy(&units));
        units.clear();
        out.push(plain);
    }
    out.push_str(&String::from_utf16_lossy(&units));
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn as_java_reads_them() {
        let text = "# comment\n! too\n\n  a=1\nb : 2\nc 3\nd\ne=\n\\=f\\:\\ g = h i \\\n   j\\\\\n\
                    log.dirs=C:\\\\kafka\nu=\\u00e4\\ud83d\\ude00x\nt=\\t\\q\nlast=\\";
        let entries = parse(text).unwrap();
        let expected = [
            ("a", "1"),
            ("b", "2"),
            ("c", "3"),
            ("d", ""),
            ("e", ""),
            ("=f: g", "h i j\\"),
            ("log.dirs", "C:\\kafka"),
            ("u", "ä😀x"),
            ("t", "\tq"),
            ("last", ""),
        ];
        let expected: Vec<_> = expected
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into();
        assert_eq!(entries, expected);
        let dos = parse("a=1\r\nb=2\\\r\n  3\r\n").unwrap();
        assert_eq!(dos[1].1, "23");
        assert!(parse("a=\\u12").is_err());
        assert!(parse("a=\\u+123").is_err());
    }
}
