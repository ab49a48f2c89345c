//! Bytes that several messages have in common.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

/// Bytes that are not copied for each connection that they are sent to: a snapshot that many players get, or a large
/// message that nobody needs any more. Clones share one memory, which is given back with the last of them.
///
/// ```
/// # use netstream_transport::SharedBytes;
/// let level = SharedBytes::from(vec![7; 1 << 20]);
/// let again = level.clone(); // a counter more
/// assert_eq!(level.as_ptr(), again.as_ptr());
/// ```
#[derive(Clone)]
pub struct SharedBytes {
    owner: Arc<dyn AsRef<[u8]> + Send + Sync>,
    length: usize,
}

impl SharedBytes {
    /// Shares whatever owns bytes: a `Vec`, a `Box<[u8]>`, an `Arc<[u8]>`, a memory map. It must show the same bytes
    /// always; of an owner that comes to show fewer, receivers may get zeros for the rest.
    pub fn new(owner: impl AsRef<[u8]> + Send + Sync + 'static) -> Self {
        let length = owner.as_ref().len();
        Self { owner: Arc::new(owner), length }
    }

    /// How many bytes there were when they were shared.
    pub const fn len(&self) -> usize {
        self.length
    }

    /// Whether there were none.
    pub const fn is_empty(&self) -> bool {
        self.length == 0
    }
}

impl From<Vec<u8>> for SharedBytes {
    /// Takes the memory over, without what is reserved and not used.
    fn from(mut bytes: Vec<u8>) -> Self {
        bytes.shrink_to_fit();
        Self::new(bytes)
    }
}

impl Deref for SharedBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let bytes = (*self.owner).as_ref();
        bytes.get(..self.length).unwrap_or(bytes)
    }
}

impl AsRef<[u8]> for SharedBytes {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for SharedBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SharedBytes({} B)", self.len())
    }
}
