//! The object file, fitted to an older kernel before it is loaded.

use std::borrow::Cow;

/// The object for a kernel that has the coarse clock or, if `coarse_clock` is false, for one before Linux 5.11: each call of
/// `bpf_ktime_get_coarse_ns` becomes one of `bpf_ktime_get_ns`, which tells the same time at a higher cost.
///
/// A constant that the loader sets would do the same by a branch in the program, and packets would execute it: here only old
/// kernels pay. Code stands at multiples of eight bytes in the file, so no other code is changed; and only code matters in it.
pub fn for_kernel(object: &[u8], coarse_clock: bool) -> Cow<'_, [u8]> {
    if coarse_clock {
        return Cow::Borrowed(object);
    }
    let mut object = object.to_vec();
    let (words, _) = object.as_chunks_mut::<8>();
    for word in words {
        if *word == call(KTIME_GET_COARSE_NS) {
            *word = call(KTIME_GET_NS);
        }
    }
    Cow::Owned(object)
}

/// Numbers of the helpers (`enum bpf_func_id`).
const KTIME_GET_NS: u8 = 5;
const KTIME_GET_COARSE_NS: u8 = 160;

/// A call of a helper (RFC 9669, section 4.3.1).
const fn call(helper: u8) -> [u8; 8] {
    [0x85, 0, 0, 0, helper, 0, 0, 0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_of_the_coarse_clock_and_nothing_else_are_replaced() {
        let local_call = [0x85, 0x10, 0, 0, KTIME_GET_COARSE_NS, 0, 0, 0];
        let object = [*b"\x7fELF\x02\x01\x01\x00", call(KTIME_GET_COARSE_NS), local_call, call(1)].concat();
        assert!(matches!(for_kernel(&object, true), Cow::Borrowed(same) if same == object));
        let expected = [*b"\x7fELF\x02\x01\x01\x00", call(KTIME_GET_NS), local_call, call(1)].concat();
        assert_eq!(for_kernel(&object, false), expected);
    }
}
