//! Where a block's bits lie.
//!
//! Integers of an odd width are stored in planes, say the low four bits of all and the fifth of all.
//! A plane is groups of `run` bytes. A group holds `8 / width` runs of values: the first run in the
//! lowest `width` bits of its bytes, the next run in the bits above, and so on. So Q4_K's plane has
//! 4 bits and runs of 32: values 0..32 are the low nibbles of the first 32 bytes, values 32..64 the
//! high ones.

use super::BlockType;

/// Some bits of every integer of a block.
#[derive(Clone, Copy)]
pub(super) struct Plane {
    /// The plane's first byte in the block.
    pub at: usize,
    /// Bytes in a group, which are also the values in a run.
    pub run: usize,
    /// Bits of each integer that lie in this plane.
    pub width: u32,
    /// How far up in the integer they belong.
    pub shift: u32,
}

const fn plane(at: usize, run: usize, width: u32, shift: u32) -> Plane {
    Plane { at, run, width, shift }
}

/// The sixteen 6-bit scales of Q3_K, within their twelve bytes.
pub(super) const Q3K_SCALES: [Plane; 2] = [plane(0, 8, 4, 0), plane(8, 4, 2, 4)];

/// The planes of a format's integers; none for the plain formats.
pub(super) const fn planes(kind: BlockType) -> &'static [Plane] {
    match kind {
        BlockType::F32 | BlockType::F16 | BlockType::Bf16 => &[],
        BlockType::Q4_0 | BlockType::Iq4Nl => &const { [plane(2, 16, 4, 0)] },
        BlockType::Q4_1 => &const { [plane(4, 16, 4, 0)] },
        BlockType::Q5_0 => &const { [plane(6, 16, 4, 0), plane(2, 1, 1, 4)] },
        BlockType::Q5_1 => &const { [plane(8, 16, 4, 0), plane(4, 1, 1, 4)] },
        BlockType::Q8_0 => &const { [plane(2, 32, 8, 0)] },
        BlockType::Q2K => &const { [plane(16, 32, 2, 0)] },
        BlockType::Q3K => &const { [plane(32, 32, 2, 0), plane(0, 32, 1, 2)] },
        BlockType::Q4K => &const { [plane(16, 32, 4, 0)] },
        BlockType::Q5K => &const { [plane(48, 32, 4, 0), plane(16, 32, 1, 4)] },
        BlockType::Q6K => &const { [plane(0, 64, 4, 0), plane(128, 32, 2, 4)] },
    }
}

/// Where a format keeps its half-precision numbers: `d`, and `dmin` or `m` if it has one.
pub(super) const fn halves(kind: BlockType) -> &'static [usize] {
    match kind {
        BlockType::F32 | BlockType::F16 | BlockType::Bf16 => &[],
        BlockType::Q4_0 | BlockType::Q5_0 | BlockType::Q8_0 | BlockType::Iq4Nl => &[0],
        BlockType::Q4_1 | BlockType::Q5_1 | BlockType::Q4K | BlockType::Q5K => &[0, 2],
        BlockType::Q2K => &[80, 82],
        BlockType::Q3K => &[108],
        BlockType::Q6K => &[208],
    }
}

impl Plane {
    /// Bits of a byte that belong to one value.
    const fn mask(self) -> u8 {
        (0xff_u32 >> (8 - self.width)) as u8
    }

    /// Bytes of the plane if there are `values` values.
    const fn bytes(self, values: usize) -> usize {
        values * self.width as usize / 8
    }

    /// Adds this plane's bits of `block` to `q`, where they must still be zero.
    #[inline(always)]
    pub(super) fn read(self, block: &[u8], q: &mut [u8]) {
        let bytes = &block[self.at..][..self.bytes(q.len())];
        if (self.run, self.width) == (1, 1) {
            // The same as below with the loops the other way round: runs of one are slow.
            for (byte, q) in bytes.iter().zip(q.as_chunks_mut::<8>().0) {
                *q = std::array::from_fn(|place| q[place] | (byte >> place & 1) << self.shift);
            }
            return;
        }
        let group = self.run * 8 / self.width as usize;
        for (bytes, q) in bytes.chunks_exact(self.run).zip(q.chunks_exact_mut(group)) {
            for (place, q) in q.chunks_exact_mut(self.run).enumerate() {
                let down = place as u32 * self.width;
                for (q, byte) in q.iter_mut().zip(bytes) {
                    *q |= ((byte >> down) & self.mask()) << self.shift;
                }
            }
        }
    }

    /// Adds this plane's bits of `q` to `block`, where they must still be zero.
    #[inline(always)]
    pub(super) fn write(self, q: &[u8], block: &mut [u8]) {
        let bytes = &mut block[self.at..][..self.bytes(q.len())];
        let group = self.run * 8 / self.width as usize;
        for (bytes, q) in bytes.chunks_exact_mut(self.run).zip(q.chunks_exact(group)) {
            for (place, q) in q.chunks_exact(self.run).enumerate() {
                let up = place as u32 * self.width;
                for (q, byte) in q.iter().zip(bytes.iter_mut()) {
                    *byte |= ((q >> self.shift) & self.mask()) << up;
                }
            }
        }
    }
}
