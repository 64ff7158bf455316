//! Bytes read from a log: on the heap, or in a read-only mapping of a segment.

use bytes::Bytes;

use super::local::Mapped;

/// Consecutive whole batches. Mapped bytes may be handed to the kernel (a vectored write answers EFAULT
/// when the file was cut underneath), never loaded by user space: use [`Slice::to_bytes`] for that.
#[derive(Clone, Debug)]
pub struct Slice {
    bytes: Held,
    next_offset: i64,
}

/// Where the bytes are.
#[derive(Clone, Debug)]
enum Held {
    Heap(Bytes),
    Mapped(Mapped),
}

impl Slice {
    /// Batches in memory, and the offset after their last record.
    #[must_use]
    pub fn heap(bytes: Bytes, next_offset: i64) -> Self {
        Self { bytes: Held::Heap(bytes), next_offset }
    }

    /// Batches in a mapped segment, and the offset after their last record.
    #[must_use]
    pub fn mapped(mapped: Mapped, next_offset: i64) -> Self {
        Self { bytes: Held::Mapped(mapped), next_offset }
    }

    /// No bytes, at `offset`.
    #[must_use]
    pub fn empty(offset: i64) -> Self {
        Self::heap(Bytes::new(), offset)
    }

    /// Offset after the last record.
    #[must_use]
    pub fn next_offset(&self) -> i64 {
        self.next_offset
    }

    /// Length in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        match &self.bytes {
            Held::Heap(bytes) => bytes.len(),
            Held::Mapped(mapped) => mapped.len(),
        }
    }

    /// Bytes of memory that it holds: none for what is mapped, which the page cache keeps for everybody.
    #[must_use]
    pub fn heap_len(&self) -> usize {
        match &self.bytes {
            Held::Heap(bytes) => bytes.len(),
            Held::Mapped(_) => 0,
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
        match &self.bytes {
            Held::Heap(bytes) => bytes,
            Held::Mapped(mapped) => mapped.for_socket(),
        }
    }

    /// A copy of the first `bytes`, that user space may look into.
    ///
    /// # Errors
    /// [`super::Error::Io`] when the file cannot be read.
    pub fn first(&self, bytes: usize) -> super::Result<Bytes> {
        match &self.bytes {
            Held::Heap(all) => Ok(all.slice(..bytes.min(all.len()))),
            Held::Mapped(mapped) => mapped.first(bytes).to_bytes(),
        }
    }

    /// A copy that user space may look into (no copy when already on the heap).
    ///
    /// # Errors
    /// [`super::Error::Io`] when the file cannot be read.
    pub fn to_bytes(&self) -> super::Result<Bytes> {
        match &self.bytes {
            Held::Heap(bytes) => Ok(bytes.clone()),
            Held::Mapped(mapped) => mapped.to_bytes(),
        }
    }
}
