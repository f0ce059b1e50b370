//! Buffers from a caching allocator: training asks for the same sizes every step, and after the
//! first step gets the same pages back instead of fresh ones from the kernel.

use std::alloc::{Layout, alloc, alloc_zeroed, dealloc, handle_alloc_error};
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::{Mutex, PoisonError};

/// Alignment of every buffer, in bytes: one cache line, two AVX2 vectors.
pub const ALIGNMENT: usize = 64;

/// Types that a buffer can hold.
///
/// # Safety
/// Every bit pattern must be a valid value, and the type must need no drop.
pub unsafe trait Element: Copy + Send + Sync + 'static {}
// SAFETY: plain numbers; any bits are a value.
unsafe impl Element for f32 {}
// SAFETY: as above.
unsafe impl Element for u32 {}
// SAFETY: as above.
unsafe impl Element for i32 {}
// SAFETY: as above.
unsafe impl Element for u8 {}
// SAFETY: as above.
unsafe impl Element for i8 {}
// SAFETY: a transparent `u16`.
unsafe impl Element for half::bf16 {}
// SAFETY: a transparent `u16`.
unsafe impl Element for half::f16 {}

/// Blocks that were freed, by size in bytes.
#[derive(Default)]
struct Cache {
    free: BTreeMap<usize, VecDeque<Block>>,
    cached_bytes: usize,
    live_bytes: usize,
    peak_bytes: usize,
    /// Blocks freed so far.
    frees: u64,
}

impl Cache {
    /// A block of this size, or where there is none and the size is a large one, the nearest up to twice as
    /// large: batches of ever new lengths find blocks of earlier ones. Gives its size too.
    fn take(&mut self, class: usize) -> Option<(usize, Block)> {
        let largest = if class >= LARGE { 2 * class } else { class };
        let (&found, blocks) = self.free.range_mut(class..=largest).next()?;
        let block = blocks.pop_back()?;
        if blocks.is_empty() {
            self.free.remove(&found);
        }
        self.cached_bytes -= found;
        Some((found, block))
    }

    /// What to give back to the system before a fresh block of this size comes, those first that have lain here the
    /// longest: batches of ever new lengths would leave blocks behind that nothing fits into. With batches of one
    /// length every block is used again, and nothing is given back.
    fn outdated(&mut self, class: usize) -> Vec<(usize, Block)> {
        let mut outdated = Vec::new();
        let allowed = self.peak_bytes + self.peak_bytes / SPARE;
        while class >= HUGE_PAGE && self.live_bytes + self.cached_bytes > allowed {
            let oldest = self.free.range_mut(HUGE_PAGE..).min_by_key(|(_, blocks)| blocks[0].freed);
            let Some((&found, blocks)) = oldest else { break };
            outdated.extend(blocks.pop_front().map(|block| (found, block)));
            if blocks.is_empty() {
                self.free.remove(&found);
            }
            self.cached_bytes -= found;
        }
        outdated
    }
}

/// The cache may hold one of so many parts more than was ever in use at once.
const SPARE: usize = 8;

struct Block {
    start: NonNull<u8>,
    /// How many blocks had been freed before it.
    freed: u64,
}
// SAFETY: a block in the cache is owned by the cache alone.
unsafe impl Send for Block {}

static CACHE: Mutex<Option<Cache>> = Mutex::new(None);

fn with_cache<R>(f: impl FnOnce(&mut Cache) -> R) -> R {
    f(CACHE.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_default())
}

/// From this size on, memory counts more than sharing a block with near sizes.
const LARGE: usize = 1 << 20;

/// Rounds up to one of four sizes an octave, so that near sizes share blocks and waste stays under
/// a quarter; large ones to one of 32, with a waste under a thirtieth.
fn size_class(bytes: usize) -> usize {
    let bytes = bytes.max(ALIGNMENT);
    let parts = if bytes >= LARGE { 64 } else { 8 };
    let step = (bytes.next_power_of_two() / parts).max(ALIGNMENT);
    bytes.next_multiple_of(step)
}

/// A huge page of x86-64 and of most arm64 systems. Buffers of at least this size are aligned to it and
/// ask for such pages: cheaper address translation, worth one or two per cent of a training step.
const HUGE_PAGE: usize = 2 << 20;

fn layout(class: usize) -> Layout {
    let alignment = if class >= HUGE_PAGE { HUGE_PAGE } else { ALIGNMENT };
    Layout::from_size_align(class, alignment).expect("a buffer's size fits in isize")
}

/// Blocks from this size up to a huge page share stretches of memory that are made of such pages: the
/// weights of a small model, read once a token, are mostly of these sizes.
const SHARED: usize = 128 << 10;
/// Such a stretch. Memory that no block has yet isn't touched, so it costs nothing.
const STRETCH: usize = 16 * HUGE_PAGE;

/// What is left of the stretch that was begun last.
struct Stretch {
    left: &'static mut [u8],
}

static STRETCH_LEFT: Mutex<Stretch> = Mutex::new(Stretch { left: &mut [] });

/// Whether a block is part of a stretch, which is never given back to the system.
fn is_shared(class: usize) -> bool {
    (SHARED..HUGE_PAGE).contains(&class)
}

/// A fresh block of zeros in a stretch; none if the system has no such memory to map.
fn from_stretch(class: usize) -> Option<NonNull<u8>> {
    let mut stretch = STRETCH_LEFT.lock().unwrap_or_else(PoisonError::into_inner);
    if stretch.left.len() < class {
        // Mapped memory is zero and costs nothing until it is touched.
        let all = Box::leak(Box::new(memmap2::MmapMut::map_anon(STRETCH + HUGE_PAGE).ok()?));
        let aligned = all.as_ptr().align_offset(HUGE_PAGE);
        stretch.left = all.get_mut(aligned..)?.get_mut(..STRETCH)?;
        advise_huge_pages(stretch.left.as_mut_ptr(), STRETCH);
    }
    let (block, left) = std::mem::take(&mut stretch.left).split_at_mut(class);
    stretch.left = left;
    NonNull::new(block.as_mut_ptr())
}

/// A fresh block of zeros.
fn fresh(class: usize) -> NonNull<u8> {
    if is_shared(class) {
        return from_stretch(class).unwrap_or_else(|| handle_alloc_error(layout(class)));
    }
    let layout = layout(class);
    let raw = if class >= HUGE_PAGE {
        // SAFETY: the layout's size isn't zero; a block that was got is written through its length.
        unsafe {
            let raw = alloc(layout);
            if !raw.is_null() {
                advise_huge_pages(raw, class);
                raw.write_bytes(0, class);
            }
            raw
        }
    } else {
        // SAFETY: the layout's size is at least `ALIGNMENT`, never zero.
        unsafe { alloc_zeroed(layout) }
    };
    NonNull::new(raw).unwrap_or_else(|| handle_alloc_error(layout))
}

/// Before the pages are touched; a system that has none or won't give them is as good as before.
#[cfg(target_os = "linux")]
fn advise_huge_pages(start: *mut u8, len: usize) {
    // SAFETY: the range is one block that this process allocated; advice changes no contents.
    unsafe { libc::madvise(start.cast(), len, libc::MADV_HUGEPAGE) };
}

#[cfg(not(target_os = "linux"))]
fn advise_huge_pages(_: *mut u8, _: usize) {}

/// An aligned block of `len` values of `T`, returned to the cache on drop.
pub struct Buffer<T: Element> {
    ptr: NonNull<T>,
    len: usize,
    /// Bytes of the block, which may have room for more.
    class: usize,
    marker: PhantomData<T>,
}

// SAFETY: a buffer owns its block as a `Vec` does.
unsafe impl<T: Element> Send for Buffer<T> {}
// SAFETY: as above.
unsafe impl<T: Element> Sync for Buffer<T> {}

impl<T: Element> Buffer<T> {
    /// A buffer whose contents are unspecified (left from an earlier use, or zero).
    pub fn scratch(len: usize) -> Self {
        let bytes = len.checked_mul(size_of::<T>()).expect("a buffer's size fits in usize");
        let class = size_class(bytes);
        let (cached, outdated) = with_cache(|cache| {
            let found = cache.take(class);
            cache.live_bytes += found.as_ref().map_or(class, |(class, _)| *class);
            cache.peak_bytes = cache.peak_bytes.max(cache.live_bytes);
            let outdated = if found.is_none() { cache.outdated(class) } else { Vec::new() };
            (found, outdated)
        });
        give_back(outdated);
        let (class, ptr) =
            cached.map_or_else(|| (class, fresh(class)), |(class, block)| (class, block.start));
        Buffer { ptr: ptr.cast(), len, class, marker: PhantomData }
    }

    /// A buffer of zero bits.
    pub fn zeros(len: usize) -> Self {
        let buffer = Self::scratch(len);
        // SAFETY: the block holds `len` values, and zero bits are a value of any `Element`.
        unsafe { buffer.ptr.as_ptr().write_bytes(0, buffer.len) };
        buffer
    }

    /// A copy of `values`.
    pub fn from_slice(values: &[T]) -> Self {
        let mut buffer = Self::scratch(values.len());
        buffer.copy_from_slice(values);
        buffer
    }
}

impl<T: Element> Drop for Buffer<T> {
    fn drop(&mut self) {
        let class = self.class;
        let start = self.ptr.cast();
        with_cache(|cache| {
            cache.live_bytes -= class;
            cache.cached_bytes += class;
            cache.free.entry(class).or_default().push_back(Block { start, freed: cache.frees });
            cache.frees += 1;
        });
    }
}

impl<T: Element> Deref for Buffer<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        // SAFETY: the block holds `len` initialised values, owned by `self`.
        unsafe { std::slice::from_raw_parts(self.ptr.as_ptr(), self.len) }
    }
}

impl<T: Element> DerefMut for Buffer<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `deref`, borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.ptr.as_ptr(), self.len) }
    }
}

impl<T: Element> Clone for Buffer<T> {
    fn clone(&self) -> Self {
        Self::from_slice(self)
    }
}

impl<T: Element + fmt::Debug> fmt::Debug for Buffer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter().take(16)).finish()
    }
}

/// Gives blocks that share no stretch of memory back to the system.
fn give_back(blocks: Vec<(usize, Block)>) {
    for (class, block) in blocks {
        // SAFETY: the block came from `fresh` with this layout and nobody else has it.
        unsafe { dealloc(block.start.as_ptr(), layout(class)) };
    }
}

/// Bytes in use now, and the most ever in use at once.
pub fn memory_in_use() -> (usize, usize) {
    with_cache(|cache| (cache.live_bytes, cache.peak_bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_freed_block_is_reused_and_zeros_are_zero() {
        // A size that no other test uses, so that the block can only be this one.
        let mut first = Buffer::<f32>::scratch(123_457);
        first.fill(7.0);
        let address = first.as_ptr();
        drop(first);
        let second = Buffer::<f32>::zeros(123_456);
        assert_eq!(second.as_ptr(), address);
        assert_eq!(address as usize % ALIGNMENT, 0);
        assert!(second.iter().all(|&x| x == 0.0));
    }

    #[test]
    fn the_blocks_given_back_are_those_unused_the_longest() {
        let mut cache = Cache { peak_bytes: 64 * HUGE_PAGE, ..Cache::default() };
        // Pages of each block in the order of being freed.
        for (freed, pages) in [16, 8, 32, 8].into_iter().enumerate() {
            let block = Block { start: NonNull::dangling(), freed: freed as u64 };
            cache.free.entry(pages * HUGE_PAGE).or_default().push_back(block);
            cache.cached_bytes += pages * HUGE_PAGE;
        }
        // 64 pages are allowed, and one of eight parts more.
        let mut given_back = |live: usize| -> Vec<usize> {
            cache.live_bytes = live * HUGE_PAGE;
            cache.outdated(HUGE_PAGE).into_iter().map(|(class, _)| class / HUGE_PAGE).collect()
        };
        assert_eq!(given_back(8), [0; 0]);
        assert_eq!(given_back(9), [16]);
        assert_eq!(given_back(40), [8, 32]);
        assert_eq!(cache.cached_bytes, 8 * HUGE_PAGE);
        cache.live_bytes = 80 * HUGE_PAGE;
        assert!(cache.outdated(HUGE_PAGE - 1).is_empty(), "small blocks don't ask for room");
    }

    #[test]
    fn size_classes_waste_less_than_a_quarter() {
        for bytes in (1..100_000).step_by(37) {
            let class = size_class(bytes);
            assert!(class >= bytes && (bytes < 512 || class * 3 <= bytes * 4), "{bytes} -> {class}");
        }
        for bytes in (LARGE..100 * LARGE).step_by(123_457) {
            let class = size_class(bytes);
            assert!(class >= bytes && class * 31 <= bytes * 32, "{bytes} -> {class}");
        }
    }
}
