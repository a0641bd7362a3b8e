//! The allocator of filters: small blocks come from lists of blocks of their size, everything else from the standard
//! allocator.
//!
//! A filter makes a few small allocations for each request, among them one for each answer of the host, and frees them
//! again. The standard allocator of Wasm takes some 300 instructions for that pair, a list takes 30. What a list has it
//! keeps, so of each size a filter holds as much as it has needed at once; the host bounds that.

#![expect(unsafe_code, reason = "an allocator hands out memory by pointers")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::UnsafeCell;
use std::ptr;

/// Sizes differ by this.
const STEP: usize = 16;

/// Every block is aligned to this, as is what the standard allocator gives without further ado.
const ALIGN: usize = 8;

/// Lists, for blocks of up to 512 bytes.
const LISTS: usize = 32;

/// The allocator that [`register`](crate::register!) gives to a module.
#[derive(Debug)]
pub struct SmallBlocks {
    /// For each size, the first free block. A free block begins with a pointer to the next.
    free: UnsafeCell<[*mut u8; LISTS]>,
}

impl SmallBlocks {
    /// No free blocks yet.
    pub const fn new() -> Self {
        Self { free: UnsafeCell::new([ptr::null_mut(); LISTS]) }
    }
}

impl Default for SmallBlocks {
    fn default() -> Self {
        Self::new()
    }
}

/// The list for a layout, if there is one.
const fn list_for(layout: Layout) -> Option<usize> {
    let list = layout.size().wrapping_sub(1) / STEP;
    if list < LISTS && layout.align() <= ALIGN { Some(list) } else { None }
}

/// What the standard allocator is asked for when a list is empty.
fn block_of(list: usize) -> Layout {
    Layout::from_size_align((list + 1) * STEP, ALIGN).unwrap_or(Layout::new::<u8>()) // Both are small constants.
}

#[cfg(all(target_arch = "wasm32", not(target_feature = "atomics")))]
// SAFETY: without atomics there is one thread.
unsafe impl Sync for SmallBlocks {}

// SAFETY: a block is either in one list or handed out; it has at least the size and alignment that its list stands for,
// and goes back into the list that it came from, because that depends on its layout alone.
unsafe impl GlobalAlloc for SmallBlocks {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let Some(list) = list_for(layout) else {
            // SAFETY: the caller promises a layout that is not empty.
            return unsafe { System.alloc(layout) };
        };
        // SAFETY: nobody else holds the lists: there is one thread, and nothing here calls back.
        let first = unsafe { &mut (*self.free.get())[list] };
        let block = *first;
        if block.is_null() {
            // SAFETY: the layout is not empty.
            return unsafe { System.alloc(block_of(list)) };
        }
        // SAFETY: a free block begins with a pointer to the next one, and is aligned for it.
        *first = unsafe { block.cast::<*mut u8>().read() };
        block
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        let Some(list) = list_for(layout) else {
            // SAFETY: a block without a list came from there, with this layout.
            return unsafe { System.dealloc(block, layout) };
        };
        // SAFETY: as in `alloc`.
        let first = unsafe { &mut (*self.free.get())[list] };
        // SAFETY: the block is nobody's now, at least 16 bytes long and aligned to 8.
        unsafe { block.cast::<*mut u8>().write(*first) };
        *first = block;
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller promises a size that is not 0 and not too large for the alignment.
        let wanted = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        match (list_for(layout), list_for(wanted)) {
            (Some(before), Some(after)) if before == after => block,
            // SAFETY: a block without a list came from there, with this layout.
            (None, None) => unsafe { System.realloc(block, layout, size) },
            _ => {
                // SAFETY: the layout is not empty.
                let moved = unsafe { self.alloc(wanted) };
                if !moved.is_null() {
                    // SAFETY: both are at least this long, and the new one was not handed out before.
                    unsafe { ptr::copy_nonoverlapping(block, moved, layout.size().min(size)) };
                    // SAFETY: the block came from here with this layout, and nobody uses it any more.
                    unsafe { self.dealloc(block, layout) };
                }
                moved
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A block that is handed out, and the byte that fills it.
    struct Held {
        block: *mut u8,
        layout: Layout,
        fill: u8,
    }

    impl Held {
        fn fill(&self) {
            // SAFETY: the block has this size and is the test's own.
            unsafe { self.block.write_bytes(self.fill, self.layout.size()) };
        }

        fn check(&self, size: usize) {
            assert_eq!(self.block.addr() % self.layout.align(), 0);
            // SAFETY: as above; it was filled.
            let bytes = unsafe { std::slice::from_raw_parts(self.block, size) };
            assert!(bytes.iter().all(|byte| *byte == self.fill), "a block of {size} bytes was overwritten");
        }
    }

    /// Blocks of all sizes, made, changed and freed in a random order: none is handed out twice, none loses its bytes.
    #[test]
    fn blocks_keep_apart() {
        let allocator = SmallBlocks::new();
        let mut held: Vec<Held> = Vec::new();
        let mut seed = 1_u64;
        let mut random = |below: usize| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(seed >> 33).unwrap_or(0) % below
        };
        for step in 0..20_000_usize {
            let fill = u8::try_from(step % 251).unwrap_or(0);
            match random(3) {
                0 if !held.is_empty() => {
                    let gone = held.swap_remove(random(held.len()));
                    gone.check(gone.layout.size());
                    // SAFETY: it came from this allocator with this layout.
                    unsafe { allocator.dealloc(gone.block, gone.layout) };
                }
                1 if !held.is_empty() => {
                    let place = random(held.len());
                    let size = 1 + random(700);
                    let changed = &mut held[place];
                    // SAFETY: it came from this allocator with this layout.
                    changed.block = unsafe { allocator.realloc(changed.block, changed.layout, size) };
                    changed.check(changed.layout.size().min(size));
                    changed.layout = Layout::from_size_align(size, changed.layout.align()).unwrap();
                    changed.fill();
                }
                _ => {
                    let layout = Layout::from_size_align(1 + random(700), 1 << random(6)).unwrap();
                    // SAFETY: the layout is not empty.
                    let block = unsafe { allocator.alloc(layout) };
                    held.push(Held { block, layout, fill });
                    held.last().unwrap().fill();
                }
            }
        }
        for last in held {
            last.check(last.layout.size());
            // SAFETY: it came from this allocator with this layout.
            unsafe { allocator.dealloc(last.block, last.layout) };
        }
    }
}
