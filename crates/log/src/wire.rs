//! Reading and writing fixed fields. Everything on disk is big endian, as the batches are.

/// Reads fields off the front of a buffer.
///
/// Past the end it yields zeros and remembers: check [`Reader::overrun`] before the values count.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
    overrun: bool,
}

impl<'a> Reader<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, overrun: false }
    }

    /// Whether more was read than there was.
    pub(crate) const fn overrun(&self) -> bool {
        self.overrun
    }

    pub(crate) const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(crate) fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut out = [0; N];
        match self.rest.split_at_checked(N) {
            Some((head, rest)) => {
                out.copy_from_slice(head);
                self.rest = rest;
            }
            None => self.overrun = true,
        }
        out
    }

    pub(crate) fn u8(&mut self) -> u8 {
        self.array::<1>()[0]
    }

    pub(crate) fn u16(&mut self) -> u16 {
        u16::from_be_bytes(self.array())
    }

    pub(crate) fn u32(&mut self) -> u32 {
        u32::from_be_bytes(self.array())
    }

    pub(crate) fn u64(&mut self) -> u64 {
        u64::from_be_bytes(self.array())
    }

    pub(crate) fn i64(&mut self) -> i64 {
        i64::from_be_bytes(self.array())
    }
}
