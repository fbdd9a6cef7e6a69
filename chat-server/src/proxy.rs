//! The header that a proxy such as nginx puts before a client's bytes, to say who the client is: PROXY protocol 1 and 2.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use tokio::io::{AsyncRead, AsyncReadExt};

/// The longest header of version 1, line end included.
const MAX_TEXT: usize = 107;

/// The shortest header of version 1: `PROXY UNKNOWN` and its line end.
const MIN_TEXT: usize = 15;

/// The longest body of version 2 that is read. What proxies send is below a hundred bytes.
const MAX_BODY: usize = 1024;

const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// Reads the header. Returns the client's address; `None`: the proxy speaks for itself, or does not know.
///
/// # Errors
///
/// What comes is no such header, or the connection ends.
pub(crate) async fn read_header(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<IpAddr>> {
    let mut start = [0; MIN_TEXT];
    stream.read_exact(&mut start).await?;
    if start.starts_with(&SIGNATURE) { binary(stream, &start).await } else { text(stream, &start).await }
}

/// Version 1: `PROXY TCP4 192.0.2.1 192.0.2.2 56324 443`.
async fn text(stream: &mut (impl AsyncRead + Unpin), start: &[u8]) -> io::Result<Option<IpAddr>> {
    let mut line = start.to_vec();
    if !line.starts_with(b"PROXY ") {
        return Err(invalid("no PROXY header"));
    }
    // Byte by byte, since what is behind the line is the client's; it is short, and there is one for each connection.
    while !line.ends_with(b"\r\n") {
        if line.len() >= MAX_TEXT {
            return Err(invalid("the PROXY header is too long"));
        }
        line.push(stream.read_u8().await?);
    }
    let line = std::str::from_utf8(&line).map_err(|_| invalid("the PROXY header is not text"))?;
    let fields: Vec<&str> = line.trim_end().split(' ').collect();
    match fields[..] {
        ["PROXY", "UNKNOWN", ..] => Ok(None),
        ["PROXY", "TCP4", source, _, _, _] => source
            .parse::<Ipv4Addr>()
            .map(|source| Some(source.into()))
            .map_err(|_| invalid("no address in the PROXY header")),
        ["PROXY", "TCP6", source, _, _, _] => source
            .parse::<Ipv6Addr>()
            .map(|source| Some(source.into()))
            .map_err(|_| invalid("no address in the PROXY header")),
        _ => Err(invalid("the PROXY header is malformed")),
    }
}

/// Version 2, which is binary.
async fn binary(stream: &mut (impl AsyncRead + Unpin), start: &[u8; MIN_TEXT]) -> io::Result<Option<IpAddr>> {
    let (command, family) = (start[12], start[13]);
    let length = usize::from(u16::from_be_bytes([start[14], stream.read_u8().await?]));
    if command >> 4 != 2 || length > MAX_BODY {
        return Err(invalid("the PROXY header is malformed"));
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    match (command & 0xf, family) {
        // LOCAL: the proxy's own look whether we live.
        (0, _) => Ok(None),
        (1, 0x11) => match body.first_chunk::<4>() {
            Some(source) if length >= 12 => Ok(Some(Ipv4Addr::from(*source).into())),
            _ => Err(invalid("the PROXY header is too short")),
        },
        (1, 0x21) => match body.first_chunk::<16>() {
            Some(source) if length >= 36 => Ok(Some(Ipv6Addr::from(*source).into())),
            _ => Err(invalid("the PROXY header is too short")),
        },
        (1, _) => Ok(None),
        _ => Err(invalid("the PROXY header is malformed")),
    }
}

fn invalid(problem: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, problem)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(mut bytes: &[u8]) -> (Result<Option<IpAddr>, String>, usize) {
        let result = read_header(&mut bytes).await.map_err(|error| error.to_string());
        (result, bytes.len())
    }

    fn version_2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let mut header = SIGNATURE.to_vec();
        header.extend([command, family]);
        header.extend((body.len() as u16).to_be_bytes());
        header.extend(body);
        header.extend(b"{}");
        header
    }

    #[tokio::test]
    async fn the_clients_address_is_read_and_nothing_behind_it() {
        let client = |text: &str| Ok(Some(text.parse::<IpAddr>().unwrap()));
        let text = b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n{}";
        assert_eq!(read(text).await, (client("192.0.2.1"), 2));
        assert_eq!(read(b"PROXY TCP6 2001:db8::1 ::1 1 2\r\n{}").await, (client("2001:db8::1"), 2));
        assert_eq!(read(b"PROXY UNKNOWN\r\n{}").await, (Ok(None), 2));
        let body = [192, 0, 2, 1, 192, 0, 2, 2, 0, 1, 0, 2, /* more, which is ignored */ 3, 0, 1, 9];
        assert_eq!(read(&version_2(0x21, 0x11, &body)).await, (client("192.0.2.1"), 2));
        let mut body = [0; 36];
        body[15] = 1;
        assert_eq!(read(&version_2(0x21, 0x21, &body)).await, (client("::1"), 2));
        assert_eq!(read(&version_2(0x20, 0, &[])).await, (Ok(None), 2));
    }

    #[tokio::test]
    async fn what_is_no_header_is_an_error() {
        for bytes in [
            &b"{\"msgid\":20,\"version\":1}"[..],
            b"PROXY TCP4 localhost 192.0.2.2 1 2\r\n",
            b"PROXY TCP4 192.0.2.1\r\n",
            b"PROXY TCP4 ",
            &[b"PROXY UNKNOWN ".as_slice(), &[b'x'; 200]].concat(),
            &version_2(0x31, 0x11, &[0; 12]),
            &version_2(0x21, 0x11, &[0; 11]),
            &version_2(0x25, 0x11, &[0; 12]),
            &version_2(0x21, 0x11, &[0; 2000]),
        ] {
            assert!(read(bytes).await.0.is_err(), "{bytes:?}");
        }
    }
}
