//! The words of the agent protocol (RFC 4251, section 5; draft-miller-ssh-agent).

/// The largest message, as OpenSSH's agent has it.
pub(super) const LARGEST_MESSAGE: usize = 256 << 10;

/// `SSH_AGENT_FAILURE`
pub(super) const FAILURE: u8 = 5;
/// `SSH_AGENTC_REQUEST_IDENTITIES`
pub(super) const REQUEST_IDENTITIES: u8 = 11;
/// `SSH_AGENT_IDENTITIES_ANSWER`
pub(super) const IDENTITIES_ANSWER: u8 = 12;
/// `SSH_AGENTC_SIGN_REQUEST`
pub(super) const SIGN_REQUEST: u8 = 13;
/// `SSH_AGENT_SIGN_RESPONSE`
pub(super) const SIGN_RESPONSE: u8 = 14;

/// Reads fields from the front of some bytes. None where they end too early.
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    pub(super) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, left) = self.0.split_at_checked(count)?;
        self.0 = left;
        Some(taken)
    }

    pub(super) fn number(&mut self) -> Option<u32> {
        Some(u32::from_be_bytes(self.take(4)?.try_into().ok()?))
    }

    pub(super) fn string(&mut self) -> Option<&'a [u8]> {
        let length = self.number()?;
        self.take(usize::try_from(length).ok()?)
    }
}

/// Appends a string: its length and its bytes.
pub(super) fn push_string(out: &mut Vec<u8>, bytes: &[u8]) {
    // Nothing here is near 4 GiB: messages and keys are bounded.
    out.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend_from_slice(bytes);
}

/// Appends a positive number, big end first, as an `mpint`.
pub(super) fn push_number(out: &mut Vec<u8>, bytes: &[u8]) {
    let digits = without_zeros(bytes);
    let mut number = Vec::with_capacity(digits.len() + 1);
    if digits.first().is_some_and(|first| first & 0x80 != 0) {
        number.push(0);
    }
    number.extend_from_slice(digits);
    push_string(out, &number);
}

/// A number without the zeros that it begins with.
pub(super) fn without_zeros(bytes: &[u8]) -> &[u8] {
    &bytes[bytes.iter().take_while(|byte| **byte == 0).count()..]
}
