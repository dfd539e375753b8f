//! The generated module's root: the API keys, and the enums over all requests and all responses.

use super::table::{Api, Message, Table};

/// `mod.rs`
pub fn module(tables: &[Table]) -> String {
    let mut modules = String::new();
    let mut exports = String::new();
    for table in tables {
        modules += &format!("pub mod {};\n", table.module);
        let names: Vec<&str> = table.messages.iter().map(Message::name).collect();
        exports += &format!("pub use {}::{{{}}};\n", table.module, names.join(", "));
    }
    let apis: Vec<(&Table, &Api)> = tables
        .iter()
        .filter_map(|t| Some((t, t.api.as_ref()?)))
        .collect();
    format!(
        "//! Kafka's messages: one module per API key with its request, its response and their nested structs.\n\
         //! Requests, responses and records are also exported from here.\n\
         #![allow(missing_docs)]\n\n\
         #[cfg(test)]\nmod arbitrary;\n{modules}\n{exports}\n\
         use core::ops::RangeInclusive;\n\
         use crate::codec::{{DecodeError, Decoder, EncodeError, Encoder, Message}};\n\n{}{}{}",
        api_key(&apis),
        messages(&apis, "Request", "What a client asks."),
        messages(&apis, "Response", "What a broker answers.")
    )
}

fn api_key(apis: &[(&Table, &Api)]) -> String {
    let mut variants = String::new();
    let mut from = String::new();
    let mut names = String::new();
    let mut valid = String::new();
    let mut flexible = String::new();
    let mut broker = String::new();
    let mut all = String::new();
    for (
        table,
        Api {
            key,
            name,
            broker: advertised,
        },
    ) in apis
    {
        let request = &table.messages[0];
        variants += &format!("{name} = {key},\n");
        from += &format!("{key} => Self::{name},\n");
        names += &format!("Self::{name} => \"{name}\",\n");
        valid += &format!(
            "Self::{name} => {}..={},\n",
            request.versions.min, request.versions.max
        );
        let first = request.flexible.map_or("None".into(), |f| {
            format!("Some({})", f.max(request.versions.min))
        });
        flexible += &format!("Self::{name} => {first},\n");
        broker += &format!("Self::{name} => {}..={},\n", advertised.min, advertised.max);
        all += &format!("Self::{name},\n");
    }
    format!(
        "/// The APIs that this crate speaks, with Kafka's numbers.\n\
         #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]\n#[repr(i16)]\npub enum ApiKey {{\n{variants}}}\n\n\
         impl ApiKey {{\n\
         /// All of them, ascending.\n\
         pub const ALL: [Self; {}] = [{all}];\n\n\
         /// The API with this number; `None` for one that this crate does not speak.\n\
         pub const fn from_i16(key: i16) -> Option<Self> {{\nSome(match key {{\n{from}_ => return None,\n}})\n}}\n\n\
         /// Kafka's name.\n\
         pub const fn name(self) -> &'static str {{\nmatch self {{\n{names}}}\n}}\n\n\
         /// The versions that this crate encodes and decodes.\n\
         pub const fn valid_versions(self) -> RangeInclusive<i16> {{\nmatch self {{\n{valid}}}\n}}\n\n\
         /// The first version with compact lengths and tagged fields; `None`: there is none.\n\
         pub const fn flexible_from(self) -> Option<i16> {{\nmatch self {{\n{flexible}}}\n}}\n\n\
         /// What a Kafka 4.3 broker advertises. Produce starts at 0 there although versions 0 to 2 are not served:\n\
         /// librdkafka before 2.11.1 looks for exactly version 0 and otherwise does not compress (KAFKA-18659).\n\
         pub const fn broker_versions(self) -> RangeInclusive<i16> {{\nmatch self {{\n{broker}}}\n}}\n}}\n\n",
        apis.len()
    )
}

/// `enum Request` or `enum Response`.
fn messages(apis: &[(&Table, &Api)], kind: &str, doc: &str) -> String {
    let mut variants = String::new();
    let mut keys = String::new();
    let mut hints = String::new();
    let mut encode = String::new();
    let mut decode = String::new();
    let mut froms = String::new();
    for (_, Api { name, .. }) in apis {
        let message = format!("{name}{kind}");
        variants += &format!("{name}({message}),\n");
        keys += &format!("Self::{name}(_) => ApiKey::{name},\n");
        hints += &format!("Self::{name}(m) => m.size_hint(),\n");
        encode += &format!("Self::{name}(m) => Message::encode(m, version, e),\n");
        decode += &format!("ApiKey::{name} => Self::{name}(Message::decode(version, d)?),\n");
        froms += &format!(
            "impl From<{message}> for {kind} {{\nfn from(m: {message}) -> Self {{\nSelf::{name}(m)\n}}\n}}\n\n"
        );
    }
    format!(
        "/// {doc}\n#[derive(Clone, Debug, PartialEq)]\n#[allow(clippy::large_enum_variant)]\npub enum {kind} {{\n{variants}}}\n\n\
         impl {kind} {{\n\
         /// The API that it belongs to.\n\
         pub fn api_key(&self) -> ApiKey {{\nmatch self {{\n{keys}}}\n}}\n\n\
         /// About how many bytes the body takes, record bytes left out.\n\
         pub fn size_hint(&self) -> usize {{\nmatch self {{\n{hints}}}\n}}\n\n\
         /// Writes the body (no header) as `version` has it.\n\
         pub fn encode(&self, version: i16, e: &mut Encoder) -> Result<(), EncodeError> {{\nmatch self {{\n{encode}}}\n}}\n\n\
         /// Reads a body of `version`. Bytes behind it are left in the decoder.\n\
         pub fn decode(api_key: ApiKey, version: i16, d: &mut Decoder) -> Result<Self, DecodeError> {{\nOk(match api_key {{\n{decode}}})\n}}\n}}\n\n\
         {froms}"
    )
}
