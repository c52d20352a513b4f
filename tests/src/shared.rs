//! A pool of loaded objects for tests: verifying an object takes seconds, and a test a fraction of that.

use std::{
    ops::{Deref, DerefMut},
    sync::{Mutex, PoisonError},
    thread,
};

use edge_common::host::Memory;

use crate::kernel::{self, FRAGMENTS, Kernel, Sizes};

/// Loaded objects of any sizes that no test uses.
static FREE: Mutex<Vec<(Sizes, Kernel)>> = Mutex::new(Vec::new());

/// A loaded object, used by one test at a time. The object of a test that panics is not reused: its state is unknown.
pub struct Shared {
    sizes: Sizes,
    is_pooled: bool,
    kernel: Option<Kernel>,
}

impl Shared {
    /// An object with the content of `memory`, in maps of just its size.
    ///
    /// # Panics
    /// As [`Kernel::load`].
    pub fn load(memory: &Memory) -> Self {
        Self::load_with_fragments(memory, FRAGMENTS)
    }

    /// An object with the content of `memory`, and room for `fragments` fragmented packets of each family.
    ///
    /// # Panics
    /// As [`Kernel::load`].
    pub fn load_with_fragments(memory: &Memory, fragments: u32) -> Self {
        let sizes = kernel::sizes(memory, fragments);
        let mut free = FREE.lock().unwrap_or_else(PoisonError::into_inner);
        let found = free.iter().position(|(of, _)| *of == sizes).map(|place| free.swap_remove(place).1);
        drop(free);
        let mut kernel = found.unwrap_or_else(|| Kernel::load(&sizes));
        kernel.reset(memory);
        Self { sizes, is_pooled: true, kernel: Some(kernel) }
    }

    /// An object for traces with the content of `memory`, which no other test uses.
    ///
    /// # Panics
    /// As [`Kernel::load`].
    pub fn load_traced(memory: &Memory) -> Self {
        let sizes = kernel::sizes(memory, FRAGMENTS);
        let mut kernel = Kernel::load_traced(&sizes);
        kernel.reset(memory);
        Self { sizes, is_pooled: false, kernel: Some(kernel) }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if let Some(kernel) = self.kernel.take().filter(|_| self.is_pooled && !thread::panicking()) {
            FREE.lock().unwrap_or_else(PoisonError::into_inner).push((self.sizes, kernel));
        }
    }
}

impl Deref for Shared {
    type Target = Kernel;

    fn deref(&self) -> &Kernel {
        self.kernel.as_ref().expect("it is taken on drop only")
    }
}

impl DerefMut for Shared {
    fn deref_mut(&mut self) -> &mut Kernel {
        self.kernel.as_mut().expect("it is taken on drop only")
    }
}
