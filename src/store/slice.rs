//! Bytes read from a log: on the heap, or in a read-only mapping of a segment.

use bytes::Bytes;

use super::local::Mapped;

/// Consecutive whole batches. Mapped bytes may be handed to the kernel (a vectored write answers EFAULT
/// when the file was cut underneath), never loaded by user space: use [`Slice::to_bytes`] for that.
#[derive(Clone, Debug)]
pub enum Slice {
    /// In memory.
    Heap(Bytes),
    /// In a mapped segment.
    Mapped(Mapped),
}

impl Slice {
    /// No bytes.
    #[must_use]
    pub fn empty() -> Self {
        Self::Heap(Bytes::new())
    }

    /// Length in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Heap(bytes) => bytes.len(),
            Self::Mapped(mapped) => mapped.len(),
        }
    }

    /// Whether there is nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// For a vectored write to a socket, and for nothing else.
    #[must_use]
    pub fn for_socket(&self) -> &[u8] {
        match self {
            Self::Heap(bytes) => bytes,
            Self::Mapped(mapped) => mapped.for_socket(),
        }
    }

    /// A copy of the first `bytes`, that user space may look into.
    ///
    /// # Errors
    /// [`super::Error::Io`] when the file cannot be read.
    pub fn first(&self, bytes: usize) -> super::Result<Bytes> {
        match self {
            Self::Heap(all) => Ok(all.slice(..bytes.min(all.len()))),
            Self::Mapped(mapped) => mapped.first(bytes).to_bytes(),
        }
    }

    /// A copy that user space may look into (no copy when already on the heap).
    ///
    /// # Errors
    /// [`super::Error::Io`] when the file cannot be read.
    pub fn to_bytes(&self) -> super::Result<Bytes> {
        match self {
            Self::Heap(bytes) => Ok(bytes.clone()),
            Self::Mapped(mapped) => mapped.to_bytes(),
        }
    }
}
