//! mimalloc as the program's allocator: threads of their own, small buffers that come and go, and it spends less time on
//! both than the system's. The `mimalloc` crate asks it for each layout's alignment, and there its third version takes a
//! detour for every size that is no power of two (`docs/decisions/003-dependencies.md`); this asks only when a block is
//! not aligned enough by itself.

use std::alloc::{GlobalAlloc, Layout};

use libmimalloc_sys as mimalloc;

/// Every block of at least this many bytes is aligned to them (mimalloc's `MI_MAX_ALIGN_SIZE`, C's `max_align_t`); a
/// smaller one to the power of two that it holds.
const NATURAL_ALIGNMENT: usize = 16;

/// mimalloc, asked in the shortest way.
pub(crate) struct Allocator;

/// Whether any block of this size is aligned enough.
const fn is_natural(size: usize, alignment: usize) -> bool {
    alignment <= NATURAL_ALIGNMENT && alignment <= size
}

#[expect(unsafe_code, reason = "an allocator is unsafe by its nature; these hand its duties to mimalloc")]
// SAFETY: mimalloc returns blocks of at least the size that is asked for, or null, and takes back what it gave, whichever
// of its functions gave it. They are aligned as asked, or by themselves: see `is_natural`.
unsafe impl GlobalAlloc for Allocator {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let (size, alignment) = (layout.size(), layout.align());
        // SAFETY: any size will do, and a layout's alignment is a power of two.
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
        // SAFETY: the caller has it from here.
        unsafe { mimalloc::mi_free(block.cast()) }
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let alignment = layout.align();
        // SAFETY: the caller has the block from here. Where it stays in its place it is aligned as before; else as in `alloc`.
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

    /// Many at once, so that pages of each size fill up.
    #[test]
    #[expect(unsafe_code, reason = "an allocator is asked")]
    fn blocks_are_aligned_and_keep_what_they_hold() {
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
                // SAFETY: as above; each block is changed and given back once, with the layout that it has.
                unsafe {
                    let block = Allocator.realloc(block, layout, grown);
                    assert!(is_aligned(block), "{layout:?} becomes {grown}");
                    let kept = std::slice::from_raw_parts(block, size.min(grown));
                    assert!(kept.iter().all(|byte| *byte == 7), "{layout:?} becomes {grown}");
                    Allocator.dealloc(block, Layout::from_size_align(grown, layout.align()).unwrap());
                    let fresh = Allocator.alloc(layout);
                    assert!(is_aligned(fresh), "{layout:?}");
                    Allocator.dealloc(fresh, layout);
                }
            }
        }
    }
}
