//! A table's words in memory: what the kernel, user space and a model checker have in common.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

/// A word that others change at any time.
pub trait Word<T> {
    /// Reads it. What is read after it is no older.
    fn load(&self) -> T;
    /// Writes it. What was written before it is seen no later.
    fn store(&self, value: T);
    /// Writes `new` if it is `old`; says whether it did. All before it is seen before all after it, reads and writes.
    fn replace_if(&self, old: T, new: T) -> bool;
}

/// Words of one kind.
pub trait Words {
    type U32: Word<u32>;
    type U64: Word<u64>;
}

/// Words as the processor has them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Native;

impl Words for Native {
    type U32 = AtomicU32;
    type U64 = AtomicU64;
}

macro_rules! native {
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

native!(AtomicU32, u32);
native!(AtomicU64, u64);
