//! HTTP/2 by hand, for clients that do not keep to it.

use std::collections::HashMap;
use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::cluster::PATIENCE;

/// What an HTTP/2 client sends first.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const FRAME_HEAD_BYTES: usize = 9;
/// The window of a connection before there is more: RFC 9113, 6.9.2.
pub(crate) const WINDOW_BYTES: usize = 65_535;
/// Data in one frame, as large as any peer must take.
const DATA_BYTES: usize = 16 << 10;

// Kinds of frames: RFC 9113, 6.
pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;

// Settings and errors: RFC 9113, 6.5.2 and 7.
pub(crate) const INITIAL_WINDOW_SIZE: u16 = 4;
pub(crate) const FLOW_CONTROL_ERROR: u32 = 3;

const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

/// A frame as it came.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    /// The number that the payload ends with: a window, or an error.
    pub(crate) fn number(&self) -> u32 {
        let four = self.payload.last_chunk().expect("it ends with a number");
        u32::from_be_bytes(*four)
    }

    /// The error of a GOAWAY, which stands behind the last stream's number.
    pub(crate) fn goodbye(&self) -> u32 {
        u32::from_be_bytes(self.payload[4..8].try_into().unwrap())
    }
}

/// A connection that keeps to nothing but the shape of frames.
pub(crate) struct Raw<S> {
    io: S,
    /// What the windows have room for, by stream; that of the connection is stream 0.
    room: HashMap<u32, usize>,
}

impl Raw<TcpStream> {
    /// Connects, and sends no settings.
    pub(crate) async fn open(address: &str) -> Self {
        Self::with(TcpStream::connect(address).await.unwrap(), &[]).await
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Raw<S> {
    /// Begins HTTP/2 with these settings.
    pub(crate) async fn with(mut io: S, settings: &[(u16, u32)]) -> Self {
        io.write_all(PREFACE).await.unwrap();
        let mut raw = Self { io, room: HashMap::from([(0, WINDOW_BYTES)]) };
        let pair = |(id, value): &(u16, u32)| {
            id.to_be_bytes().into_iter().chain(value.to_be_bytes()).collect::<Vec<_>>()
        };
        let payload: Vec<u8> = settings.iter().flat_map(pair).collect();
        raw.send(SETTINGS, 0, 0, &payload).await.unwrap();
        raw
    }

    async fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> io::Result<()> {
        let [_, length @ ..] = (payload.len() as u32).to_be_bytes();
        self.io.write_all(&length).await?;
        self.io.write_all(&[kind, flags]).await?;
        self.io.write_all(&stream.to_be_bytes()).await?;
        self.io.write_all(payload).await
    }

    /// Sends bytes that are no frame.
    pub(crate) async fn send_bytes(&mut self, bytes: &[u8]) {
        self.io.write_all(bytes).await.unwrap();
    }

    /// Acknowledges the peer's settings: until then its windows are those of the RFC.
    pub(crate) async fn acknowledge(&mut self) {
        while self.frame().await.unwrap().kind != SETTINGS {}
        self.send(SETTINGS, ACK, 0, &[]).await.unwrap();
    }

    /// Begins a gRPC call on a stream that has this window.
    pub(crate) async fn call(&mut self, stream: u32, path: &str, window: usize) {
        let headers = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", path),
            (":authority", "broker"),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
        ];
        // Each field literal and not indexed, with lengths below 127: RFC 7541, 6.2.2.
        let text = |text: &str| [&[text.len() as u8], text.as_bytes()].concat();
        let field = |(name, value): (&str, &str)| [vec![0], text(name), text(value)].concat();
        let block = headers.map(field).concat();
        self.send(HEADERS, END_HEADERS, stream, &block).await.unwrap();
        self.room.insert(stream, window);
    }

    /// Sends data, whatever the windows say.
    pub(crate) async fn data(&mut self, stream: u32, bytes: &[u8]) {
        for frame in bytes.chunks(DATA_BYTES) {
            self.send(DATA, 0, stream, frame).await.unwrap();
        }
        for window in [0, stream] {
            let room = self.room.get_mut(&window).expect("its call has begun");
            *room = room.saturating_sub(bytes.len());
        }
    }

    /// Sends as much as the windows have room for, until the peer has dealt with all of it and makes
    /// no more room. Gives how much that was.
    pub(crate) async fn fill(&mut self, streams: &[u32]) -> usize {
        let mut sent = 0;
        loop {
            for stream in streams {
                let room = self.room[stream].min(self.room[&0]);
                self.data(*stream, &vec![7; room]).await;
                sent += room;
            }
            let frames = self.settle().await;
            let bad = frames.iter().find(|frame| matches!(frame.kind, RST_STREAM | GOAWAY));
            assert!(bad.is_none(), "a window is for filling: {bad:?}");
            if frames.iter().all(|frame| frame.kind != WINDOW_UPDATE) {
                return sent;
            }
        }
    }

    /// What a window has room for.
    pub(crate) fn room(&self, stream: u32) -> usize {
        self.room[&stream]
    }

    /// Waits until the peer has dealt with all that was sent; gives what came meanwhile. An answer to
    /// a ping overtakes what else there is to say, so it takes a second one to be sure of that.
    pub(crate) async fn settle(&mut self) -> Vec<Frame> {
        let mut others = Vec::new();
        for ping in [b"settled?", b"and now?"] {
            self.send(PING, 0, 0, ping).await.unwrap();
            loop {
                let frame = timeout(PATIENCE, self.frame()).await.unwrap().unwrap();
                if frame.kind == PING && frame.flags & ACK != 0 && frame.payload == ping {
                    break;
                }
                others.push(frame);
            }
        }
        others
    }

    /// The next frame.
    pub(crate) async fn frame(&mut self) -> io::Result<Frame> {
        let mut head = [0; FRAME_HEAD_BYTES];
        self.io.read_exact(&mut head).await?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        self.io.read_exact(&mut payload).await?;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        let frame = Frame { kind: head[3], flags: head[4], stream, payload };
        if frame.kind == WINDOW_UPDATE {
            *self.room.entry(stream).or_default() += frame.number() as usize;
        }
        Ok(frame)
    }

    /// Reads until the peer closes.
    pub(crate) async fn until_closed(&mut self) -> Vec<Frame> {
        let mut frames = Vec::new();
        while let Ok(frame) = self.frame().await {
            frames.push(frame);
        }
        frames
    }
}
