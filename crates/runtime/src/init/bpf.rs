//! The language of filters of system calls, as far as it is used here (kernel, `linux/filter.h` and `linux/seccomp.h`).

/// Loads a word of `seccomp_data`.
pub const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
/// Jumps by whether what is loaded equals a number.
pub const EQUALS: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
/// Jumps by whether it is as large as a number, or larger.
pub const AT_LEAST: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
/// Jumps by whether it has one of some bits.
pub const HAS: u16 = (libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K) as u16;
/// Ends with an answer.
pub const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

/// Offset of the call's number in `seccomp_data`.
pub const CALL: u32 = 0;
/// Offset of the kind of machine.
pub const MACHINE: u32 = 4;
/// Offset of the arguments; each has eight bytes, its lower half first on the machines that are known here.
pub const ARGUMENTS: u32 = 16;

/// The kernel's number of this machine.
#[cfg(target_arch = "x86_64")]
pub const AUDIT_ARCH: u32 = 0xC000_003E;
/// The kernel's number of this machine.
#[cfg(target_arch = "aarch64")]
pub const AUDIT_ARCH: u32 = 0xC000_00B7;

/// The kernel's number of this machine when it runs 32-bit programs.
#[cfg(target_arch = "x86_64")]
pub const COMPAT_MACHINE: u32 = 0x4000_0003;
/// The kernel's number of this machine when it runs 32-bit programs.
#[cfg(target_arch = "aarch64")]
pub const COMPAT_MACHINE: u32 = 0x4000_0028;
/// `chroot` of 32-bit programs, on x86 and ARM alike.
pub const COMPAT_CHROOT: i64 = 61;

/// An instruction: how far to jump if so, how far if not, and its number.
pub const fn step(code: u16, jt: u8, jf: u8, k: u32) -> libc::sock_filter {
    libc::sock_filter { code, jt, jf, k }
}

/// The kernel's answer to a call, by interpreting the program.
#[cfg(test)]
pub fn decide(steps: &[libc::sock_filter], machine: u32, call: u32, argument: u32) -> u32 {
    let (mut at, mut loaded) = (0, 0);
    loop {
        let step = steps[at];
        at += 1;
        let jump = |is_so: bool| usize::from(if is_so { step.jt } else { step.jf });
        match step.code {
            LOAD => {
                loaded = match step.k {
                    CALL => call,
                    MACHINE => machine,
                    _ => argument,
                }
            }
            EQUALS => at += jump(loaded == step.k),
            AT_LEAST => at += jump(loaded >= step.k),
            HAS => at += jump(loaded & step.k != 0),
            RETURN => return step.k,
            code => panic!("{code}"),
        }
    }
}
