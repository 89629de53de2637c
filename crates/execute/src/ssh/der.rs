//! The parts of DER that RSA keys need, because OpenSSH's format has their numbers bare.

use super::wire::without_zeros;

const INTEGER: u8 = 2;
const SEQUENCE: u8 = 0x30;

/// `RSAPrivateKey` (RFC 8017, A.1.2) of what OpenSSH keeps of a key.
pub(super) struct RsaNumbers<'a> {
    pub(super) modulus: &'a [u8],
    pub(super) public: &'a [u8],
    pub(super) private: &'a [u8],
    pub(super) inverse: &'a [u8],
    pub(super) primes: [&'a [u8]; 2],
}

impl RsaNumbers<'_> {
    /// The key as DER; none if a prime is none.
    pub(super) fn to_der(&self) -> Option<Vec<u8>> {
        let [p, q] = self.primes.map(without_zeros);
        let exponent = |prime: &[u8]| remainder(self.private, &minus_one(prime)?);
        let (exponent_p, exponent_q) = (exponent(p)?, exponent(q)?);
        let mut numbers = Vec::new();
        for number in [
            &[0][..],
            self.modulus,
            self.public,
            self.private,
            p,
            q,
            &exponent_p,
            &exponent_q,
            self.inverse,
        ] {
            push(&mut numbers, INTEGER, &positive(number));
        }
        let mut der = Vec::new();
        push(&mut der, SEQUENCE, &numbers);
        Some(der)
    }
}

/// The two numbers of an `RSAPublicKey`.
pub(super) fn rsa_public(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (mut numbers, _) = pull(der, SEQUENCE)?;
    let (modulus, left) = pull(numbers, INTEGER)?;
    numbers = left;
    let (exponent, _) = pull(numbers, INTEGER)?;
    Some((modulus, exponent))
}

fn positive(number: &[u8]) -> Vec<u8> {
    let digits = without_zeros(number);
    let needs_zero = digits.first().is_none_or(|first| first & 0x80 != 0);
    needs_zero.then_some(0).into_iter().chain(digits.iter().copied()).collect()
}

fn push(out: &mut Vec<u8>, tag: u8, content: &[u8]) {
    out.push(tag);
    let length = content.len().to_be_bytes();
    match content.len() {
        short @ 0..=0x7f => out.push(short as u8),
        _ => {
            let digits = without_zeros(&length);
            out.push(0x80 | digits.len() as u8);
            out.extend_from_slice(digits);
        }
    }
    out.extend_from_slice(content);
}

/// The content of a value, and what comes after it.
fn pull(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&first, rest) = bytes.strip_prefix(&[tag])?.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (digits.iter().fold(0, |sum, digit| sum << 8 | usize::from(*digit)), rest)
        }
        _ => return None,
    };
    rest.split_at_checked(length)
}

fn minus_one(number: &[u8]) -> Option<Vec<u8>> {
    let mut number = number.to_vec();
    for digit in number.iter_mut().rev() {
        let (less, borrow) = digit.overflowing_sub(1);
        *digit = less;
        if !borrow {
            return Some(number);
        }
    }
    None
}

/// `value` modulo `modulus`, both big end first, one bit at a time: keys are read once.
fn remainder(value: &[u8], modulus: &[u8]) -> Option<Vec<u8>> {
    let modulus = without_zeros(modulus);
    if modulus.is_empty() {
        return None;
    }
    let modulus: Vec<u8> = [0].into_iter().chain(modulus.iter().copied()).collect();
    let mut left = vec![0; modulus.len()];
    for bit in value.iter().flat_map(|byte| (0..8).rev().map(move |place| byte >> place & 1)) {
        let mut carry = bit;
        for digit in left.iter_mut().rev() {
            (*digit, carry) = (*digit << 1 | carry, *digit >> 7);
        }
        if left >= modulus {
            let mut borrow = false;
            for (digit, less) in left.iter_mut().zip(&modulus).rev() {
                let (once, first) = digit.overflowing_sub(*less);
                let (twice, second) = once.overflowing_sub(u8::from(borrow));
                (*digit, borrow) = (twice, first || second);
            }
        }
    }
    Some(left)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remainders() {
        for (value, modulus) in
            [(1_u64, 1_u64), (u64::MAX, 10), (123_456_789, 65_537), (7, 1 << 40)]
        {
            let found = remainder(&value.to_be_bytes(), &modulus.to_be_bytes()).unwrap();
            let found = found.iter().fold(0, |sum, digit| sum << 8 | u64::from(*digit));
            assert_eq!(found, value % modulus, "{value} % {modulus}");
        }
        assert_eq!(remainder(&[1], &[0]), None);
        assert_eq!(minus_one(&[1, 0]), Some(vec![0, 255]));
        assert_eq!(minus_one(&[0]), None);
    }

    #[test]
    fn values_are_pushed_and_pulled() {
        let mut inner = Vec::new();
        push(&mut inner, INTEGER, &positive(&[0x80; 200]));
        push(&mut inner, INTEGER, &positive(&[1, 0, 1]));
        let mut der = Vec::new();
        push(&mut der, SEQUENCE, &inner);
        let (modulus, exponent) = rsa_public(&der).unwrap();
        assert_eq!((modulus.len(), modulus[0], exponent), (201, 0, &[1, 0, 1][..]));
        assert_eq!(rsa_public(&der[..der.len() - 1]), None);
        assert_eq!(rsa_public(&[SEQUENCE, 0x80]), None);
    }
}
