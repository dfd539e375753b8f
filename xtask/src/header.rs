//! `include/librdkafka/rdkafka.h` from the Rust source of `bindings-c`: each exported function with its documentation, between a
//! hand-written beginning (types, constants) and end (macros). The error codes come from the client's table.

use std::{fmt::Write, fs, path::Path};

/// Rust types of the C API and what they are in C. `@` is where the name goes.
const TYPES: &[(&str, &str)] = &[
    ("()", "void @"),
    ("c_int", "int @"),
    ("i16", "int16_t @"),
    ("i32", "int32_t @"),
    ("i64", "int64_t @"),
    ("usize", "size_t @"),
    ("isize", "ssize_t @"),
    ("RespErr", "rd_kafka_resp_err_t @"),
    ("c_char", "char @"),
    ("c_void", "void @"),
    ("libc::FILE", "FILE @"),
    ("Instance", "rd_kafka_t @"),
    ("Topic", "rd_kafka_topic_t @"),
    ("Conf", "rd_kafka_conf_t @"),
    ("TopicConf", "rd_kafka_topic_conf_t @"),
    ("QueueHandle", "rd_kafka_queue_t @"),
    ("Event", "rd_kafka_event_t @"),
    ("Error", "rd_kafka_error_t @"),
    ("Headers", "rd_kafka_headers_t @"),
    ("GroupMetadata", "rd_kafka_consumer_group_metadata_t @"),
    ("Message", "rd_kafka_message_t @"),
    ("TopicPartition", "rd_kafka_topic_partition_t @"),
    ("TopicPartitionList", "rd_kafka_topic_partition_list_t @"),
    ("Vu", "rd_kafka_vu_t @"),
    ("ErrDesc", "struct rd_kafka_err_desc @"),
    ("Metadata", "struct rd_kafka_metadata @"),
    ("GroupList", "struct rd_kafka_group_list @"),
    (
        "Option<Compare>",
        "int (*@)(const void *a, const void *b, void *opaque)",
    ),
    (
        "Option<DeliveryCallback>",
        "void (*@)(rd_kafka_t *rk, void *payload, size_t len, rd_kafka_resp_err_t err, void *opaque, void *msg_opaque)",
    ),
    (
        "Option<DeliveryMessageCallback>",
        "void (*@)(rd_kafka_t *rk, const rd_kafka_message_t *rkmessage, void *opaque)",
    ),
    (
        "Option<ConsumeCallback>",
        "void (*@)(rd_kafka_message_t *rkmessage, void *opaque)",
    ),
    (
        "Option<RebalanceCallback>",
        "void (*@)(rd_kafka_t *rk, rd_kafka_resp_err_t err, rd_kafka_topic_partition_list_t *partitions, void *opaque)",
    ),
    (
        "Option<OffsetCommitCallback>",
        "void (*@)(rd_kafka_t *rk, rd_kafka_resp_err_t err, rd_kafka_topic_partition_list_t *offsets, void *opaque)",
    ),
    (
        "Option<ErrorCallback>",
        "void (*@)(rd_kafka_t *rk, int err, const char *reason, void *opaque)",
    ),
    (
        "Option<ThrottleCallback>",
        "void (*@)(rd_kafka_t *rk, const char *broker_name, int32_t broker_id, int throttle_time_ms, void *opaque)",
    ),
    (
        "Option<LogCallback>",
        "void (*@)(const rd_kafka_t *rk, int level, const char *fac, const char *buf)",
    ),
    (
        "Option<StatsCallback>",
        "int (*@)(rd_kafka_t *rk, char *json, size_t json_len, void *opaque)",
    ),
    (
        "Option<BackgroundEventCallback>",
        "void (*@)(rd_kafka_t *rk, rd_kafka_event_t *rkev, void *opaque)",
    ),
    (
        "Option<PartitionerCallback>",
        "int32_t (*@)(const rd_kafka_topic_t *rkt, const void *keydata, size_t keylen, int32_t partition_cnt, void *rkt_opaque, void *msg_opaque)",
    ),
    (
        "Option<QueueCallback>",
        "void (*@)(rd_kafka_t *rk, void *qev_opaque)",
    ),
];

/// Where an `int` of Rust is an enum in C: function, then the parameter's name or "" for the result.
const ENUMS: &[(&str, &str, &str)] = &[
    ("rd_kafka_new", "type", "rd_kafka_type_t"),
    ("rd_kafka_type", "", "rd_kafka_type_t"),
    ("rd_kafka_conf_set", "", "rd_kafka_conf_res_t"),
    ("rd_kafka_conf_get", "", "rd_kafka_conf_res_t"),
    ("rd_kafka_topic_conf_set", "", "rd_kafka_conf_res_t"),
    ("rd_kafka_topic_conf_get", "", "rd_kafka_conf_res_t"),
    ("rd_kafka_message_status", "", "rd_kafka_msg_status_t"),
    (
        "rd_kafka_message_timestamp",
        "tstype",
        "rd_kafka_timestamp_type_t *",
    ),
    ("rd_kafka_event_type", "", "rd_kafka_event_type_t"),
];

/// The order of the header's sections: file, and its title.
const SECTIONS: &[(&str, &str)] = &[
    ("errors.rs", "Errors"),
    ("topic_partition_list.rs", "Lists of partitions"),
    ("headers.rs", "Headers"),
    ("message.rs", "Messages"),
    ("conf.rs", "Configuration"),
    (
        "conf_callbacks.rs",
        "Configuration: the application's functions",
    ),
    ("instance.rs", "Handles"),
    ("log.rs", "Logs"),
    ("topic.rs", "Topics and partitioners"),
    ("queue.rs", "Queues"),
    ("event.rs", "Events"),
    ("produce.rs", "Producing"),
    ("consumer.rs", "Consuming"),
    (
        "simple_consumer.rs",
        "Consuming single partitions, the old way",
    ),
    ("group_metadata.rs", "A consumer's place in its group"),
    ("cluster.rs", "The cluster"),
    ("transactions.rs", "Transactions"),
];

fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
}

/// The header's text.
pub fn text(root: &Path) -> Result<String, String> {
    let header = root.join("bindings-c/header");
    let mut out = read(&header.join("beginning.h"))?.replace("@ERROR_CODES@", &codes(root)?);
    for (file, title) in SECTIONS {
        let source = read(&root.join("bindings-c/src").join(file))?;
        write!(out, "\n/* ---- {title} ---- */\n").expect("a String takes all");
        for function in functions(&source).map_err(|error| format!("{file}: {error}"))? {
            out += &function;
        }
    }
    Ok(out + &read(&header.join("end.h"))?)
}

/// The enumerators of the error codes: lines like `-199 BAD_MSG "_BAD_MSG" "What it means";`.
fn codes(root: &Path) -> Result<String, String> {
    let source = read(&root.join("core/client/src/error/codes.rs"))?;
    let mut out = String::new();
    for line in source.lines() {
        let mut quoted = line.split('"');
        let (Some(start), Some(name), Some(_), Some(meaning)) =
            (quoted.next(), quoted.next(), quoted.next(), quoted.next())
        else {
            continue;
        };
        let Some(Ok(number)) = start.split_whitespace().next().map(str::parse::<i32>) else {
            continue;
        };
        writeln!(
            out,
            "        /** {meaning} */\n        RD_KAFKA_RESP_ERR_{name} = {number},"
        )
        .expect("a String takes all");
    }
    Ok(out)
}

/// The declarations of a file's exported functions, in its order.
fn functions(source: &str) -> Result<Vec<String>, String> {
    let mut found = Vec::new();
    let mut doc: Vec<&str> = Vec::new();
    let mut lines = source.lines();
    // Partitioners come out of a macro that takes a name per line; their arguments are alike.
    let mut of_macro = false;
    while let Some(line) = lines.next() {
        let trimmed = line.trim();
        if let Some(text) = trimmed.strip_prefix("///") {
            doc.push(text.trim());
        } else if trimmed == "partitioners! {" {
            of_macro = true;
        } else if of_macro && trimmed.starts_with("rd_kafka_") {
            let name = trimmed.split(' ').next().unwrap_or_default();
            let arguments = "const rd_kafka_topic_t *rkt, const void *key, size_t keylen, int32_t partition_cnt, \
                             void *rkt_opaque, void *msg_opaque";
            found.push(declaration(&doc, &format!("int32_t {name}({arguments})")));
            doc.clear();
        } else if let Some(at) = line
            .find("extern \"C\" fn rd_kafka_")
            .filter(|_| line.starts_with("pub "))
        {
            let mut signature = line[at + "extern \"C\" fn ".len()..].to_owned();
            while !signature.contains('{') {
                signature.push(' ');
                signature += lines.next().ok_or("a function without a body")?.trim();
            }
            found.push(declaration(&doc, &c_signature(&signature)?));
            doc.clear();
        } else if !trimmed.starts_with("#[") {
            doc.clear();
        }
    }
    Ok(found)
}

fn declaration(doc: &[&str], signature: &str) -> String {
    format!(
        "\n/**\n * {}\n */\nRD_EXPORT {signature};\n",
        doc.join("\n * ")
    )
}

/// `name(a: T, …) -> R {…` in C.
fn c_signature(rust: &str) -> Result<String, String> {
    let rust = &rust[..rust.find('{').unwrap_or(rust.len())];
    let open = rust.find('(').ok_or_else(|| rust.to_owned())?;
    let close = rust.rfind(')').ok_or_else(|| rust.to_owned())?;
    let name = &rust[..open];
    let arguments: Vec<String> = rust[open + 1..close]
        .split(',')
        .map(str::trim)
        .filter(|argument| !argument.is_empty())
        .map(|argument| {
            let (argument, kind) = argument.split_once(':').ok_or(argument)?;
            let argument = argument
                .trim()
                .trim_start_matches('_')
                .trim_start_matches("r#");
            c_declaration(name, kind.trim(), argument)
        })
        .collect::<Result<_, String>>()?;
    let result = match rust[close + 1..].trim().strip_prefix("->") {
        Some(result) => result.trim(),
        None => "()",
    };
    let arguments = if arguments.is_empty() {
        "void".to_owned()
    } else {
        arguments.join(", ")
    };
    let call = format!("{name}({arguments})");
    let (_, _, of_enum) = ENUMS
        .iter()
        .find(|(function, parameter, _)| *function == name && parameter.is_empty())
        .copied()
        .unwrap_or_default();
    if of_enum.is_empty() {
        c_type(result, &call)
    } else {
        Ok(format!("{of_enum} {call}"))
    }
}

fn c_declaration(function: &str, kind: &str, name: &str) -> Result<String, String> {
    match ENUMS.iter().find(|(f, p, _)| *f == function && *p == name) {
        Some((_, _, of_enum)) if of_enum.ends_with('*') => Ok(format!("{of_enum}{name}")),
        Some((_, _, of_enum)) => Ok(format!("{of_enum} {name}")),
        None => c_type(kind, name),
    }
}

/// A Rust type around a name.
fn c_type(rust: &str, name: &str) -> Result<String, String> {
    // crate::conf_callbacks::X in an Option is X.
    let rust = rust
        .replace("crate::conf_callbacks::", "")
        .replace("core::ffi::", "");
    if let Some(inner) = rust.strip_prefix("*const ") {
        return Ok(format!("const {}", c_type(inner, &format!("*{name}"))?));
    }
    if let Some(inner) = rust.strip_prefix("*mut *const ") {
        return Ok(format!("const {}", c_type(inner, &format!("**{name}"))?));
    }
    if let Some(inner) = rust.strip_prefix("*mut ") {
        return c_type(inner, &format!("*{name}"));
    }
    let form = TYPES
        .iter()
        .find(|(known, _)| *known == rust)
        .map(|(_, form)| *form)
        .ok_or_else(|| format!("the type {rust} has no form in C: add it to TYPES"))?;
    Ok(form.replace('@', name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures() {
        let rust = "rd_kafka_poll(rk: *mut Instance, timeout_ms: c_int) -> c_int {";
        assert_eq!(
            c_signature(rust).unwrap(),
            "int rd_kafka_poll(rd_kafka_t *rk, int timeout_ms)"
        );
        let rust =
            "rd_kafka_conf_dump( conf: *mut Conf, cntp: *mut usize, ) -> *mut *const c_char {";
        assert_eq!(
            c_signature(rust).unwrap(),
            "const char **rd_kafka_conf_dump(rd_kafka_conf_t *conf, size_t *cntp)"
        );
        assert!(c_signature("rd_kafka_x(a: Unheard) {").is_err());
    }
}
