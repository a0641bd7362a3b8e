//! The allocator of filters. Small blocks come from free lists, one per size class; large blocks come from the standard
//! allocator.
//!
//! A filter makes a few small allocations per request, among them one per result of a hostcall, and frees them again.
//! The standard allocator of Wasm takes about 300 instructions for that pair, a free list takes 30. Freed blocks stay
//! in their list, so memory per size class never shrinks below its peak. The host limits the memory of a VM.

#![expect(unsafe_code, reason = "an allocator returns raw memory")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::UnsafeCell;
use std::ptr;

/// Difference between two size classes, in bytes.
const STEP: usize = 16;

/// Alignment of every block, in bytes. The standard allocator guarantees it without padding.
const ALIGN: usize = 8;

/// Number of size classes: blocks of up to 512 bytes.
const SIZE_CLASSES: usize = 32;

/// The allocator that [`register`](crate::register!) sets for a module.
#[derive(Debug)]
pub struct SizeClassAllocator {
    /// The first free block of each size class. A free block starts with a pointer to the next.
    free: UnsafeCell<[*mut u8; SIZE_CLASSES]>,
}

impl SizeClassAllocator {
    /// Creates an allocator without free blocks.
    pub const fn new() -> Self {
        Self { free: UnsafeCell::new([ptr::null_mut(); SIZE_CLASSES]) }
    }
}

impl Default for SizeClassAllocator {
    fn default() -> Self {
        Self::new()
    }
}

/// Returns the size class of a layout; `None` for large or over-aligned layouts.
const fn size_class(layout: Layout) -> Option<usize> {
    let class = layout.size().wrapping_sub(1) / STEP;
    if class < SIZE_CLASSES && layout.align() <= ALIGN { Some(class) } else { None }
}

/// Returns the layout of a size class, which is requested from the standard allocator when its list is empty.
fn class_layout(class: usize) -> Layout {
    Layout::from_size_align((class + 1) * STEP, ALIGN).unwrap_or(Layout::new::<u8>()) // Both are small constants.
}

#[cfg(all(target_arch = "wasm32", not(target_feature = "atomics")))]
// SAFETY: without atomics there is one thread.
unsafe impl Sync for SizeClassAllocator {}

// SAFETY: a block is either in one list or allocated. It has at least the size and alignment of its size class, and it
// returns to the same list, because the size class depends on the layout only.
unsafe impl GlobalAlloc for SizeClassAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let Some(class) = size_class(layout) else {
            // SAFETY: the caller promises a layout that is not empty.
            return unsafe { System.alloc(layout) };
        };
        // SAFETY: there is no other reference to the lists: one thread, and no call out of this function.
        let first = unsafe { &mut (*self.free.get())[class] };
        let block = *first;
        if block.is_null() {
            // SAFETY: the layout is not empty.
            return unsafe { System.alloc(class_layout(class)) };
        }
        // SAFETY: a free block begins with a pointer to the next one, and is aligned for it.
        *first = unsafe { block.cast::<*mut u8>().read() };
        block
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        let Some(class) = size_class(layout) else {
            // SAFETY: a block without a size class came from the standard allocator, with this layout.
            return unsafe { System.dealloc(block, layout) };
        };
        // SAFETY: as in `alloc`.
        let first = unsafe { &mut (*self.free.get())[class] };
        // SAFETY: the caller gave up the block, which has at least 16 bytes and is aligned to 8.
        unsafe { block.cast::<*mut u8>().write(*first) };
        *first = block;
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller promises a size that is not 0 and not too large for the alignment.
        let new_layout = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        match (size_class(layout), size_class(new_layout)) {
            (Some(before), Some(after)) if before == after => block,
            // SAFETY: a block without a size class came from the standard allocator, with this layout.
            (None, None) => unsafe { System.realloc(block, layout, size) },
            _ => {
                // SAFETY: the layout is not empty.
                let moved = unsafe { self.alloc(new_layout) };
                if !moved.is_null() {
                    // SAFETY: both blocks are at least this long, and they do not overlap.
                    unsafe { ptr::copy_nonoverlapping(block, moved, layout.size().min(size)) };
                    // SAFETY: the block came from this allocator with this layout, and is not used any more.
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

    /// An allocated block, and the byte that fills it.
    struct Block {
        block: *mut u8,
        layout: Layout,
        fill: u8,
    }

    impl Block {
        fn fill(&self) {
            // SAFETY: the block has this size and belongs to the test.
            unsafe { self.block.write_bytes(self.fill, self.layout.size()) };
        }

        fn check(&self, size: usize) {
            assert_eq!(self.block.addr() % self.layout.align(), 0);
            // SAFETY: as in `fill`; the bytes are initialized.
            let bytes = unsafe { std::slice::from_raw_parts(self.block, size) };
            assert!(bytes.iter().all(|byte| *byte == self.fill), "a block of {size} bytes was overwritten");
        }
    }

    /// Allocates, reallocates and frees blocks of all sizes in random order. No two overlap, and none loses its bytes.
    #[test]
    fn live_blocks_do_not_overlap() {
        let allocator = SizeClassAllocator::new();
        let mut blocks: Vec<Block> = Vec::new();
        let mut seed = 1_u64;
        let mut random = |below: usize| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(seed >> 33).unwrap_or(0) % below
        };
        for step in 0..20_000_usize {
            let fill = u8::try_from(step % 251).unwrap_or(0);
            match random(3) {
                0 if !blocks.is_empty() => {
                    let freed = blocks.swap_remove(random(blocks.len()));
                    freed.check(freed.layout.size());
                    // SAFETY: it came from this allocator with this layout.
                    unsafe { allocator.dealloc(freed.block, freed.layout) };
                }
                1 if !blocks.is_empty() => {
                    let index = random(blocks.len());
                    let size = 1 + random(700);
                    let changed = &mut blocks[index];
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
                    blocks.push(Block { block, layout, fill });
                    blocks.last().unwrap().fill();
                }
            }
        }
        for last in blocks {
            last.check(last.layout.size());
            // SAFETY: it came from this allocator with this layout.
            unsafe { allocator.dealloc(last.block, last.layout) };
        }
    }
}
