//! Frames that no client should send: both peers must do the same with them, and live.

use crate::{
    Difference, Outcome,
    peers::Peer,
    session::{Answer, exchange},
};
use bytes::Bytes;
use ottla_protocol::{ApiKey, Request, RequestHeader, frame::encode_request, messages};
use std::{net::TcpStream, time::Duration};

/// A peer that hasn't answered by then says nothing, if the other one does neither.
const PATIENCE: Duration = Duration::from_millis(1500);
/// Where they differ, one that says nothing may only be slow.
const MORE_PATIENCE: Duration = Duration::from_secs(60);

/// What it is called that a peer says nothing and leaves the connection open.
const WAITS: &str = "waits";

/// How many were sent, and where the peers differ.
pub fn compare(theirs: &Peer, ours: &Peer) -> Outcome<(usize, Vec<Difference>)> {
    let mut differences = Vec::new();
    let frames = frames();
    let count = frames.len();
    for (name, bytes) in frames {
        let both = |patience| -> Outcome<[String; 2]> {
            Ok([
                outcome(theirs, &bytes, patience)?,
                outcome(ours, &bytes, patience)?,
            ])
        };
        let mut outcomes = both(PATIENCE)?;
        if outcomes[0] != outcomes[1] && outcomes.iter().any(|outcome| outcome == WAITS) {
            outcomes = both(MORE_PATIENCE)?;
        }
        let [theirs, ours] = outcomes;
        if theirs != ours {
            differences.push(Difference {
                case: format!("hostile {name}"),
                version: 0,
                answer: String::new(),
                field: "answer".into(),
                theirs,
                ours,
            });
        }
    }
    Ok((count, differences))
}

/// What a peer does with the bytes: answers (with its first bytes after the correlation id), closes, or waits.
fn outcome(peer: &Peer, bytes: &[u8], patience: Duration) -> Outcome<String> {
    let failed = |error: std::io::Error| format!("{} at {}: {error}", peer.name, peer.address);
    let mut stream = TcpStream::connect(peer.address).map_err(failed)?;
    stream.set_read_timeout(Some(patience)).map_err(failed)?;
    Ok(match exchange(&mut stream, bytes) {
        Ok(frame) => format!("answers {:?}", frame.get(4..6).unwrap_or_default()),
        Err(Answer::Closed) => "closes".into(),
        Err(_) => WAITS.into(),
    })
}

fn frame(key: i16, version: i16, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 4];
    bytes.extend(key.to_be_bytes());
    bytes.extend(version.to_be_bytes());
    bytes.extend(7_i32.to_be_bytes());
    bytes.extend([0, 1, b'x']);
    bytes.extend(body);
    let size = (bytes.len() - 4) as i32;
    bytes[..4].copy_from_slice(&size.to_be_bytes());
    bytes
}

fn frames() -> Vec<(String, Vec<u8>)> {
    let mut all = vec![
        ("negative size".into(), vec![0xff; 8]),
        ("size of 2 GiB".into(), vec![0x7f, 0xff, 0xff, 0xff, 0, 3]),
        (
            "size above socket.request.max.bytes".into(),
            vec![0x06, 0x40, 0, 1, 0, 3],
        ),
        ("size 0".into(), vec![0; 4]),
        ("half a header".into(), vec![0, 0, 0, 3, 0, 18, 0]),
        ("HTTP".into(), b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec()),
        (
            "TLS hello".into(),
            vec![0x16, 3, 1, 0, 0xa5, 1, 0, 0, 0xa1, 3, 3],
        ),
        ("unknown key".into(), frame(1234, 0, &[0; 8])),
        ("negative key".into(), frame(-1, 0, &[0; 8])),
        ("controller's key".into(), frame(52, 0, &[0; 8])),
        ("removed key".into(), frame(4, 0, &[0; 8])),
        ("ApiVersions of the future".into(), frame(18, 99, &[])),
        ("ApiVersions of the past".into(), frame(18, -1, &[])),
    ];
    for key in ApiKey::ALL {
        let range = key.broker_versions();
        all.push((
            format!("{} below", key.name()),
            frame(key as i16, range.start() - 1, &[]),
        ));
        for version in range {
            let name = format!("{} {version}", key.name());
            if key != ApiKey::ApiVersions {
                all.push((format!("{name} empty"), frame(key as i16, version, &[])));
            }
            all.push((
                format!("{name} all ones"),
                frame(key as i16, version, &[0xff; 40]),
            ));
            all.push((
                format!("{name} 7f"),
                frame(key as i16, version, &[0x7f; 40]),
            ));
        }
    }
    all.push(("Metadata with more behind it".into(), more_behind()));
    all
}

/// A whole request, and bytes behind it in the same frame.
fn more_behind() -> Vec<u8> {
    let header = RequestHeader {
        request_api_key: 3,
        request_api_version: 9,
        correlation_id: 7,
        client_id: None,
    };
    let request = Request::Metadata(messages::MetadataRequest {
        topics: Some(Vec::new()),
        ..Default::default()
    });
    let pieces: Vec<Bytes> = encode_request(&header, &request).expect("it can be written");
    let mut bytes = pieces.concat();
    bytes.extend([1, 2, 3]);
    let size = (bytes.len() - 4) as i32;
    bytes[..4].copy_from_slice(&size.to_be_bytes());
    bytes
}
