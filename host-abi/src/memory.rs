//! `GuestMemory`: checked access to the guest's memory. Only this file turns a guest's pointers into bytes. Each access
//! is checked against the current size of the memory; nothing needs alignment.

use crate::abi::status::Status;

/// The guest's linear memory. The borrow is short, because any call into the guest may grow the memory.
pub(crate) struct GuestMemory<'a>(&'a mut [u8]);

impl<'a> GuestMemory<'a> {
    pub(crate) const fn new(bytes: &'a mut [u8]) -> Self {
        Self(bytes)
    }

    /// Returns the bytes of a range. A length of 0 is valid for any pointer.
    pub(crate) fn bytes(&self, pointer: u32, length: u32) -> Result<&[u8], Status> {
        self.0.get(range(pointer, length)).ok_or(Status::InvalidMemoryAccess)
    }

    /// Returns the bytes of a range for writing.
    pub(crate) fn bytes_mut(&mut self, pointer: u32, length: u32) -> Result<&mut [u8], Status> {
        self.0.get_mut(range(pointer, length)).ok_or(Status::InvalidMemoryAccess)
    }

    /// Checks that a range is within the memory.
    pub(crate) fn check(&self, pointer: u32, length: u32) -> Result<(), Status> {
        self.bytes(pointer, length).map(|_| ())
    }

    /// Reads a little-endian 32-bit number.
    pub(crate) fn read_u32(&self, pointer: u32) -> Result<u32, Status> {
        let bytes = self.bytes(pointer, 4)?.first_chunk().ok_or(Status::InvalidMemoryAccess)?;
        Ok(u32::from_le_bytes(*bytes))
    }

    /// Writes bytes at `pointer`.
    pub(crate) fn write(&mut self, pointer: u32, bytes: &[u8]) -> Result<(), Status> {
        let length = u32::try_from(bytes.len()).map_err(|_| Status::InvalidMemoryAccess)?;
        self.bytes_mut(pointer, length)?.copy_from_slice(bytes);
        Ok(())
    }

    /// Writes a little-endian 32-bit number.
    pub(crate) fn write_u32(&mut self, pointer: u32, number: u32) -> Result<(), Status> {
        self.write(pointer, &number.to_le_bytes())
    }

    /// Writes a little-endian 64-bit number.
    pub(crate) fn write_u64(&mut self, pointer: u32, number: u64) -> Result<(), Status> {
        self.write(pointer, &number.to_le_bytes())
    }
}

/// Converts a guest's range. Both ends fit, because a sum of two 32-bit numbers fits in 64 bits (Weir runs on 64-bit
/// machines only).
const fn range(pointer: u32, length: u32) -> std::ops::Range<usize> {
    if length == 0 {
        return 0..0;
    }
    let start = pointer as usize;
    start..start + length as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn range_past_the_end_is_rejected() {
        let rows = [
            (0, 0, true),
            (16, 0, true),
            (u32::MAX, 0, true),
            (0, 16, true),
            (15, 1, true),
            (13, 3, true),
            (13, 4, false),
            (16, 1, false),
            (u32::MAX, 1, false),
            (1, u32::MAX, false),
            (u32::MAX, u32::MAX, false),
        ];
        let mut bytes = [7; 16];
        for (pointer, length, expected) in rows {
            let memory = GuestMemory::new(&mut bytes);
            assert_eq!(memory.check(pointer, length).is_ok(), expected, "{pointer} {length}");
        }
    }

    #[test]
    fn numbers_are_unaligned_and_little_endian() {
        let mut bytes = [0; 16];
        let mut memory = GuestMemory::new(&mut bytes);
        assert_eq!(memory.write_u32(11, 0x0403_0201), Ok(()));
        assert_eq!(memory.read_u32(11), Ok(0x0403_0201));
        assert_eq!(memory.write_u32(13, 1), Err(Status::InvalidMemoryAccess));
        assert_eq!(memory.write_u64(8, 0x0807_0605_0403_0201), Ok(()));
        assert_eq!(bytes[8..], [1, 2, 3, 4, 5, 6, 7, 8]);
    }
}
