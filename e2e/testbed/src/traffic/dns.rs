//! One DNS question to one server, over UDP.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::str::FromStr as _;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use hickory_proto::op::{Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name, RecordType};
use hickory_proto::serialize::binary::{BinDecodable as _, BinEncodable as _};

use crate::Netns;

/// An answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The response code, as text, e.g. `No Error`, `Non-Existent Domain`.
    pub rcode: String,
    /// The data of the answer records, as text, sorted.
    pub data: Vec<String>,
}

/// Asks `server` for `name` and `kind` (`A`, `AAAA`, `SRV`, `TXT`).
///
/// # Errors
/// When there is no answer within a second.
pub fn query(host: &Netns, server: IpAddr, name: &str, kind: &str) -> Result<Answer> {
    let mut query = Query::new();
    query.set_name(Name::from_str(name)?).set_query_type(RecordType::from_str(kind)?);
    let mut message = Message::new(4811, MessageType::Query, OpCode::Query);
    message.add_query(query);
    let bytes = message.to_bytes()?;
    let server = SocketAddr::new(server, 53);
    let socket: UdpSocket = host.run(move || {
        let any: SocketAddr = if server.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
        let socket = UdpSocket::bind(any)?;
        socket.connect(server).map(|()| socket)
    })?;
    socket.set_read_timeout(Some(Duration::from_secs(1)))?;
    socket.send(&bytes)?;
    let mut buffer = [0; 4096];
    let n = socket.recv(&mut buffer).with_context(|| format!("{server} does not answer for {name}"))?;
    let answer = Message::from_bytes(&buffer[..n])?;
    ensure!(answer.metadata.id == 4811, "an answer to another question: {answer:?}");
    let mut data: Vec<String> = answer.answers.iter().map(|record| record.data.to_string()).collect();
    data.sort();
    Ok(Answer { rcode: answer.metadata.response_code.to_string(), data })
}
