//! Random values of every message, for tests: all that a version can carry is filled in, the rest keeps its default.

use super::mentions;
use super::table::{Field, Message, Struct, Table, Type, Versions};

/// `arbitrary.rs`
pub fn module(tables: &[Table]) -> String {
    let mut out = String::from(
        "//! Random messages for tests, as far as a version can carry them.\n\
         // Which fields are set depends on the version, so most cannot stand in an initializer.\n\
         #![allow(clippy::field_reassign_with_default)]\n\n\
         use crate::arbitrary::Random;\nuse super::*;\n\n",
    );
    let mut requests = String::new();
    let mut responses = String::new();
    for table in tables {
        for message in &table.messages {
            for shape in &message.structs {
                out += &implementation(table, message, shape);
            }
        }
        if let Some(api) = &table.api {
            for (kind, arms) in [("Request", &mut requests), ("Response", &mut responses)] {
                *arms += &format!(
                    "ApiKey::{0} => Self::{0}({0}{kind}::arbitrary(r, version)),\n",
                    api.name
                );
            }
        }
    }
    for (kind, arms) in [("Request", requests), ("Response", responses)] {
        out += &format!(
            "impl {kind} {{\npub(crate) fn arbitrary(api_key: ApiKey, r: &mut Random, version: i16) -> Self {{\nmatch api_key {{\n{arms}}}\n}}\n}}\n\n"
        );
    }
    out
}

fn implementation(table: &Table, message: &Message, shape: &Struct) -> String {
    let name = &shape.name;
    let module = &table.module;
    let mut body = format!("let mut out = {module}::{name}::default();\n");
    for field in &shape.fields {
        let assign = format!("out.{} = {};\n", field.name, value(module, message, field));
        body += &match carried(message, field) {
            None => assign,
            Some(condition) => format!("if {condition} {{\n{assign}}}\n"),
        };
    }
    let version = if mentions(&body, "version") {
        "version"
    } else {
        "_version"
    };
    let random = if body.contains("r.") || body.contains("(r") {
        "r"
    } else {
        "_r"
    };
    let body = if shape.fields.is_empty() {
        format!("{module}::{name} {{}}\n")
    } else {
        body + "out\n"
    };
    format!(
        "impl {module}::{name} {{\npub(crate) fn arbitrary({random}: &mut Random, {version}: i16) -> Self {{\n{body}}}\n}}\n\n"
    )
}

/// The condition for the field being carried, `None` if it always is.
fn carried(message: &Message, field: &Field) -> Option<String> {
    let mut here = field.versions.unwrap_or(message.versions);
    if field.tag.is_some() {
        here.min = here.min.max(message.flexible.unwrap_or(0));
    }
    within(here, message.versions)
}

fn within(here: Versions, all: Versions) -> Option<String> {
    if here.covers(all) {
        return None;
    }
    Some(format!("({}..={}).contains(&version)", here.min, here.max))
}

fn value(module: &str, message: &Message, field: &Field) -> String {
    let plain = plain(module, &field.ty);
    match field.nullable {
        None => plain,
        Some(versions) => match within(versions, message.versions) {
            None => format!("if r.one_in(3) {{ None }} else {{ Some({plain}) }}"),
            Some(condition) => {
                format!("if {condition} && r.one_in(3) {{ None }} else {{ Some({plain}) }}")
            }
        },
    }
}

fn plain(module: &str, ty: &Type) -> String {
    match ty {
        Type::Bool => "r.one_in(2)".into(),
        Type::I8 => "r.integer() as i8".into(),
        Type::I16 => "r.integer() as i16".into(),
        Type::I32 => "r.integer() as i32".into(),
        Type::I64 => "r.integer()".into(),
        Type::F64 => "r.integer() as f64".into(),
        Type::Error => "crate::ErrorCode(r.integer() as i16)".into(),
        Type::Uuid => "r.uuid()".into(),
        Type::String => "r.string()".into(),
        Type::Bytes => "r.bytes()".into(),
        Type::Records => "r.records()".into(),
        Type::Struct(name) => format!("{module}::{name}::arbitrary(r, version)"),
        Type::Array(inner) => format!("r.array(|r| {})", plain(module, inner)),
    }
}
