//! A field table as written in core/protocol/messages: parsed and checked.

/// Versions from `min` to `max`, both included.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Versions {
    pub min: i16,
    pub max: i16,
}

impl Versions {
    /// `3`, `3+` (up to `within.max`) or `3-12`.
    fn parse(text: &str, within: Versions) -> Result<Self, String> {
        let number = |s: &str| {
            s.parse::<i16>()
                .map_err(|_| format!("not a version: {text}"))
        };
        let parsed = if let Some(min) = text.strip_suffix('+') {
            Versions {
                min: number(min)?.max(within.min),
                max: within.max,
            }
        } else if let Some((min, max)) = text.split_once('-') {
            Versions {
                min: number(min)?,
                max: number(max)?,
            }
        } else {
            let only = number(text)?;
            Versions {
                min: only,
                max: only,
            }
        };
        if parsed.min > parsed.max || parsed.min < within.min || parsed.max > within.max {
            return Err(format!(
                "versions {text} do not lie within {}-{}",
                within.min, within.max
            ));
        }
        Ok(parsed)
    }

    /// Whether every version of `other` is one of these.
    pub fn covers(&self, other: Versions) -> bool {
        self.min <= other.min && self.max >= other.max
    }
}

/// What a field holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Type {
    Bool,
    I8,
    I16,
    I32,
    I64,
    F64,
    Error,
    Uuid,
    String,
    Bytes,
    Records,
    Struct(String),
    Array(Box<Type>),
}

impl Type {
    fn parse(text: &str) -> Result<Self, String> {
        if let Some(inner) = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')) {
            return Ok(Type::Array(Box::new(Type::parse(inner)?)));
        }
        Ok(match text {
            "bool" => Type::Bool,
            "i8" => Type::I8,
            "i16" => Type::I16,
            "i32" => Type::I32,
            "i64" => Type::I64,
            "f64" => Type::F64,
            "error" => Type::Error,
            "uuid" => Type::Uuid,
            "string" => Type::String,
            "bytes" => Type::Bytes,
            "records" => Type::Records,
            name if name.starts_with(|c: char| c.is_ascii_uppercase()) => Type::Struct(name.into()),
            other => return Err(format!("no such type: {other}")),
        })
    }

    /// The struct that this is, or that it is an array of.
    pub fn struct_name(&self) -> Option<&str> {
        match self {
            Type::Struct(name) => Some(name),
            Type::Array(inner) => inner.struct_name(),
            _ => None,
        }
    }
}

/// One line of a table.
#[derive(Clone, Debug)]
pub struct Field {
    pub name: String,
    pub ty: Type,
    /// `None`: never null.
    pub nullable: Option<Versions>,
    /// `None`: whenever its struct is written.
    pub versions: Option<Versions>,
    /// As written; `None`: zero, empty.
    pub default: Option<String>,
    pub tag: Option<u32>,
    /// Silently left out where the version cannot carry it, instead of an error.
    pub ignorable: bool,
    pub doc: Option<String>,
}

/// A struct: a message's own, or one nested in it.
#[derive(Clone, Debug)]
pub struct Struct {
    pub name: String,
    pub fields: Vec<Field>,
}

/// A request, a response or a record.
#[derive(Clone, Debug)]
pub struct Message {
    pub versions: Versions,
    /// First version with compact lengths and tagged fields.
    pub flexible: Option<i16>,
    /// Records only: whether a newer version is read as if it were the latest known one.
    pub newer_as_latest: Option<bool>,
    /// The message itself, then its nested structs.
    pub structs: Vec<Struct>,
}

impl Message {
    pub fn name(&self) -> &str {
        &self.structs[0].name
    }

    pub fn find(&self, name: &str) -> Option<&Struct> {
        self.structs.iter().find(|s| s.name == name)
    }
}

/// The heading of an API key's table.
#[derive(Clone, Debug)]
pub struct Api {
    pub key: i16,
    pub name: String,
    /// What a Kafka 4.3 broker advertises.
    pub broker: Versions,
}

/// One file: an API key's request and response, or one record.
#[derive(Clone, Debug)]
pub struct Table {
    /// Rust module name.
    pub module: String,
    pub api: Option<Api>,
    pub messages: Vec<Message>,
}

const ANY: Versions = Versions {
    min: 0,
    max: i16::MAX,
};

impl Table {
    /// Reads a table; `stem` is its file name without `.msg`.
    pub fn parse(stem: &str, text: &str) -> Result<Self, String> {
        let module = stem
            .trim_start_matches(|c: char| c.is_ascii_digit())
            .trim_start_matches('_');
        let mut table = Table {
            module: module.into(),
            api: None,
            messages: Vec::new(),
        };
        let mut rows: Vec<(usize, usize, &str)> = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let depth = (line.len() - line.trim_start().len()) / 2;
            let row = line.trim();
            if row.is_empty() || row.starts_with('#') {
                continue;
            }
            if depth == 0 {
                table.finish(&mut rows)?;
                table
                    .heading(row)
                    .map_err(|e| format!("line {}: {e}", index + 1))?;
            } else {
                rows.push((index + 1, depth, row));
            }
        }
        table.finish(&mut rows)?;
        let mut names: Vec<&str> = table
            .messages
            .iter()
            .flat_map(|m| &m.structs)
            .map(|s| s.name.as_str())
            .collect();
        names.sort_unstable();
        match names.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(format!("two structs named {}", pair[0])),
            None => Ok(table),
        }
    }

    fn heading(&mut self, row: &str) -> Result<(), String> {
        let words: Vec<&str> = row.split_whitespace().collect();
        match words.as_slice() {
            ["api", key, name] => {
                let key = key.parse().map_err(|_| format!("not an API key: {key}"))?;
                self.api = Some(Api {
                    key,
                    name: (*name).into(),
                    broker: ANY,
                });
                Ok(())
            }
            ["broker", versions] => {
                let api = self.api.as_mut().ok_or("`broker` comes after `api`")?;
                api.broker = Versions::parse(versions, ANY)?;
                Ok(())
            }
            [kind @ ("request" | "response"), versions, rest @ ..] => {
                let api = self
                    .api
                    .as_ref()
                    .ok_or("`request` and `response` come after `api`")?;
                let suffix = if *kind == "request" {
                    "Request"
                } else {
                    "Response"
                };
                self.start(format!("{}{suffix}", api.name), versions, rest, None)
            }
            ["record", name, versions, rest @ ..] => {
                let (rest, lenient) = match rest {
                    [rest @ .., "newer-as-latest"] => (rest, true),
                    rest => (rest, false),
                };
                self.start((*name).into(), versions, rest, Some(lenient))
            }
            _ => Err(format!("not a heading: {row}")),
        }
    }

    fn start(
        &mut self,
        name: String,
        versions: &str,
        rest: &[&str],
        newer_as_latest: Option<bool>,
    ) -> Result<(), String> {
        let flexible = match rest {
            [] => None,
            ["flexible", from] => Some(Versions::parse(from, ANY)?.min),
            _ => {
                return Err(format!(
                    "after the versions only `flexible N+`, not {}",
                    rest.join(" ")
                ));
            }
        };
        let versions = Versions::parse(versions, ANY)?;
        let structs = vec![Struct {
            name,
            fields: Vec::new(),
        }];
        self.messages.push(Message {
            versions,
            flexible,
            newer_as_latest,
            structs,
        });
        Ok(())
    }

    /// Takes the rows below the last heading into its message.
    fn finish(&mut self, rows: &mut Vec<(usize, usize, &str)>) -> Result<(), String> {
        if rows.is_empty() {
            return Ok(());
        }
        let message = self
            .messages
            .last_mut()
            .ok_or("fields before any heading")?;
        // The struct that each depth of indentation currently adds to.
        let mut open: Vec<String> = vec![message.name().into()];
        for (line, depth, row) in rows.drain(..) {
            let at = |e: String| format!("line {line}: {e}");
            if depth > open.len() {
                return Err(at("indented below a field that is no new struct".into()));
            }
            open.truncate(depth);
            let field = Field::parse(row, message.versions).map_err(at)?;
            if let Some(name) = field.ty.struct_name()
                && message.find(name).is_none()
            {
                message.structs.push(Struct {
                    name: name.into(),
                    fields: Vec::new(),
                });
                open.push(name.into());
            }
            let owner = &open[depth - 1];
            let owner = message.structs.iter_mut().find(|s| &s.name == owner);
            owner
                .ok_or_else(|| at("no struct to add to".into()))?
                .fields
                .push(field);
        }
        match message
            .structs
            .iter()
            .find(|s| s.fields.is_empty() && s.name != message.name())
        {
            Some(empty) => Err(format!("struct {} has no fields", empty.name)),
            None => Ok(()),
        }
    }
}

impl Field {
    /// `name type[?[versions]] [versions] [= default] [tag N] [ignorable] [# text]`
    fn parse(row: &str, within: Versions) -> Result<Self, String> {
        let (row, doc) = match row.split_once('#') {
            Some((row, doc)) => (row, Some(doc.trim().to_string())),
            None => (row, None),
        };
        let mut words = row.split_whitespace().peekable();
        let name = words.next().ok_or("a field needs a name")?.to_string();
        let ty = words.next().ok_or("a field needs a type")?;
        let (ty, null) = match ty.split_once('?') {
            Some((ty, versions)) => (ty, Some(versions)),
            None => (ty, None),
        };
        let mut field = Field {
            name,
            ty: Type::parse(ty)?,
            nullable: None,
            versions: None,
            default: None,
            tag: None,
            ignorable: false,
            doc,
        };
        if let Some(word) = words.peek()
            && word.starts_with(|c: char| c.is_ascii_digit())
        {
            let versions = Versions::parse(word, within)?;
            field.versions = (!versions.covers(within)).then_some(versions);
            words.next();
        }
        field.nullable = match null {
            None => None,
            Some("") => Some(within),
            Some(versions) => Some(Versions::parse(versions, within)?),
        };
        while let Some(word) = words.next() {
            match word {
                "=" => field.default = Some(words.next().ok_or("`=` needs a value")?.into()),
                "tag" => {
                    let tag = words.next().and_then(|t| t.parse().ok());
                    field.tag = Some(tag.ok_or("`tag` needs a number")?);
                }
                "ignorable" => field.ignorable = true,
                other => return Err(format!("not understood: {other}")),
            }
        }
        if field.default.as_deref() == Some("null") && field.nullable.is_none() {
            return Err(format!(
                "{} is null by default and not nullable",
                field.name
            ));
        }
        Ok(field)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_read_as_written() {
        let text = "api 7 Thing\nbroker 0-2\n\nrequest 0-3 flexible 2+\n  name string?1+ = null # why\n  \
                    items [Item] 2+ tag 0 ignorable\n    count i32 = -1\n  last i8\n\nresponse 0-3 flexible 2+\n  error_code error\n";
        let table = Table::parse("07_thing", text).unwrap();
        assert_eq!(table.module, "thing");
        let request = &table.messages[0];
        assert_eq!(request.name(), "ThingRequest");
        assert_eq!(request.flexible, Some(2));
        let [name, items, last] = &request.structs[0].fields[..] else {
            panic!("three fields")
        };
        assert_eq!(name.nullable, Some(Versions { min: 1, max: 3 }));
        assert_eq!(name.default.as_deref(), Some("null"));
        assert_eq!(name.doc.as_deref(), Some("why"));
        assert_eq!((items.tag, items.ignorable), (Some(0), true));
        assert_eq!(items.versions, Some(Versions { min: 2, max: 3 }));
        assert_eq!(last.ty, Type::I8);
        assert_eq!(request.structs[1].fields[0].default.as_deref(), Some("-1"));
    }

    #[test]
    fn mistakes_are_named() {
        for (text, part) in [
            ("request 0\n", "after `api`"),
            ("api 1 A\nrequest 0\n  x float\n", "no such type"),
            ("api 1 A\nrequest 0-1\n  x i32 2+\n", "do not lie within"),
            ("api 1 A\nrequest 0\n  x i32\n      y i32\n", "indented"),
            ("api 1 A\nrequest 0\n  x string = null\n", "not nullable"),
            ("api 1 A\nrequest 0\n  x [B]\n", "no fields"),
        ] {
            let error = Table::parse("01_a", text).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }
}
