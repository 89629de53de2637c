//! Decompression, chosen by a media type or by the first bytes.

use std::io::{self, BufRead, BufReader, Read};

use oci::media_type;

use crate::{Error, Result};

/// Size of the reads of compressed bytes.
const BUFFER: usize = 128 << 10;
/// Memory limit of an xz stream, in KiB: `xz -9` needs 65 MiB.
const XZ_MEMORY: u32 = 256 << 10;

/// The compression of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    /// Not compressed.
    Plain,
    /// gzip, of one or more members.
    Gzip,
    /// zstd.
    Zstd,
    /// bzip2.
    Bzip2,
    /// xz.
    Xz,
}

impl Codec {
    /// Returns the codec of a layer by its media type: OCI's, Docker's, and those of
    /// non-distributable layers.
    ///
    /// # Errors
    /// If the media type is none of these: [`Error::MediaType`].
    pub fn of_media_type(text: &str) -> Result<Self> {
        const OLD_LAYERS: &str = "application/vnd.oci.image.layer.nondistributable.v1.tar";
        const FOREIGN: &str = "application/vnd.docker.image.rootfs.foreign.diff.tar";
        Ok(match text {
            media_type::OCI_LAYER | media_type::DOCKER_LAYER | OLD_LAYERS | FOREIGN => Self::Plain,
            media_type::OCI_LAYER_GZIP | media_type::DOCKER_LAYER_GZIP => Self::Gzip,
            media_type::OCI_LAYER_ZSTD
            | "application/vnd.docker.image.rootfs.diff.tar.zstd"
            | "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd" => Self::Zstd,
            "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
            | "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip" => Self::Gzip,
            other => return Err(Error::MediaType(other.to_owned())),
        })
    }

    fn of_bytes(start: &[u8]) -> Self {
        match start {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Self::Zstd,
            // A skippable frame, with which zstd files of pzstd and zstd:chunked begin.
            [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            [b'B', b'Z', b'h', b'1'..=b'9', ..] => Self::Bzip2,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Self::Xz,
            _ => Self::Plain,
        }
    }

    /// Returns a reader of the decompressed stream.
    ///
    /// # Errors
    /// If no decoder can be made.
    pub fn decode<'a>(
        self,
        reader: impl BufRead + Send + 'a,
    ) -> io::Result<Box<dyn Read + Send + 'a>> {
        Ok(match self {
            Self::Plain => Box::new(reader),
            Self::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(reader)),
            Self::Zstd => Box::new(zstd::stream::read::Decoder::with_buffer(reader)?),
            Self::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(reader)),
            Self::Xz => Box::new(lzma_rust2::XzReader::new_mem_limit(reader, true, XZ_MEMORY)),
        })
    }

    /// Decompresses a block that [`Encoder`](crate::Encoder) made, to at most `most` bytes.
    pub(crate) fn decode_block(self, compressed: &[u8], most: usize) -> io::Result<Vec<u8>> {
        match self {
            Self::Gzip => inflate(compressed, most),
            Self::Zstd => zstd::bulk::decompress(compressed, most),
            Self::Plain if compressed.len() <= most => Ok(compressed.to_vec()),
            _ => Err(io::Error::other("it has no blocks")),
        }
    }
}

/// Decompresses a part of a gzip member that ends at a byte boundary.
fn inflate(compressed: &[u8], most: usize) -> io::Result<Vec<u8>> {
    let mut inflate = flate2::Decompress::new(false);
    // Room for one byte more shows that a block is too long.
    let mut plain = Vec::with_capacity(most + 1);
    loop {
        let read = inflate.total_in() as usize;
        let status = inflate.decompress_vec(
            &compressed[read..],
            &mut plain,
            flate2::FlushDecompress::None,
        )?;
        let all_read = inflate.total_in() as usize == compressed.len();
        match status {
            _ if plain.len() > most => return Err(io::Error::other("a block is too long")),
            flate2::Status::StreamEnd => return Ok(plain),
            _ if all_read => return Ok(plain),
            flate2::Status::Ok => {}
            flate2::Status::BufError => return Err(io::Error::other("a block makes no progress")),
        }
    }
}

/// Returns a reader that decompresses a stream by its first bytes: gzip (also of several members),
/// zstd, bzip2, xz; any other stream is read unchanged.
pub fn open_decoder<'a>(reader: impl Read + Send + 'a) -> io::Result<Box<dyn Read + Send + 'a>> {
    let mut reader = BufReader::with_capacity(BUFFER, reader);
    // A pipe may return less than the magic in one read, and `fill_buf` reads only once.
    let mut start = Vec::with_capacity(6);
    (&mut reader).take(6).read_to_end(&mut start)?;
    let codec = Codec::of_bytes(&start);
    codec.decode(io::Cursor::new(start).chain(reader))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    /// `printf four | xz`
    const XZ: &[u8] = &[
        0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00, 0x00, 0x04, 0xe6, 0xd6, 0xb4, 0x46, 0x02, 0x00, 0x21,
        0x01, 0x16, 0x00, 0x00, 0x00, 0x74, 0x2f, 0xe5, 0xa3, 0x01, 0x00, 0x03, 0x66, 0x6f, 0x75,
        0x72, 0x00, 0xd0, 0x58, 0x3b, 0x3c, 0xad, 0xcb, 0x93, 0x7e, 0x00, 0x01, 0x1c, 0x04, 0x6f,
        0x2c, 0x9c, 0xc1, 0x1f, 0xb6, 0xf3, 0x7d, 0x01, 0x00, 0x00, 0x00, 0x00, 0x04, 0x59, 0x5a,
    ];

    fn decoded(bytes: &[u8]) -> Vec<u8> {
        let mut plain = Vec::new();
        open_decoder(bytes).unwrap().read_to_end(&mut plain).unwrap();
        plain
    }

    #[test]
    fn the_first_bytes_say_how_to_decode() {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(b"one ").unwrap();
        let gzip = gzip.finish().unwrap();
        assert_eq!(decoded(&[gzip.clone(), gzip].concat()), b"one one ");

        let mut bzip2 = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
        bzip2.write_all(b"two").unwrap();
        assert_eq!(decoded(&bzip2.finish().unwrap()), b"two");

        let zstd = zstd::bulk::compress(b"three", 3).unwrap();
        let skippable = [0x50, 0x2a, 0x4d, 0x18, 2, 0, 0, 0, 9, 9];
        assert_eq!(decoded(&zstd), b"three");
        assert_eq!(decoded(&[&skippable[..], &zstd].concat()), b"three");

        assert_eq!(decoded(XZ), b"four");

        assert_eq!(decoded(b"plain"), b"plain");
        assert_eq!(decoded(b""), b"");
    }
}
