//! The functions `compress` and `uncompress`: conversion to and from a zlib stream (RFC 1950).

use std::io::Read;

use flate2::Compression;
use flate2::read::{ZlibDecoder, ZlibEncoder};

use crate::abi::status::Status;
use crate::limits::MAX_FOREIGN_BYTES;

/// Appends the arguments as a zlib stream.
pub(super) fn compress(arguments: &[u8], out: &mut Vec<u8>) -> Result<(), Status> {
    if arguments.len() > MAX_FOREIGN_BYTES {
        return Err(Status::BadArgument);
    }
    let read = ZlibEncoder::new(arguments, Compression::default()).read_to_end(out);
    read.map(|_| ()).map_err(|_| Status::SerializationFailure)
}

/// Appends the content of a zlib stream. A damaged stream, or one with more than [`MAX_FOREIGN_BYTES`], appends
/// nothing.
pub(super) fn uncompress(arguments: &[u8], out: &mut Vec<u8>) -> Result<(), Status> {
    let limit = MAX_FOREIGN_BYTES as u64 + 1;
    let read = ZlibDecoder::new(arguments).take(limit).read_to_end(out);
    if read.is_err() || out.len() > MAX_FOREIGN_BYTES {
        out.clear();
        return Err(Status::SerializationFailure);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compressed_bytes_are_restored() {
        let (mut small, mut back) = (Vec::new(), Vec::new());
        compress(b"hello world!", &mut small).unwrap();
        let expected = [
            0x78, 0x9c, 0xcb, 0x48, 0xcd, 0xc9, 0xc9, 0x57, 0x28, 0xcf, 0x2f, 0xca, 0x49, 0x51, 0x04, 0x00, 0x1e, 0x89,
            0x04, 0x7e,
        ];
        assert_eq!(small, expected);
        uncompress(&small, &mut back).unwrap();
        assert_eq!(back, b"hello world!");
    }

    #[test]
    fn oversized_and_damaged_streams_fail() {
        let mut bomb = Vec::new();
        let zeroes = std::io::repeat(0).take(MAX_FOREIGN_BYTES as u64 + 1);
        ZlibEncoder::new(zeroes, Compression::best()).read_to_end(&mut bomb).unwrap();
        for bytes in [&bomb[..], b"nonsense", &bomb[..40], b""] {
            let mut out = Vec::new();
            assert_eq!(uncompress(bytes, &mut out), Err(Status::SerializationFailure), "{} bytes", bytes.len());
            assert!(out.is_empty());
        }
    }
}
