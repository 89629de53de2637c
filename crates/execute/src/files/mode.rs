//! Permission bits as chmod(1) writes them, read as BSD's setmode(3) does (BuildKit uses a
//! translation of it), with no mask.

/// Changes of permission bits.
#[derive(Clone, Debug)]
pub(super) struct Symbolic(Vec<ModeChange>);

#[derive(Clone, Copy, Debug)]
enum ModeChange {
    Set(u32),
    Clear(u32),
    /// Set if it is a directory or was executable for anyone.
    SetIfExecutable(u32),
    /// Copies the bits of one class to others.
    Copy {
        from: u32,
        to: u32,
        operator: u8,
    },
}

const SET_USER: u32 = 0o4000;
const SET_GROUP: u32 = 0o2000;
const STICKY: u32 = 0o1000;
const STANDARD: u32 = SET_USER | SET_GROUP | 0o777;

impl Symbolic {
    /// Reads changes; `None` if they are malformed.
    pub(super) fn new(text: &str) -> Option<Self> {
        if text.starts_with(|first: char| first.is_ascii_digit()) {
            let bits = u32::from_str_radix(text, 8).ok().filter(|bits| *bits <= 0o7777)?;
            return Some(Self(vec![ModeChange::Clear(0o7777), ModeChange::Set(bits)]));
        }
        let mut changes = Vec::new();
        let mut equal_done = false;
        for clause in text.split(',') {
            let mut rest = clause.as_bytes();
            let mut who = 0;
            while let Some((class, after)) = rest.split_first() {
                who |= match class {
                    b'a' => STANDARD,
                    b'u' => SET_USER | 0o700,
                    b'g' => SET_GROUP | 0o070,
                    b'o' => 0o007,
                    _ => break,
                };
                rest = after;
            }
            loop {
                let (operator, after) = rest.split_first()?;
                if !b"+-=".contains(operator) {
                    return None;
                }
                if *operator == b'=' {
                    equal_done = false;
                }
                who &= !STICKY;
                rest = permissions(&mut changes, *operator, &mut who, &mut equal_done, after);
                if rest.is_empty() {
                    break;
                }
            }
        }
        Some(Self(changes))
    }

    /// The bits after the changes.
    pub(super) fn apply(&self, old: u32, is_directory: bool) -> u32 {
        let mut new = old;
        for change in &self.0 {
            match *change {
                ModeChange::Set(bits) => new |= bits,
                ModeChange::Clear(bits) => new &= !bits,
                ModeChange::SetIfExecutable(bits) => {
                    if is_directory || old & 0o111 != 0 {
                        new |= bits;
                    }
                }
                ModeChange::Copy { from, to, operator } => {
                    let value = new >> from & 7;
                    for class in [6, 3, 0].into_iter().filter(|class| to & 7 << class != 0) {
                        match operator {
                            b'+' => new |= value << class,
                            b'-' => new &= !(value << class),
                            _ => new = new & !(7 << class) | value << class,
                        }
                    }
                }
            }
        }
        new & 0o7777
    }
}

/// Reads the permissions after an operator; what is left begins with another operator.
fn permissions<'a>(
    changes: &mut Vec<ModeChange>,
    operator: u8,
    who: &mut u32,
    equal_done: &mut bool,
    mut rest: &'a [u8],
) -> &'a [u8] {
    let mut bits = 0;
    let mut if_executable = 0;
    while let Some((permission, after)) = rest.split_first() {
        let not_only_others = *who == 0 || *who & !0o007 != 0;
        match permission {
            b'r' => bits |= 0o444,
            b'w' => bits |= 0o222,
            b'x' => bits |= 0o111,
            b'X' if operator == b'-' => bits |= 0o111,
            b'X' => if_executable = 0o111,
            b's' if not_only_others => bits |= SET_USER | SET_GROUP,
            b't' if not_only_others => {
                *who |= STICKY;
                bits |= STICKY;
            }
            b's' | b't' => {}
            b'u' | b'g' | b'o' => {
                if bits != 0 {
                    change(changes, operator, *who, std::mem::take(&mut bits));
                }
                if operator == b'=' {
                    *equal_done = true;
                }
                if if_executable != 0 {
                    change(changes, b'X', *who, std::mem::take(&mut if_executable));
                }
                let from = match permission {
                    b'u' => 6,
                    b'g' => 3,
                    _ => 0,
                };
                let to = if *who == 0 { 0o777 } else { *who & 0o777 };
                changes.push(ModeChange::Copy { from, to, operator });
            }
            _ => break,
        }
        rest = after;
    }
    if bits != 0 || operator == b'=' && !*equal_done {
        *equal_done |= operator == b'=';
        change(changes, operator, *who, bits);
    }
    if if_executable != 0 {
        change(changes, b'X', *who, if_executable);
    }
    rest
}

fn change(changes: &mut Vec<ModeChange>, operator: u8, who: u32, bits: u32) {
    let affected = if who == 0 { bits } else { who & bits };
    match operator {
        b'-' => changes.push(ModeChange::Clear(affected)),
        b'X' => changes.push(ModeChange::SetIfExecutable(affected)),
        _ => {
            if operator == b'=' {
                changes.push(ModeChange::Clear(if who == 0 { STANDARD } else { who }));
            }
            changes.push(ModeChange::Set(affected));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_those_of_chmod() {
        for (text, old, directory, new) in [
            ("u=rwX,go=rX", 0o600, false, 0o644),
            ("u=rwX,go=rX", 0o700, true, 0o755),
            ("u=rwX,go=rX", 0o755, false, 0o755),
            ("go-r", 0o644, false, 0o600),
            ("a+x", 0o644, false, 0o755),
            ("u+s,g=u,o=", 0o755, false, 0o4770),
            ("+t,o+w", 0o755, true, 0o1757),
            ("+t,o+w", 0o644, false, 0o1646),
            ("a-x+X", 0o755, false, 0o755),
            ("u=rwx,go=", 0o644, false, 0o700),
            ("=", 0o4755, false, 0),
            ("g-u", 0o770, false, 0o700),
            ("0640", 0o777, false, 0o640),
            ("go=u-w", 0o640, false, 0o644),
        ] {
            let result = Symbolic::new(text).unwrap().apply(old, directory);
            assert_eq!(result, new, "{text} on {old:o} gives {result:o}");
        }
        for text in ["", "u", "u+q", "+,", "99999", "8", "x+r"] {
            assert!(Symbolic::new(text).is_none(), "{text}");
        }
    }
}
