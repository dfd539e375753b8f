//! One connection to one peer, what was asked over it, and what came back.

use crate::{Outcome, answer, peers::Peer};
use bytes::Bytes;
use ottla_protocol::{
    Request, RequestHeader, Response, Uuid,
    frame::{decode_response, encode_request},
    messages,
};
use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

/// How long an answer may take, on a machine with other things to do.
const PATIENCE: Duration = Duration::from_secs(60);

/// What came back.
pub enum Answer {
    /// The fields, in the order in which they stand in the message.
    Fields(Vec<(String, String)>),
    /// The connection was closed.
    Closed,
    /// Nothing, for as long as was waited.
    Silent,
}

/// A peer, and what a case remembers of it.
pub struct Session<'a> {
    pub peer: &'a Peer,
    stream: TcpStream,
    answers: Vec<(String, Answer)>,
    /// Texts that are this peer's own, and what they are called in the comparison.
    own: Vec<(String, String)>,
}

impl<'a> Session<'a> {
    pub fn new(peer: &'a Peer) -> Outcome<Self> {
        let mut session = Self {
            peer,
            stream: connect(peer)?,
            answers: Vec::new(),
            own: Vec::new(),
        };
        session.call_it(&format!("port: {}", peer.address.port()), "port: <port>");
        for host in ["\"127.0.0.1\"", "\"localhost\""] {
            session.call_it(&format!("host: {host}"), "host: <host>");
        }
        let request = Request::DescribeCluster(messages::DescribeClusterRequest::default());
        if let Some(Response::DescribeCluster(answer)) = session.prepare(0, request) {
            session.call_it(&answer.cluster_id, "<cluster>");
        }
        Ok(session)
    }

    /// From now on `text` is `name` in this peer's answers.
    pub fn call_it(&mut self, text: &str, name: &str) {
        if !text.is_empty() {
            self.own.push((text.into(), name.into()));
        }
    }

    /// Sends a request and keeps the answer under a name.
    pub fn ask(&mut self, name: &str, version: i16, request: Request) -> Option<Response> {
        let (answer, response) = match self.exchange(version, &request) {
            Ok(response) => (
                Answer::Fields(answer::fields(&response, &self.own)),
                Some(response),
            ),
            Err(answer) => (answer, None),
        };
        self.add(name, answer);
        response
    }

    /// Sends a request whose answer is not compared.
    pub fn prepare(&mut self, version: i16, request: Request) -> Option<Response> {
        self.exchange(version, &request).ok()
    }

    /// Sends a request that has no answer.
    pub fn tell(&mut self, version: i16, request: &Request) {
        let frame = self.frame(version, request);
        let _ = self.stream.write_all(&frame);
    }

    fn frame(&self, version: i16, request: &Request) -> Vec<u8> {
        let header = RequestHeader {
            request_api_key: request.api_key() as i16,
            request_api_version: version,
            correlation_id: self.peer.next_correlation(),
            client_id: Some("differential".into()),
        };
        let pieces = encode_request(&header, request)
            .unwrap_or_else(|error| panic!("{:?} {version}: {error}", request.api_key()));
        pieces.concat()
    }

    fn exchange(&mut self, version: i16, request: &Request) -> Result<Response, Answer> {
        let frame = self.frame(version, request);
        let frame = match exchange(&mut self.stream, &frame) {
            Ok(frame) => frame,
            Err(answer) => {
                // What may still come must not be taken for the next answer.
                if let Ok(stream) = connect(self.peer) {
                    self.stream = stream;
                }
                return Err(answer);
            }
        };
        match decode_response(request.api_key(), version, frame) {
            Ok((_, response)) => Ok(response),
            Err(error) => Err(Answer::Fields(vec![(
                "undecodable".into(),
                error.to_string(),
            )])),
        }
    }

    /// Keeps one field that the case has made itself.
    pub fn note(&mut self, name: &str, field: &str, value: &str) {
        self.add(name, Answer::Fields(vec![(field.into(), value.into())]));
    }

    /// Keeps an answer that the case has looked at first.
    pub fn keep(&mut self, name: &str, response: &Response) {
        let fields = answer::fields(response, &self.own);
        self.add(name, Answer::Fields(fields));
    }

    /// What goes by the same name is one answer.
    fn add(&mut self, name: &str, answer: Answer) {
        let known = self.answers.iter_mut().find(|(known, _)| known == name);
        match (known, answer) {
            (Some((_, Answer::Fields(known))), Answer::Fields(more)) => known.extend(more),
            (Some((_, known)), answer) => *known = answer,
            (None, answer) => self.answers.push((name.into(), answer)),
        }
    }

    /// The id of a topic, which each peer chooses itself.
    pub fn topic_id(&mut self, name: &str) -> Uuid {
        let request = messages::MetadataRequest {
            topics: Some(vec![messages::metadata::MetadataRequestTopic {
                name: Some(name.into()),
                ..Default::default()
            }]),
            allow_auto_topic_creation: false,
            ..Default::default()
        };
        let id = match self.prepare(12, Request::Metadata(request)) {
            Some(Response::Metadata(response)) => response.topics.first().map(|t| t.topic_id),
            _ => None,
        };
        let id = id.unwrap_or(Uuid::ZERO);
        if !id.is_zero() {
            self.call_it(&id.to_string(), &format!("<id of {name}>"));
        }
        id
    }

    pub fn finish(self) -> Vec<(String, Answer)> {
        self.answers
    }
}

fn connect(peer: &Peer) -> Outcome<TcpStream> {
    let stream = TcpStream::connect(peer.address)
        .map_err(|error| format!("{} at {}: {error}", peer.name, peer.address))?;
    stream
        .set_nodelay(true)
        .map_err(|error| error.to_string())?;
    stream
        .set_read_timeout(Some(PATIENCE))
        .map_err(|error| error.to_string())?;
    Ok(stream)
}

/// Writes bytes and reads one frame.
pub fn exchange(stream: &mut TcpStream, bytes: &[u8]) -> Result<Bytes, Answer> {
    let failed = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut => Answer::Silent,
        _ => Answer::Closed,
    };
    stream.write_all(bytes).map_err(failed)?;
    let mut size = [0; 4];
    stream.read_exact(&mut size).map_err(failed)?;
    let mut frame = vec![0; usize::try_from(i32::from_be_bytes(size)).unwrap_or(0)];
    stream.read_exact(&mut frame).map_err(failed)?;
    Ok(frame.into())
}
