//! Just enough HTTP to ask a broker on this machine how it is.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Longest answer that is read; metrics of a small cluster stay far below.
const ANSWER_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// GETs `path` from whoever listens at `at`: the status and the body.
///
/// HTTP/1.0, so that the body ends with the connection and is never chunked.
///
/// # Errors
/// Nobody listens, no whole answer within `within`, or it is not HTTP.
pub async fn http_get(at: SocketAddr, path: &str, within: Duration) -> io::Result<(u16, String)> {
    let answer = tokio::time::timeout(within, exchange(at, path));
    let answer = answer.await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    let answer = String::from_utf8_lossy(&answer);
    parse(&answer).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "not an HTTP answer"))
}

async fn exchange(at: SocketAddr, path: &str) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(at).await?;
    let request = format!("GET {path} HTTP/1.0\r\nHost: {at}\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).await?;
    Ok(answer)
}

fn parse(answer: &str) -> Option<(u16, String)> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()?;
    Some((status, body.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_and_body_are_taken_apart() {
        let answer = "HTTP/1.1 503 Service Unavailable\r\nx: y\r\n\r\nwaiting for broker 2\n";
        assert_eq!(parse(answer), Some((503, "waiting for broker 2\n".to_owned())));
        for bad in ["", "HTTP/1.1 200", "HTTP/2 200 OK\r\n\r\n", "SSH-2.0\r\n\r\n"] {
            assert_eq!(parse(bad), None, "{bad:?}");
        }
    }
}
