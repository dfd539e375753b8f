//! Statistics as JSON, with librdkafka's field names.

use crate::{handle::Role, shared::Shared};
use ottla_client::Client;
use std::fmt::Write;

/// The text of a statistics event. It has the fields that mean something here; TCP's and per-broker ones come with sockets.
pub(crate) fn json(shared: &Shared, client: &Client, now_us: u64) -> String {
    let wall = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    let (sent, received) = client.traffic();
    let (messages, bytes) = client.delivered();
    let config = client.config();
    let kind = match shared.role {
        Role::Producer => "producer",
        Role::Consumer => "consumer",
    };
    let mut text = String::with_capacity(512);
    let _ = write!(
        text,
        "{{\"name\":{},\"client_id\":{},\"type\":\"{kind}\",\"ts\":{now_us},\"time\":{wall},\"age\":{},\"replyq\":0,\
         \"msg_cnt\":{},\"msg_size\":{},\"msg_max\":{},\"msg_size_max\":{},\"tx\":{sent},\"rx\":{received},\
         \"txmsgs\":{messages},\"txmsg_bytes\":{bytes},\"brokers\":{{",
        quoted(&shared.name),
        quoted(&config.client_id),
        now_us,
        client.queue_len(),
        client.queue_bytes(),
        config.queue_buffering_max_messages,
        u64::from(config.queue_buffering_max_kbytes) * 1024,
    );
    for (i, broker) in client.brokers().iter().enumerate() {
        let name = format!("{}:{}/{}", broker.host, broker.port, broker.node);
        let comma = if i > 0 { "," } else { "" };
        let _ = write!(
            text,
            "{comma}{0}:{{\"name\":{0},\"nodeid\":{1},\"nodename\":{2},\"source\":\"learned\",\"state\":\"UP\"}}",
            quoted(&name),
            broker.node,
            quoted(&format!("{}:{}", broker.host, broker.port)),
        );
    }
    text.push_str("},\"topics\":{}");
    if let (Role::Consumer, Some(group)) = (shared.role, &config.group_id) {
        let _ = write!(
            text,
            ",\"cgrp\":{{\"state\":\"up\",\"group_id\":{},\"generation\":{},\"assignment_size\":{}}}",
            quoted(group),
            client.generation(),
            client.assignment().len()
        );
    }
    text.push('}');
    text
}

fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if (c as u32) < 0x20 => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    #[test]
    fn strings_are_escaped() {
        assert_eq!(super::quoted("a\"b\\c\n"), "\"a\\\"b\\\\c\\u000a\"");
    }
}
