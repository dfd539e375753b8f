//! `include/librdkafka/rdkafka.h` from the Rust source of `bindings-c`: each exported function with its documentation, between a
//! hand-written beginning (types, constants) and end (macros). The error codes come from the client's table.

use std::{fmt::Write, fs, path::Path};

/// Rust types of the C API and what they are in C. `@` is where the name goes.
const TYPES: &[(&str, &str)] = &[
    ("()", "void @"),
    ("c_int", "int @"),
    ("i16", "int16_t @"),
    ("u16", "uint16_t @"),
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
    ("AdminOptions", "rd_kafka_AdminOptions_t @"),
    ("NewTopic", "rd_kafka_NewTopic_t @"),
    ("DeleteTopic", "rd_kafka_DeleteTopic_t @"),
    ("NewPartitions", "rd_kafka_NewPartitions_t @"),
    ("DeleteRecords", "rd_kafka_DeleteRecords_t @"),
    ("ElectLeaders", "rd_kafka_ElectLeaders_t @"),
    (
        "TopicPartitionResult",
        "rd_kafka_topic_partition_result_t @",
    ),
    ("TopicResult", "rd_kafka_topic_result_t @"),
    ("GroupResult", "rd_kafka_group_result_t @"),
    ("DeleteGroup", "rd_kafka_DeleteGroup_t @"),
    (
        "ListConsumerGroupOffsets",
        "rd_kafka_ListConsumerGroupOffsets_t @",
    ),
    (
        "AlterConsumerGroupOffsets",
        "rd_kafka_AlterConsumerGroupOffsets_t @",
    ),
    (
        "DeleteConsumerGroupOffsets",
        "rd_kafka_DeleteConsumerGroupOffsets_t @",
    ),
    ("GroupListing", "rd_kafka_ConsumerGroupListing_t @"),
    ("GroupDescription", "rd_kafka_ConsumerGroupDescription_t @"),
    ("MemberDescription", "rd_kafka_MemberDescription_t @"),
    ("MemberAssignment", "rd_kafka_MemberAssignment_t @"),
    ("ConfigResource", "rd_kafka_ConfigResource_t @"),
    ("ConfigEntry", "rd_kafka_ConfigEntry_t @"),
    ("Node", "rd_kafka_Node_t @"),
    ("Uuid", "rd_kafka_Uuid_t @"),
    ("TopicCollection", "rd_kafka_TopicCollection_t @"),
    ("TopicDescription", "rd_kafka_TopicDescription_t @"),
    ("TopicPartitionInfo", "rd_kafka_TopicPartitionInfo_t @"),
    ("ListedOffset", "rd_kafka_ListOffsetsResultInfo_t @"),
    ("CreateTopicsResult", "rd_kafka_CreateTopics_result_t @"),
    ("DeleteTopicsResult", "rd_kafka_DeleteTopics_result_t @"),
    (
        "CreatePartitionsResult",
        "rd_kafka_CreatePartitions_result_t @",
    ),
    (
        "DescribeConfigsResult",
        "rd_kafka_DescribeConfigs_result_t @",
    ),
    ("AlterConfigsResult", "rd_kafka_AlterConfigs_result_t @"),
    (
        "IncrementalAlterConfigsResult",
        "rd_kafka_IncrementalAlterConfigs_result_t @",
    ),
    ("ElectLeadersResult", "rd_kafka_ElectLeaders_result_t @"),
    ("DeleteRecordsResult", "rd_kafka_DeleteRecords_result_t @"),
    ("DeleteGroupsResult", "rd_kafka_DeleteGroups_result_t @"),
    (
        "DeleteConsumerGroupOffsetsResult",
        "rd_kafka_DeleteConsumerGroupOffsets_result_t @",
    ),
    (
        "ListConsumerGroupsResult",
        "rd_kafka_ListConsumerGroups_result_t @",
    ),
    (
        "DescribeConsumerGroupsResult",
        "rd_kafka_DescribeConsumerGroups_result_t @",
    ),
    (
        "ListConsumerGroupOffsetsResult",
        "rd_kafka_ListConsumerGroupOffsets_result_t @",
    ),
    (
        "AlterConsumerGroupOffsetsResult",
        "rd_kafka_AlterConsumerGroupOffsets_result_t @",
    ),
    ("DescribeTopicsResult", "rd_kafka_DescribeTopics_result_t @"),
    (
        "DescribeClusterResult",
        "rd_kafka_DescribeCluster_result_t @",
    ),
    ("ListOffsetsResult", "rd_kafka_ListOffsets_result_t @"),
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
    (
        "rd_kafka_AdminOptions_new",
        "for_api",
        "rd_kafka_admin_op_t",
    ),
    (
        "rd_kafka_AdminOptions_set_match_consumer_group_states",
        "consumer_group_states",
        "const rd_kafka_consumer_group_state_t *",
    ),
    (
        "rd_kafka_AdminOptions_set_match_consumer_group_types",
        "consumer_group_types",
        "const rd_kafka_consumer_group_type_t *",
    ),
    (
        "rd_kafka_AdminOptions_set_isolation_level",
        "value",
        "rd_kafka_IsolationLevel_t",
    ),
    (
        "rd_kafka_consumer_group_state_name",
        "state",
        "rd_kafka_consumer_group_state_t",
    ),
    (
        "rd_kafka_consumer_group_state_code",
        "",
        "rd_kafka_consumer_group_state_t",
    ),
    (
        "rd_kafka_consumer_group_type_name",
        "type",
        "rd_kafka_consumer_group_type_t",
    ),
    (
        "rd_kafka_consumer_group_type_code",
        "",
        "rd_kafka_consumer_group_type_t",
    ),
    (
        "rd_kafka_ConsumerGroupListing_state",
        "",
        "rd_kafka_consumer_group_state_t",
    ),
    (
        "rd_kafka_ConsumerGroupListing_type",
        "",
        "rd_kafka_consumer_group_type_t",
    ),
    (
        "rd_kafka_ConsumerGroupDescription_state",
        "",
        "rd_kafka_consumer_group_state_t",
    ),
    (
        "rd_kafka_ConsumerGroupDescription_type",
        "",
        "rd_kafka_consumer_group_type_t",
    ),
    (
        "rd_kafka_ConsumerGroupDescription_authorized_operations",
        "",
        "const rd_kafka_AclOperation_t *",
    ),
    (
        "rd_kafka_TopicDescription_authorized_operations",
        "",
        "const rd_kafka_AclOperation_t *",
    ),
    (
        "rd_kafka_DescribeCluster_result_authorized_operations",
        "",
        "const rd_kafka_AclOperation_t *",
    ),
    (
        "rd_kafka_ConfigSource_name",
        "confsource",
        "rd_kafka_ConfigSource_t",
    ),
    (
        "rd_kafka_ResourceType_name",
        "restype",
        "rd_kafka_ResourceType_t",
    ),
    (
        "rd_kafka_ConfigResource_new",
        "restype",
        "rd_kafka_ResourceType_t",
    ),
    (
        "rd_kafka_ConfigResource_type",
        "",
        "rd_kafka_ResourceType_t",
    ),
    ("rd_kafka_ConfigEntry_source", "", "rd_kafka_ConfigSource_t"),
    (
        "rd_kafka_ConfigResource_add_incremental_config",
        "op_type",
        "rd_kafka_AlterConfigOpType_t",
    ),
    (
        "rd_kafka_ElectLeaders_new",
        "election_type",
        "rd_kafka_ElectionType_t",
    ),
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
    ("admin/options.rs", "Administration: options"),
    ("admin/topics.rs", "Administration: topics and records"),
    ("admin/groups.rs", "Administration: consumer groups"),
    (
        "admin/group_offsets.rs",
        "Administration: offsets of consumer groups",
    ),
    ("admin/configs.rs", "Administration: settings"),
    ("admin/cluster.rs", "Administration: the cluster, offsets"),
    ("admin/elections.rs", "Administration: elections of leaders"),
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
