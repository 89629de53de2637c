//! The numbers and texts that an encoded index is made of.

use oci::Digest;

/// An error of reading or checking a layer index.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// Not an index, or one of another version.
    #[error("not a layer index of this version")]
    Format,
    /// The compressed part cannot be read.
    #[error("read layer index: {0}")]
    Read(std::io::Error),
    /// The content contradicts itself.
    #[error("damaged layer index: {0}")]
    Damaged(&'static str),
    /// The index takes more memory than allowed.
    #[error("a layer index that takes more memory than its size is worth")]
    TooLarge,
    /// The index cannot be that of the layer.
    #[error("a layer index that cannot be the layer's: {0}")]
    Impossible(&'static str),
}

/// The rest of an encoded index. It is not trusted.
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    #[inline]
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    #[inline]
    pub(crate) fn is_at_end(&self) -> bool {
        self.0.is_empty()
    }

    #[inline]
    pub(crate) fn digest(&mut self) -> Result<Digest, IndexError> {
        let (bytes, rest) =
            self.0.split_first_chunk().ok_or(IndexError::Damaged("it ends early"))?;
        self.0 = rest;
        Ok(Digest::from_bytes(*bytes))
    }

    #[inline]
    pub(crate) fn number(&mut self) -> Result<u64, IndexError> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(IndexError::Damaged("a number is too long"))
    }

    #[inline]
    pub(crate) fn small(&mut self) -> Result<u32, IndexError> {
        self.number()?.try_into().map_err(|_| IndexError::Damaged("a number is too large"))
    }

    #[inline]
    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], IndexError> {
        let length = self.number()?;
        if length > self.0.len() as u64 {
            return Err(IndexError::Damaged("it ends early"));
        }
        let (bytes, rest) = self.0.split_at(length as usize);
        self.0 = rest;
        Ok(bytes)
    }

    #[inline]
    pub(crate) fn byte(&mut self) -> Result<u8, IndexError> {
        let (&byte, rest) = self.0.split_first().ok_or(IndexError::Damaged("it ends early"))?;
        self.0 = rest;
        Ok(byte)
    }
}

/// A length and the bytes.
pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_number(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// LEB128.
pub(crate) fn put_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}
