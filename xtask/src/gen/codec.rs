//! Encoders and decoders of a table's structs.

use super::mentions;
use super::structs::{default_value, differs_from_default, fewest_bytes};
use super::table::{Field, Message, Struct, Type, Versions};

/// The Rust expression for "this version has compact lengths and tagged fields".
fn flexibility(message: &Message) -> &'static str {
    match message.flexible {
        None => "false",
        Some(from) if from <= message.versions.min => "true",
        Some(_) => "flexible",
    }
}

/// The condition for `version` lying in `versions`, empty if it always does.
fn condition(versions: Versions, all: Versions) -> String {
    let Versions { min, max } = versions;
    if min == max && versions != all {
        return format!("version == {min}");
    }
    if min > all.min && max < all.max {
        return format!("({min}..={max}).contains(&version)");
    }
    if min > all.min {
        format!("version >= {min}")
    } else if max < all.max {
        format!("version <= {max}")
    } else {
        String::new()
    }
}

/// The condition for a field being carried; empty if it always is.
fn carried(message: &Message, field: &Field) -> String {
    field
        .versions
        .map_or(String::new(), |v| condition(v, message.versions))
}

/// The condition for a field's null being carried; empty if it always is while the field itself is.
fn null_allowed(message: &Message, field: &Field) -> Option<String> {
    let nullable = field.nullable?;
    let here = field.versions.unwrap_or(message.versions);
    Some(if nullable.covers(here) {
        String::new()
    } else {
        condition(nullable, message.versions)
    })
}

/// `impl Name { size_hint, encode, decode }`
pub fn implementation(message: &Message, shape: &Struct) -> String {
    let body = format!(
        "{}{}{}",
        size_hint(shape),
        encode(message, shape),
        decode(message, shape)
    );
    format!("impl {} {{\n{body}}}\n\n", shape.name)
}

/// Bytes outside of strings, arrays and record sets, roughly; then those.
fn size_hint(shape: &Struct) -> String {
    let mut fixed = 1;
    let mut terms = String::new();
    for field in &shape.fields {
        let name = &field.name;
        let (fixed_bytes, term) = match &field.ty {
            Type::Bool | Type::I8 => (1, None),
            Type::I16 | Type::Error => (2, None),
            Type::I32 => (4, None),
            Type::I64 | Type::F64 => (8, None),
            Type::Uuid => (16, None),
            Type::String => (2, Some("x.len()".to_string())),
            Type::Bytes => (4, Some("x.len()".to_string())),
            Type::Records => (4, None),
            Type::Struct(_) if field.nullable.is_none() => (0, Some("x.size_hint()".to_string())),
            Type::Struct(_) => (1, Some("x.size_hint()".to_string())),
            Type::Array(inner) => (
                4,
                Some(match &**inner {
                    Type::String | Type::Bytes => {
                        "x.iter().map(|x| 4 + x.len()).sum::<usize>()".into()
                    }
                    Type::Struct(_) => "x.iter().map(|x| x.size_hint()).sum::<usize>()".into(),
                    Type::Uuid => "16 * x.len()".into(),
                    _ => "8 * x.len()".to_string(),
                }),
            ),
        };
        fixed += fixed_bytes;
        if let Some(term) = term {
            terms += &if field.nullable.is_some() {
                format!(" + self.{name}.as_ref().map_or(0, |x| {term})")
            } else {
                let whole = term.replacen('x', &format!("self.{name}"), 1);
                let whole = if term.starts_with('x') {
                    whole
                } else {
                    term.replace("x.len()", &format!("self.{name}.len()"))
                };
                format!(" + {whole}")
            };
        }
    }
    format!("pub(crate) fn size_hint(&self) -> usize {{\n{fixed}{terms}\n}}\n\n")
}

fn encode(message: &Message, shape: &Struct) -> String {
    let mut body = String::new();
    for field in shape.fields.iter().filter(|f| f.tag.is_none()) {
        let write = write_field(message, field);
        let condition = carried(message, field);
        if condition.is_empty() {
            body += &write;
            continue;
        }
        body += &format!("if {condition} {{\n{write}}}");
        body += &if field.ignorable {
            "\n".into()
        } else {
            format!(" else {}", refuse(shape, field))
        };
    }
    body += &encode_tags(message, shape);
    if body.is_empty() {
        return "pub(crate) fn encode_body(&self, _: i16, _: &mut Encoder) -> Result<(), EncodeError> {\nOk(())\n}\n\n"
            .into();
    }
    let body = let_flexible(message, &body) + &body;
    let version = if mentions(&body, "version") {
        "version"
    } else {
        "_version"
    };
    format!(
        "pub(crate) fn encode_body(&self, {version}: i16, e: &mut Encoder) -> Result<(), EncodeError> {{\n{body}Ok(())\n}}\n\n"
    )
}

/// `let flexible = …` if `body` asks.
fn let_flexible(message: &Message, body: &str) -> String {
    match message.flexible {
        Some(from) if flexibility(message) == "flexible" && mentions(body, "flexible") => {
            format!("let flexible = version >= {from};\n")
        }
        _ => String::new(),
    }
}

/// Refuses a value that this version cannot carry.
fn refuse(shape: &Struct, field: &Field) -> String {
    format!(
        "if {} {{\nreturn Err(EncodeError::NotInVersion {{ field: \"{}.{}\", version }});\n}}\n",
        differs_from_default(field),
        shape.name,
        field.name
    )
}

fn encode_tags(message: &Message, shape: &Struct) -> String {
    let flexible = flexibility(message);
    if flexible == "false" {
        return String::new();
    }
    let mut tagged: Vec<&Field> = shape.fields.iter().filter(|f| f.tag.is_some()).collect();
    tagged.sort_by_key(|f| f.tag);
    let mut body = String::new();
    if tagged.is_empty() {
        body += "e.unsigned_varint(0);\n";
    } else {
        let mut count = String::new();
        let mut fields = String::new();
        for field in &tagged {
            let differs = differs_from_default(field);
            let versions = field.versions.unwrap_or(message.versions);
            let from_flexible = Versions {
                min: if versions.min <= message.flexible.unwrap_or(0) {
                    message.versions.min
                } else {
                    versions.min
                },
                max: versions.max,
            };
            let condition = condition(from_flexible, message.versions);
            let set = if condition.is_empty() {
                differs.clone()
            } else if differs.contains("||") {
                format!("{condition} && ({differs})")
            } else {
                format!("{condition} && {differs}")
            };
            let variable = format!("has_{}", field.name);
            count += &format!("let {variable} = {set};\n");
            fields += &format!(
                "if {variable} {{\ne.tagged({}, |e| {{\n{}Ok(())\n}})?;\n}}\n",
                field.tag.unwrap_or(0),
                write_field(message, field)
            );
        }
        let sum: Vec<String> = tagged
            .iter()
            .map(|f| format!("u32::from(has_{})", f.name))
            .collect();
        body += &format!("{count}e.unsigned_varint({});\n{fields}", sum.join(" + "));
    }
    let mut out = String::new();
    for field in tagged.iter().filter(|f| !f.ignorable) {
        let first = field
            .versions
            .map_or(message.versions.min, |v| v.min)
            .max(message.flexible.unwrap_or(0));
        if first > message.versions.min {
            let refusal = refuse(shape, field);
            out += &refusal.replacen("if ", &format!("if version < {first} && "), 1);
        }
    }
    if flexible == "true" {
        return out + &body;
    }
    out + &format!("if flexible {{\n{body}}}\n")
}

/// Statements that write `self.field`, nullability included.
fn write_field(message: &Message, field: &Field) -> String {
    let path = format!("self.{}", field.name);
    let flexible = flexibility(message);
    match null_allowed(message, field) {
        None => write_value(message, &field.ty, &path, true) + "\n",
        Some(condition) => {
            let some = write_value(message, &field.ty, "x", false);
            let null = match field.ty {
                Type::String => format!("e.null_string({flexible})"),
                Type::Struct(_) => "e.i8(-1)".into(),
                _ => format!("e.null_bytes({flexible})"),
            };
            let none = if condition.is_empty() {
                format!("None => {null},\n")
            } else {
                format!(
                    "None if {condition} => {null},\nNone => return Err(EncodeError::NullNotAllowed {{ field: \"{}\" }}),\n",
                    field.name
                )
            };
            let some = match field.ty {
                Type::Struct(_) => format!("Some(x) => {{\ne.i8(1);\n{some}\n}}\n"),
                _ => format!("Some(x) => {},\n", some.trim_end_matches(';')),
            };
            format!("match &{path} {{\n{some}{none}}}\n")
        }
    }
}

/// One statement; `owned`: `path` is a place, not a reference.
fn write_value(message: &Message, ty: &Type, path: &str, owned: bool) -> String {
    let flexible = flexibility(message);
    let copied = if owned {
        path.to_string()
    } else {
        format!("*{path}")
    };
    let borrowed = if owned {
        format!("&{path}")
    } else {
        path.to_string()
    };
    match ty {
        Type::Bool => format!("e.bool({copied});"),
        Type::I8 => format!("e.i8({copied});"),
        Type::I16 => format!("e.i16({copied});"),
        Type::I32 => format!("e.i32({copied});"),
        Type::I64 => format!("e.i64({copied});"),
        Type::F64 => format!("e.f64({copied});"),
        Type::Error => format!("e.i16({path}.0);"),
        Type::Uuid => format!("e.uuid({borrowed});"),
        Type::String => format!("e.string({borrowed}, {flexible})?;"),
        Type::Bytes => format!("e.bytes({borrowed}, {flexible})?;"),
        Type::Records => format!("e.records({borrowed}, {flexible})?;"),
        Type::Struct(_) => format!("{path}.encode_body(version, e)?;"),
        Type::Array(inner) => match &**inner {
            Type::I32 => format!("e.i32_array({borrowed}, {flexible})?;"),
            Type::Struct(_) => {
                format!("e.array({borrowed}, {flexible}, |e, x| x.encode_body(version, e))?;")
            }
            Type::String | Type::Bytes => {
                let write = write_value(message, inner, "x", false);
                format!(
                    "e.array({borrowed}, {flexible}, |e, x| {})?;",
                    write.trim_end_matches("?;")
                )
            }
            _ => {
                let write = write_value(message, inner, "x", false);
                format!("e.array({borrowed}, {flexible}, |e, x| {{\n{write}\nOk(())\n}})?;")
            }
        },
    }
}

fn decode(message: &Message, shape: &Struct) -> String {
    let flexible = flexibility(message);
    let mut fields = String::new();
    for field in &shape.fields {
        let name = &field.name;
        if field.tag.is_some() {
            fields += &format!("{name}: {},\n", default_value(field));
            continue;
        }
        let read = read_field(message, field);
        let condition = carried(message, field);
        fields += &if condition.is_empty() {
            format!("{name}: {read},\n")
        } else {
            format!(
                "{name}: if {condition} {{ {read} }} else {{ {} }},\n",
                default_value(field)
            )
        };
    }
    let tagged: Vec<&Field> = shape.fields.iter().filter(|f| f.tag.is_some()).collect();
    let tags = if tagged.is_empty() {
        "d.skip_tagged_fields()?;\n".to_string()
    } else {
        let reads: Vec<String> = tagged.iter().map(|f| read_tag(message, f)).collect();
        let reads = reads.join(" else ");
        format!("d.tagged_fields(|tag, d| {{\n{reads}\nOk(())\n}})?;\n")
    };
    let body = match flexible {
        "false" => format!("Ok(Self {{\n{fields}}})\n"),
        "true" => format!(
            "let {}out = Self {{\n{fields}}};\n{tags}Ok(out)\n",
            mutable(&tagged)
        ),
        _ => format!(
            "let {}out = Self {{\n{fields}}};\nif flexible {{\n{tags}}}\nOk(out)\n",
            mutable(&tagged)
        ),
    };
    let body = let_flexible(message, &body) + &body;
    let version = if mentions(&body, "version") {
        "version"
    } else {
        "_version"
    };
    let decoder = if body.contains("d.") || body.contains(", d)") {
        "d"
    } else {
        "_d"
    };
    format!(
        "pub(crate) fn decode_body({version}: i16, {decoder}: &mut Decoder) -> Result<Self, DecodeError> {{\n{body}}}\n"
    )
}

fn mutable(tagged: &[&Field]) -> &'static str {
    if tagged.is_empty() { "" } else { "mut " }
}

/// `if` the tag is the field's and the version has it, reads it.
fn read_tag(message: &Message, field: &Field) -> String {
    let versions = field.versions.unwrap_or(message.versions);
    let flexible = Versions {
        min: message.flexible.unwrap_or(0).max(message.versions.min),
        max: message.versions.max,
    };
    let mut guard = format!("tag == {}", field.tag.unwrap_or(0));
    let version = condition(versions, flexible);
    if !version.is_empty() {
        guard += &format!(" && {version}");
    }
    let read = read_field(message, field);
    format!("if {guard} {{\nout.{} = {read};\n}}", field.name)
}

/// An expression that reads the field, nullability included.
fn read_field(message: &Message, field: &Field) -> String {
    let flexible = flexibility(message);
    let plain = || read_value(message, &field.ty);
    let Some(condition) = null_allowed(message, field) else {
        return plain();
    };
    let nullable = match &field.ty {
        Type::String => format!("d.nullable_string({flexible})?"),
        Type::Bytes => format!("d.nullable_bytes({flexible})?"),
        Type::Array(inner) => {
            let (fewest, read) = element(message, inner);
            format!("d.nullable_array({flexible}, {fewest}, {read})?")
        }
        _ => format!("if d.i8()? < 0 {{ None }} else {{ Some({}) }}", plain()),
    };
    if condition.is_empty() {
        nullable
    } else {
        format!(
            "if {condition} {{ {nullable} }} else {{ Some({}) }}",
            plain()
        )
    }
}

fn read_value(message: &Message, ty: &Type) -> String {
    let flexible = flexibility(message);
    match ty {
        Type::Bool => "d.bool()?".into(),
        Type::I8 => "d.i8()?".into(),
        Type::I16 => "d.i16()?".into(),
        Type::I32 => "d.i32()?".into(),
        Type::I64 => "d.i64()?".into(),
        Type::F64 => "d.f64()?".into(),
        Type::Error => "ErrorCode(d.i16()?)".into(),
        Type::Uuid => "d.uuid()?".into(),
        Type::String => format!("d.string({flexible})?"),
        Type::Bytes => format!("d.bytes({flexible})?"),
        Type::Records => format!("d.records({flexible})?"),
        Type::Struct(name) => format!("{name}::decode_body(version, d)?"),
        Type::Array(inner) if **inner == Type::I32 => format!("d.i32_array({flexible})?"),
        Type::Array(inner) => {
            let (fewest, read) = element(message, inner);
            format!("d.array({flexible}, {fewest}, {read})?")
        }
    }
}

/// The fewest bytes of an array's element, and a function that reads one.
fn element(message: &Message, inner: &Type) -> (usize, String) {
    let read = match inner {
        Type::I8 => "Decoder::i8".into(),
        Type::I16 => "Decoder::i16".into(),
        Type::I32 => "Decoder::i32".into(),
        Type::I64 => "Decoder::i64".into(),
        Type::Uuid => "Decoder::uuid".into(),
        Type::Struct(name) => format!("|d| {name}::decode_body(version, d)"),
        Type::Error | Type::Bool | Type::Array(_) => {
            format!("|d| Ok({})", read_value(message, inner))
        }
        _ => format!("|d| {}", read_value(message, inner).trim_end_matches('?')),
    };
    (fewest_bytes(message, inner), read)
}

/// `impl Message`, and for records `impl VersionedMessage`.
pub fn message(message: &Message) -> String {
    let name = message.name();
    let Versions { min, max } = message.versions;
    let mut out = format!(
        "impl Message for {name} {{\n\
         const NAME: &'static str = \"{name}\";\n\
         const MIN_VERSION: i16 = {min};\n\
         const MAX_VERSION: i16 = {max};\n\n\
         fn size_hint(&self) -> usize {{\n{name}::size_hint(self)\n}}\n\n\
         fn encode(&self, version: i16, e: &mut Encoder) -> Result<(), EncodeError> {{\n\
         Self::check_encode(version)?;\nself.encode_body(version, e)\n}}\n\n\
         fn decode(version: i16, d: &mut Decoder) -> Result<Self, DecodeError> {{\n\
         Self::check_decode(version)?;\nSelf::decode_body(version, d)\n}}\n}}\n\n"
    );
    if let Some(lenient) = message.newer_as_latest {
        out += &format!(
            "impl VersionedMessage for {name} {{\nconst NEWER_AS_LATEST: bool = {lenient};\n}}\n\n"
        );
    }
    out
}
