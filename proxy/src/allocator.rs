//! mimalloc as the program's allocator. It spends less time than the system's on many threads and on short-lived small
//! buffers.
//!
//! The `mimalloc` crate passes each layout's alignment. In mimalloc's third version that takes a slow path for every
//! size that is not a power of two (`docs/decisions/003-dependencies.md`). This allocator passes an alignment only when
//! a block's natural alignment is too small.

use std::alloc::{GlobalAlloc, Layout};

use libmimalloc_sys as mimalloc;

/// Natural alignment of every block of at least this many bytes (mimalloc's `MI_MAX_ALIGN_SIZE`, C's `max_align_t`).
///
/// A smaller block is aligned to the largest power of two that is not above its size.
const NATURAL_ALIGNMENT: usize = 16;

/// mimalloc through its fastest entry points.
pub(crate) struct Allocator;

/// Returns true if every block of this size has this alignment by itself.
const fn is_natural(size: usize, alignment: usize) -> bool {
    alignment <= NATURAL_ALIGNMENT && alignment <= size
}

#[expect(unsafe_code, reason = "an allocator is unsafe by its nature; these methods forward to mimalloc")]
// SAFETY: mimalloc returns blocks of at least the requested size, or null, and frees its own blocks whichever of its
// functions allocated them. They are aligned as requested, or naturally: see `is_natural`.
unsafe impl GlobalAlloc for Allocator {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let (size, alignment) = (layout.size(), layout.align());
        // SAFETY: every size is valid, and a layout's alignment is a power of two.
        let block = unsafe {
            match is_natural(size, alignment) {
                true => mimalloc::mi_malloc(size),
                false => mimalloc::mi_malloc_aligned(size, alignment),
            }
        };
        block.cast()
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let (size, alignment) = (layout.size(), layout.align());
        // SAFETY: as in `alloc`.
        let block = unsafe {
            match is_natural(size, alignment) {
                true => mimalloc::mi_zalloc(size),
                false => mimalloc::mi_zalloc_aligned(size, alignment),
            }
        };
        block.cast()
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, _layout: Layout) {
        // SAFETY: the block was allocated by this allocator.
        unsafe { mimalloc::mi_free(block.cast()) }
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let alignment = layout.align();
        // SAFETY: the block was allocated by this allocator. A block that stays in its place is aligned as before; a
        // new one as in `alloc`.
        let block = unsafe {
            match is_natural(size, alignment) {
                true => mimalloc::mi_realloc(block.cast(), size),
                false => mimalloc::mi_realloc_aligned(block.cast(), size, alignment),
            }
        };
        block.cast()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Allocates many blocks at once, so that pages of each size fill up.
    #[test]
    #[expect(unsafe_code, reason = "calls an allocator")]
    fn blocks_are_aligned_and_retain_their_bytes() {
        let sizes = (1..=256).chain([320, 1_000, 1_024, 1_025, 3_000, 4_096, 8_192, 10_000, 70_000, 3_000_000]);
        for (size, shift) in sizes.flat_map(|size| (0..=13).map(move |shift| (size, shift))) {
            let layout = Layout::from_size_align(size, 1 << shift).unwrap();
            let is_aligned = |block: *mut u8| !block.is_null() && block.addr().is_multiple_of(layout.align());
            let count = if size > 10_000 { 2 } else { 20 };
            let blocks: Vec<*mut u8> = (0..count)
                .map(|_| {
                    // SAFETY: the layout's size is not 0; a block holds `size` bytes.
                    unsafe {
                        let block = Allocator.alloc_zeroed(layout);
                        assert!(is_aligned(block), "{layout:?}");
                        assert!(std::slice::from_raw_parts(block, size).iter().all(|byte| *byte == 0), "{layout:?}");
                        block.write_bytes(7, size);
                        block
                    }
                })
                .collect();
            for (block, grown) in blocks.into_iter().zip([size * 2, size + 1, size / 2 + 1].into_iter().cycle()) {
                // SAFETY: as above; each block is reallocated and freed once, with its own layout.
                unsafe {
                    let block = Allocator.realloc(block, layout, grown);
                    assert!(is_aligned(block), "{layout:?} becomes {grown}");
                    let retained = std::slice::from_raw_parts(block, size.min(grown));
                    assert!(retained.iter().all(|byte| *byte == 7), "{layout:?} becomes {grown}");
                    Allocator.dealloc(block, Layout::from_size_align(grown, layout.align()).unwrap());
                    let fresh = Allocator.alloc(layout);
                    assert!(is_aligned(fresh), "{layout:?}");
                    Allocator.dealloc(fresh, layout);
                }
            }
        }
    }
}
