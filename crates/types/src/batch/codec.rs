//! The codecs that a batch's records may lie under.

use std::fmt;
#[cfg(any(feature = "lz4", feature = "zstd"))]
use std::io::Read;

use bytes::BytesMut;

use super::layout::HEADER_BYTES;
use super::{BatchError, layout};

/// A codec, by Kafka's numbers.
///
/// `Gzip` and `Snappy` are known by number only: no batch of theirs is taken or read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Codec {
    /// Not compressed.
    #[default]
    None,
    /// RFC 1952.
    Gzip,
    /// Snappy in Xerial's framing.
    Snappy,
    /// The LZ4 frame format, with independent blocks; needs the feature `lz4`.
    Lz4,
    /// RFC 8878; needs the feature `zstd`.
    Zstd,
}

impl Codec {
    /// Kafka's number, bits 0 to 2 of the attributes.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Gzip => 1,
            Self::Snappy => 2,
            Self::Lz4 => 3,
            Self::Zstd => 4,
        }
    }

    /// The codec with this number; `None` for the numbers that Kafka has not assigned.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::None),
            1 => Some(Self::Gzip),
            2 => Some(Self::Snappy),
            3 => Some(Self::Lz4),
            4 => Some(Self::Zstd),
            _ => None,
        }
    }

    /// The name, as in `compression.type`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }

    /// The codec of this name; `None` when there is none.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::None, Self::Gzip, Self::Snappy, Self::Lz4, Self::Zstd]
            .into_iter()
            .find(|codec| codec.name() == name)
    }

    /// Whether a broker takes batches of this codec. It need not be able to inflate them.
    #[must_use]
    pub const fn is_accepted(self) -> bool {
        matches!(self, Self::None | Self::Lz4 | Self::Zstd)
    }

    /// Whether this build can compress and inflate with this codec.
    #[must_use]
    pub const fn is_built_in(self) -> bool {
        match self {
            Self::None => true,
            Self::Lz4 => cfg!(feature = "lz4"),
            Self::Zstd => cfg!(feature = "zstd"),
            Self::Gzip | Self::Snappy => false,
        }
    }

    /// The most bytes that one byte can inflate to.
    pub(super) const fn ratio_max(self) -> u64 {
        match self {
            Self::None => 1,
            // A byte lengthens a match by up to 255.
            Self::Lz4 => 255,
            // A block of one repeated byte takes 4 bytes and stands for up to 128 KiB.
            Self::Zstd => 1 << 15,
            // DEFLATE: a match of 258 bytes in 2 bits; Snappy: one of 64 bytes in 3 bytes.
            Self::Gzip => 1032,
            Self::Snappy => 22,
        }
    }

    pub(super) fn from_attributes(attributes: i16) -> Result<Self, BatchError> {
        let number = (attributes & layout::CODEC_BITS) as u8;
        Self::from_number(number).ok_or(BatchError::Codec { number })
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Compresses the records of `batch` when that makes them smaller; the codec that they are under.
pub(super) fn pack(batch: &mut BytesMut, codec: Codec) -> Result<Codec, BatchError> {
    let records = &batch[HEADER_BYTES..];
    if codec == Codec::None || records.is_empty() {
        return Ok(Codec::None);
    }
    let packed = compress(codec, records)?;
    if packed.len() >= records.len() {
        return Ok(Codec::None);
    }
    batch.truncate(HEADER_BYTES);
    batch.extend_from_slice(&packed);
    Ok(codec)
}

/// `block` under `codec`.
fn compress(codec: Codec, block: &[u8]) -> Result<Vec<u8>, BatchError> {
    match codec {
        #[cfg(feature = "lz4")]
        Codec::Lz4 => lz4::compress(block).map_err(failed(codec)),
        #[cfg(feature = "zstd")]
        Codec::Zstd => zstd::compress(block).map_err(failed(codec)),
        Codec::None => Ok(block.to_vec()),
        codec => Err(BatchError::Codec { number: codec.number() }),
    }
}

/// What `block` holds under `codec`, refused when it is more than `bytes_max`.
pub(super) fn inflate(codec: Codec, block: &[u8], bytes_max: usize) -> Result<Vec<u8>, BatchError> {
    let inflated = match codec {
        #[cfg(feature = "lz4")]
        Codec::Lz4 => bounded(lz4::decoder(block), bytes_max).map_err(failed(codec))?,
        #[cfg(feature = "zstd")]
        Codec::Zstd => zstd::decoder(block, bytes_max)
            .and_then(|decoder| bounded(decoder, bytes_max))
            .map_err(failed(codec))?,
        Codec::None => block.to_vec(),
        codec => return Err(BatchError::Codec { number: codec.number() }),
    };
    if inflated.len() > bytes_max {
        return Err(BatchError::TooLarge { bytes: inflated.len(), bytes_max });
    }
    Ok(inflated)
}

/// Reads to the end, but no further than one byte past the bound.
#[cfg(any(feature = "lz4", feature = "zstd"))]
fn bounded(decoder: impl Read, bytes_max: usize) -> std::io::Result<Vec<u8>> {
    let mut inflated = Vec::new();
    decoder.take((bytes_max as u64).saturating_add(1)).read_to_end(&mut inflated)?;
    Ok(inflated)
}

#[cfg(any(feature = "lz4", feature = "zstd"))]
fn failed(codec: Codec) -> impl Fn(std::io::Error) -> BatchError {
    move |error| BatchError::Compression { codec, reason: error.to_string() }
}

#[cfg(feature = "lz4")]
mod lz4 {
    use std::io::{self, Read, Write};

    use lz4_flex::frame::{BlockMode, BlockSize, FrameDecoder, FrameEncoder, FrameInfo};

    pub(super) fn compress(block: &[u8]) -> io::Result<Vec<u8>> {
        // As Kafka's clients write: they refuse linked blocks. Small blocks keep the buffers of both
        // sides small.
        let frame =
            FrameInfo::new().block_mode(BlockMode::Independent).block_size(BlockSize::Max64KB);
        let mut encoder = FrameEncoder::with_frame_info(frame, Vec::new());
        encoder.write_all(block)?;
        Ok(encoder.finish()?)
    }

    pub(super) fn decoder(block: &[u8]) -> impl Read {
        FrameDecoder::new(block)
    }
}

#[cfg(feature = "zstd")]
mod zstd {
    use std::io::{self, Read};

    /// The library's own default.
    const LEVEL: i32 = 3;

    pub(super) fn compress(block: &[u8]) -> io::Result<Vec<u8>> {
        ::zstd::bulk::compress(block, LEVEL)
    }

    pub(super) fn decoder(block: &[u8], bytes_max: usize) -> io::Result<impl Read> {
        let mut decoder = ::zstd::stream::read::Decoder::with_buffer(block)?;
        // The window is memory that the frame's header asks for. 2^23 is what level 19 uses even for
        // small contents, 2^27 the library's own bound.
        let window = bytes_max.max(1).ilog2() + 1;
        decoder.window_log_max(window.clamp(23, 27))?;
        Ok(decoder)
    }
}
