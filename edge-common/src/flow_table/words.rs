//! Words of a table in memory, with the same interface in the kernel, in user space and in a model checker.

/// A word that others may change at any time.
pub trait Word<T> {
    /// Reads the word. Later reads return nothing older.
    fn load(&self) -> T;
    /// Writes the word. Earlier writes are visible no later.
    fn store(&self, value: T);
    /// Writes `new` if the word is `old`, and returns whether it did. A full barrier: all reads and writes before it take
    /// effect before all those after it.
    fn replace_if(&self, old: T, new: T) -> bool;
}

/// The types of a table's words.
pub trait Words {
    type U32: Word<u32>;
    type U64: Word<u64>;
}

/// Words of the processor.
#[derive(Clone, Copy, Debug, Default)]
pub struct Native;

#[cfg(not(target_arch = "bpf"))]
mod native {
    use core::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

    use super::{Native, Word, Words};

    impl Words for Native {
        type U32 = AtomicU32;
        type U64 = AtomicU64;
    }

    macro_rules! word {
        ($atomic:ty, $value:ty) => {
            impl Word<$value> for $atomic {
                fn load(&self) -> $value {
                    self.load(Ordering::Acquire)
                }

                fn store(&self, value: $value) {
                    self.store(value, Ordering::Release);
                }

                fn replace_if(&self, old: $value, new: $value) -> bool {
                    let replaced = self.compare_exchange(old, new, Ordering::AcqRel, Ordering::Acquire).is_ok();
                    fence(Ordering::SeqCst);
                    replaced
                }
            }
        };
    }

    word!(AtomicU32, u32);
    word!(AtomicU64, u64);
}

/// Words in a BPF program: Rust has no compare-exchange for this target, but the instruction set has.
///
/// The compiler keeps volatile accesses in order, and an x86 processor keeps loads in order and stores in order. An arm64
/// processor may execute a later load first, until programs can prevent it (Linux 6.15). A compare-exchange is a full
/// barrier on any processor (Documentation/bpf/standardization/instruction-set.rst, and the kernel's translators).
#[cfg(target_arch = "bpf")]
mod program {
    use core::{arch::asm, cell::UnsafeCell, ptr};

    use super::{Native, Word, Words};

    impl Words for Native {
        type U32 = ProgramWord<u32>;
        type U64 = ProgramWord<u64>;
    }

    /// A word of a map's value.
    #[repr(transparent)]
    #[derive(Debug, Default)]
    pub struct ProgramWord<T>(UnsafeCell<T>);

    // SAFETY: all access is volatile or atomic, and of whole words.
    unsafe impl<T> Sync for ProgramWord<T> {}

    macro_rules! word {
        ($value:ty, $class:tt, $result:tt, $instruction:literal) => {
            impl Word<$value> for ProgramWord<$value> {
                #[inline(always)]
                fn load(&self) -> $value {
                    // SAFETY: a valid word; volatile, as others change it at any time.
                    unsafe { ptr::read_volatile(self.0.get()) }
                }

                #[inline(always)]
                fn store(&self, value: $value) {
                    // SAFETY: as above; nobody has a reference to what is inside.
                    unsafe { ptr::write_volatile(self.0.get(), value) };
                }

                #[inline(always)]
                fn replace_if(&self, old: $value, new: $value) -> bool {
                    let was: $value;
                    // SAFETY: as above; the instruction touches this word alone.
                    unsafe { asm!($instruction, in(reg) self.0.get(), in($class) new, inlateout($result) old => was) };
                    was == old
                }
            }
        };
    }

    word!(u32, wreg, "w0", "w0 = cmpxchg32_32({0} + 0, w0, {1})");
    word!(u64, reg, "r0", "r0 = cmpxchg_64({0} + 0, r0, {1})");
}
