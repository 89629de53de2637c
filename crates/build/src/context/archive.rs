//! Detection of archives by their first bytes.

/// The number of bytes that [`is_archive`] needs.
pub const LONGEST_HEAD: usize = 1024;

/// True if bytes begin as tar, or as gzip, bzip2, xz or zstd, which can hold one.
pub fn is_archive(head: &[u8]) -> bool {
    let magics: [&[u8]; 4] = [b"\x1f\x8b\x08", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd"];
    magics.iter().any(|magic| head.starts_with(magic)) || is_tar(head)
}

/// True if bytes begin with a tar header with the right checksum: the oldest
/// archives have no other mark.
fn is_tar(head: &[u8]) -> bool {
    const CHECKSUM: std::ops::Range<usize> = 148..156;
    let Some(header) = head.get(..512) else { return false };
    let Ok(text) = std::str::from_utf8(&header[CHECKSUM]) else { return false };
    let said = u32::from_str_radix(text.trim_matches([' ', '\0']), 8);
    let byte = |(place, byte): (usize, &u8)| match CHECKSUM.contains(&place) {
        true => u32::from(b' '),
        false => u32::from(*byte),
    };
    said.is_ok_and(|said| said == header.iter().enumerate().map(byte).sum::<u32>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn archives_are_told_from_dockerfiles() {
        let mut old = [0_u8; 512];
        old[..4].copy_from_slice(b"file");
        let sum: u32 = old.iter().map(|byte| u32::from(*byte)).sum::<u32>() + 8 * 32;
        old[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        assert!(is_archive(&old));
        old[0] = b'F';
        assert!(!is_archive(&old));
        assert!(is_archive(b"\x28\xb5\x2f\xfd..."));
        for text in ["", "FROM scratch", &"# comment\n".repeat(200), &" ".repeat(600)] {
            assert!(!is_archive(text.as_bytes()), "{text}");
        }
    }
}
