//! Fields of a tar header block (POSIX pax, "ustar Interchange Format"; GNU tar, "Basic Tar
//! Format").

use std::ops::Range;

/// Size of a block, in bytes.
pub const BLOCK: usize = 512;

/// A header block.
pub type Block = [u8; BLOCK];

pub const NAME: Range<usize> = 0..100;
pub const MODE: Range<usize> = 100..108;
pub const UID: Range<usize> = 108..116;
pub const GID: Range<usize> = 116..124;
pub const SIZE: Range<usize> = 124..136;
pub const MTIME: Range<usize> = 136..148;
pub const CHECKSUM: Range<usize> = 148..156;
pub const TYPE: usize = 156;
pub const LINK_NAME: Range<usize> = 157..257;
pub const MAGIC: Range<usize> = 257..265;
pub const MAJOR: Range<usize> = 329..337;
pub const MINOR: Range<usize> = 337..345;
pub const PREFIX: Range<usize> = 345..500;
/// In old GNU headers: four pairs of offset and length.
pub const GNU_SPARSE: Range<usize> = 386..482;
/// In old GNU headers: not zero if a block with 21 more pairs follows.
pub const GNU_EXTENDED: usize = 482;
/// In old GNU headers: size of the file with its holes.
pub const GNU_REAL_SIZE: Range<usize> = 483..495;

/// Magic and version of POSIX.
pub const USTAR: &[u8; 8] = b"ustar\x0000";
/// Magic and version of GNU tar.
pub const GNU: &[u8; 8] = b"ustar  \0";

pub const WHITEOUT: &[u8] = b".wh.";
pub const OPAQUE: &[u8] = b".wh..wh..opq";

/// The padding of a file's content to a whole block, in bytes.
#[inline]
pub const fn padding(size: u64) -> u64 {
    (BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64
}

/// A text field, up to its first zero byte.
pub fn text(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// A number: octal digits among spaces and zero bytes, or GNU's base 256, which may be negative.
pub fn number(field: &[u8]) -> Option<i64> {
    if field.first()? & 0x80 != 0 {
        return base256(field);
    }
    let start = field.iter().position(|byte| !matches!(byte, b' ' | 0)).unwrap_or(field.len());
    let digits = text(&field[start..]).trim_ascii_end();
    let mut value = 0_i64;
    for digit in digits {
        let digit = digit.checked_sub(b'0').filter(|digit| *digit < 8)?;
        value = value.checked_mul(8)?.checked_add(digit.into())?;
    }
    Some(value)
}

/// Big endian in two's complement, with the highest bit set as a mark.
fn base256(field: &[u8]) -> Option<i64> {
    let negative = field[0] & 0x40 != 0;
    let fill = if negative { 0xff } else { 0 };
    let mut value = if negative { -1_i64 } else { 0 };
    for (place, byte) in field.iter().enumerate() {
        let byte = if place == 0 { byte & 0x7f | fill & 0x80 } else { *byte };
        if field.len() - place > 8 {
            if byte != fill {
                return None;
            }
        } else {
            value = value << 8 | i64::from(byte);
        }
    }
    (negative == (value < 0)).then_some(value)
}

/// True if the checksum is right. Old writers summed signed bytes.
pub fn checksum_matches(block: &Block) -> bool {
    let Some(expected) = number(&block[CHECKSUM]) else { return false };
    let bytes = || {
        block
            .iter()
            .enumerate()
            .map(|(place, byte)| if CHECKSUM.contains(&place) { b' ' } else { *byte })
    };
    let unsigned: i64 = bytes().map(i64::from).sum();
    expected == unsigned
        || expected == bytes().map(|byte| i64::from(byte.cast_signed())).sum::<i64>()
}

/// Writes a number in octal with leading zeros and a final zero byte. A number that does not fit is
/// written as zero: a PAX record has it.
pub fn put_octal(field: &mut [u8], value: i64) {
    let digits = field.len() - 1;
    let mut value = if fits_octal(field.len(), value) { value } else { 0 };
    for byte in field[..digits].iter_mut().rev() {
        *byte = b'0' + (value & 7) as u8;
        value >>= 3;
    }
    field[digits] = 0;
}

/// True if a field of this many bytes can hold a number in octal.
pub fn fits_octal(field: usize, value: i64) -> bool {
    let bits = (field - 1) * 3;
    value >= 0 && (bits >= 63 || value < 1 << bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_in_octal_and_in_base_256() {
        assert_eq!(number(b"0000644\0"), Some(0o644));
        assert_eq!(number(b"  644 \0\0"), Some(0o644));
        assert_eq!(number(b"\0\0\0\0\0\0\0\0"), Some(0));
        assert_eq!(number(b"00009\0\0\0"), None);
        assert_eq!(number(b"\x80\0\0\0\0\0\0\0\0\0\x01\0"), Some(256));
        assert_eq!(number(b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfe"), Some(-2));
        assert_eq!(number(b"\x80\0\0\x01\0\0\0\0\0\0\0\0"), None);
        assert_eq!(number(b"\x80\0\0\0\xff\0\0\0\0\0\0\0"), None);
        assert_eq!(number(b"\x80\0\0\0\0\x20\0\0"), Some(0x20_0000));
        assert_eq!(number(b"\xff\xff\xff\xff\xff\xff\xff\xfe"), Some(-2));
    }

    #[test]
    fn a_number_that_does_not_fit_is_written_as_zero() {
        let mut field = [0; 8];
        put_octal(&mut field, 0o7_777_777);
        assert_eq!(&field, b"7777777\0");
        put_octal(&mut field, 0o10_000_000);
        assert_eq!(&field, b"0000000\0");
        assert!(!fits_octal(12, -1) && fits_octal(12, 0o77_777_777_777));
    }
}
