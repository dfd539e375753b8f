//! Rust definitions of a table's structs, their defaults, and how large they are on the wire.

use super::table::{Field, Message, Struct, Type, Versions};

/// The Rust type that holds `ty`.
fn rust_type(ty: &Type) -> String {
    match ty {
        Type::Bool => "bool".into(),
        Type::I8 => "i8".into(),
        Type::I16 => "i16".into(),
        Type::I32 => "i32".into(),
        Type::I64 => "i64".into(),
        Type::F64 => "f64".into(),
        Type::Error => "ErrorCode".into(),
        Type::Uuid => "Uuid".into(),
        Type::String => "Str".into(),
        Type::Bytes => "Bytes".into(),
        Type::Records => "Records".into(),
        Type::Struct(name) => name.clone(),
        Type::Array(inner) => format!("Vec<{}>", rust_type(inner)),
    }
}

/// The value of a field that nobody set.
pub fn default_value(field: &Field) -> String {
    let value = match (&field.ty, field.default.as_deref()) {
        (_, Some("null")) => return "None".into(),
        (Type::Bool, value) => value.unwrap_or("false").into(),
        (Type::I8 | Type::I16 | Type::I32 | Type::I64, value) => number(value.unwrap_or("0")),
        (Type::F64, _) => "0.0".into(),
        (Type::Error, value) => format!("ErrorCode({})", value.unwrap_or("0")),
        (Type::Uuid, _) => "Uuid::ZERO".into(),
        (Type::String, _) => "Str::new()".into(),
        (Type::Bytes, _) => "Bytes::new()".into(),
        (Type::Records, _) => "Records::new()".into(),
        (Type::Struct(name), _) => format!("{name}::default()"),
        (Type::Array(_), _) => "Vec::new()".into(),
    };
    if field.nullable.is_some() {
        format!("Some({value})")
    } else {
        value
    }
}

/// The two numbers that read better as a name.
fn number(text: &str) -> String {
    match text {
        "2147483647" => "i32::MAX".into(),
        "-2147483648" => "i32::MIN".into(),
        "9223372036854775807" => "i64::MAX".into(),
        other => other.into(),
    }
}

/// Whether the field's default is also what `#[derive(Default)]` gives.
fn default_is_derivable(field: &Field) -> bool {
    match field.default.as_deref() {
        Some("null") | Some("0") | Some("false") => true,
        None => field.nullable.is_none(),
        Some(_) => false,
    }
}

/// The condition under which `self.field` holds something else than its default.
pub fn differs_from_default(field: &Field) -> String {
    let name = &field.name;
    if field.nullable.is_some() {
        return match field.default.as_deref() {
            Some("null") => format!("self.{name}.is_some()"),
            _ => format!("self.{name}.as_ref().is_none_or(|x| !x.is_empty())"),
        };
    }
    match (&field.ty, field.default.as_deref()) {
        (Type::Bool, Some("true")) => format!("!self.{name}"),
        (Type::Bool, _) => format!("self.{name}"),
        (Type::String | Type::Bytes | Type::Records | Type::Array(_), _) => {
            format!("!self.{name}.is_empty()")
        }
        (Type::Uuid, _) => format!("!self.{name}.is_zero()"),
        _ => format!("self.{name} != {}", default_value(field)),
    }
}

/// `pub struct …` with docs, and `Default` where the derived one would differ from Kafka's.
pub fn definition(message: &Message, shape: &Struct) -> String {
    let name = &shape.name;
    let derived = shape.fields.iter().all(default_is_derivable);
    let mut out = String::new();
    if name == message.name() {
        out += &format!("/// {}\n", message_doc(message));
    } else {
        out += &format!("/// Part of [`{}`].\n", message.name());
    }
    let default = if derived { "Default, " } else { "" };
    out += &format!("#[derive(Clone, Debug, {default}PartialEq)]\npub struct {name} {{\n");
    for field in &shape.fields {
        for line in field_doc(message, field) {
            out += &format!("/// {line}\n");
        }
        let ty = rust_type(&field.ty);
        let ty = if field.nullable.is_some() {
            format!("Option<{ty}>")
        } else {
            ty
        };
        out += &format!("pub {}: {ty},\n", field.name);
    }
    out += "}\n\n";
    if !derived {
        out += &format!("impl Default for {name} {{\nfn default() -> Self {{\nSelf {{\n");
        for field in &shape.fields {
            out += &format!("{}: {},\n", field.name, default_value(field));
        }
        out += "}\n}\n}\n\n";
    }
    out
}

fn message_doc(message: &Message) -> String {
    let Versions { min, max } = message.versions;
    let flexible = match message.flexible {
        Some(from) if from <= min => ", all flexible".to_string(),
        Some(from) => format!(", flexible from {from} on"),
        None => ", never flexible".into(),
    };
    format!("Versions {min} to {max}{flexible}.")
}

/// What the table says about a field beyond its name and type.
fn field_doc(message: &Message, field: &Field) -> Vec<String> {
    let mut facts = Vec::new();
    if let Some(versions) = field.versions {
        facts.push(spoken(versions, message.versions));
    }
    match field.nullable {
        Some(versions) if !versions.covers(field.versions.unwrap_or(message.versions)) => {
            facts.push(format!(
                "may be null in {}",
                spoken(versions, message.versions)
            ));
        }
        _ => {}
    }
    if let Some(tag) = field.tag {
        facts.push(format!("tagged field {tag}"));
    }
    let mut lines = Vec::new();
    lines.extend(field.doc.clone());
    if !facts.is_empty() {
        let mut sentence = facts.join(", ");
        sentence[..1].make_ascii_uppercase();
        lines.push(format!("{sentence}."));
    }
    lines
}

fn spoken(versions: Versions, all: Versions) -> String {
    let Versions { min, max } = versions;
    if min == max {
        format!("version {min}")
    } else if max == all.max {
        format!("versions {min} and up")
    } else {
        format!("versions {min} to {max}")
    }
}

/// Fewest bytes that a value of this type takes on the wire in `version`.
fn fewest_bytes_in(message: &Message, ty: &Type, version: i16) -> usize {
    let flexible = message.flexible.is_some_and(|from| version >= from);
    match ty {
        Type::Bool | Type::I8 => 1,
        Type::I16 | Type::Error => 2,
        Type::I32 => 4,
        Type::I64 | Type::F64 => 8,
        Type::Uuid => 16,
        Type::String if flexible => 1,
        Type::String => 2,
        Type::Bytes | Type::Records | Type::Array(_) if flexible => 1,
        Type::Bytes | Type::Records | Type::Array(_) => 4,
        Type::Struct(name) => {
            let fields = message.find(name).map_or(&[][..], |s| &s.fields);
            let carried = |f: &&Field| {
                f.tag.is_none()
                    && f.versions
                        .is_none_or(|v| v.min <= version && version <= v.max)
            };
            let bytes: usize = fields
                .iter()
                .filter(carried)
                .map(|f| fewest_bytes_in(message, &f.ty, version))
                .sum();
            bytes + usize::from(flexible)
        }
    }
}

/// Fewest bytes that a value of this type takes on the wire in any version; at least 1.
pub fn fewest_bytes(message: &Message, ty: &Type) -> usize {
    let versions = message.versions.min..=message.versions.max;
    versions
        .map(|v| fewest_bytes_in(message, ty, v))
        .min()
        .unwrap_or(0)
        .max(1)
}
