//! Arithmetic and comparisons of instructions.

use anyhow::{Result, bail};

/// Instruction classes.
pub(super) const ALU: u8 = 4;
pub(super) const JMP: u8 = 5;
pub(super) const JMP32: u8 = 6;
pub(super) const ALU64: u8 = 7;
/// Masks of an instruction code: its class, its operation, and whether the second operand is a register.
pub(super) const CLASS: u8 = 0x07;
pub(super) const OPERATION: u8 = 0xf0;
pub(super) const REGISTER: u8 = 0x08;
/// The byte swap operation: to big-endian if [`REGISTER`] is set.
pub(super) const END: u8 = 0xd0;

const LOW: u64 = 0xffff_ffff;

const fn is_wide(code: u8) -> bool {
    matches!(code & CLASS, ALU64 | JMP)
}

/// The operand as the instruction sees it.
const fn unsigned(code: u8, value: u64) -> u64 {
    if is_wide(code) { value } else { value & LOW }
}

const fn signed(code: u8, value: u64) -> i64 {
    let shift = if is_wide(code) { 0 } else { 32 };
    (value << shift).cast_signed() >> shift
}

/// The result of an arithmetic instruction.
pub(super) fn result(code: u8, left: u64, right: u64) -> Result<u64> {
    if code & OPERATION == END {
        return swapped(code, left, right);
    }
    let (a, b) = (unsigned(code, left), unsigned(code, right));
    let shift = b & if is_wide(code) { 63 } else { 31 };
    let value = match code & OPERATION {
        0x00 => a.wrapping_add(b),
        0x10 => a.wrapping_sub(b),
        0x20 => a.wrapping_mul(b),
        0x30 => a.checked_div(b).unwrap_or(0),
        0x40 => a | b,
        0x50 => a & b,
        0x60 => a << shift,
        0x70 => a >> shift,
        0x80 => a.wrapping_neg(),
        0x90 => a.checked_rem(b).unwrap_or(a),
        0xa0 => a ^ b,
        0xb0 => b,
        0xc0 => (signed(code, a) >> shift).cast_unsigned(),
        _ => bail!("unknown instruction {code:#x}"),
    };
    Ok(unsigned(code, value))
}

/// The low bits of a value in the byte order that the instruction selects.
fn swapped(code: u8, value: u64, bits: u64) -> Result<u64> {
    match (code & CLASS, bits) {
        (ALU, 16 | 32 | 64) => {
            let high = value << (64 - bits);
            Ok(if code & REGISTER == 0 { high >> (64 - bits) } else { high.swap_bytes() })
        }
        _ => bail!("unknown instruction {code:#x} for {bits} bits"),
    }
}

/// Whether a conditional jump is taken.
pub(super) fn holds(code: u8, left: u64, right: u64) -> Result<bool> {
    let (a, b) = (unsigned(code, left), unsigned(code, right));
    let (c, d) = (signed(code, left), signed(code, right));
    Ok(match code & OPERATION {
        0x10 => a == b,
        0x20 => a > b,
        0x30 => a >= b,
        0x40 => a & b != 0,
        0x50 => a != b,
        0x60 => c > d,
        0x70 => c >= d,
        0xa0 => a < b,
        0xb0 => a <= b,
        0xc0 => c < d,
        0xd0 => c <= d,
        _ => bail!("unknown instruction {code:#x}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn narrow_instructions_have_narrow_results() {
        let all = |code, left, right| [ALU, ALU64].map(|class| result(code | class, left, right).expect("known"));
        assert_eq!(all(0x00, 0xffff_ffff, 1), [0, 0x1_0000_0000]);
        assert_eq!(all(0x10, 0, 1), [LOW, u64::MAX]);
        assert_eq!(all(0xb0, 0, u64::MAX), [LOW, u64::MAX]);
        assert_eq!(all(0xc0, 0x8000_0000, 31), [LOW, 1]);
        assert_eq!(all(0x60, 1, 33), [2, 1 << 33]);
        assert_eq!(all(0x30, 7, 0), [0, 0]);
        assert_eq!(all(0x90, 7, 0), [7, 7]);
    }

    #[test]
    fn bytes_are_put_in_order() {
        let big = |bits| result(END | REGISTER | ALU, 0x0102_0304_0506_0708, bits).expect("known");
        assert_eq!([16, 32, 64].map(big), [0x0807, 0x0807_0605, 0x0807_0605_0403_0201]);
        assert_eq!(result(END | ALU, 0x0102_0304, 16).expect("known"), 0x0304);
        assert!(result(END | ALU64, 1, 16).is_err());
    }

    #[test]
    fn signs_count_where_they_should() {
        let both = |code, left, right| [JMP32, JMP].map(|class| holds(code | class, left, right).expect("known"));
        assert_eq!(both(0x20, LOW, 0), [true, true]);
        assert_eq!(both(0x60, LOW, 0), [false, true]);
        assert_eq!(both(0xc0, u64::MAX, 0), [true, true]);
        assert_eq!(both(0x10, 1 << 32, 0), [true, false]);
    }
}
