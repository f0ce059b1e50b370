//! Tiles with AVX2: a panel's sixteen outputs are two vectors of eight lanes, and up to four rows of x
//! share each vector of codes.
//!
//! `maddubs` adds two products of an unsigned and a signed byte in 16 bits and saturates; codes of up to
//! six bits stay far below. Bytes are multiplied as magnitudes by x with their signs: at most 2·128·127.

use super::{BLOCK, BYTES, Codes, GROUP, NESTED, PANEL, Panel, Place, RowTile, Shape, block_bytes, by_shape};
use half::f16;
use std::arch::x86_64::*;

/// Codes in both vectors of a group.
const VECTOR: usize = PANEL * GROUP;
/// Where planes of bits begin in a block.
const PLANES: usize = 4 * VECTOR;
/// Lanes of a vector.
const LANES: usize = PANEL / 2;

/// Multiplies a tile.
///
/// # Safety
/// `place` must be valid for the tile's rows and `place.cols <= PANEL` columns, the panel's lengths must
/// have been checked, and the processor must have AVX2, FMA and F16C.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn run(panel: &Panel, tile: &RowTile, place: &Place) {
    assert_eq!(panel.blocks, tile.blocks);
    // SAFETY: passed on from the caller.
    unsafe {
        match (tile.groups, tile.width) {
            (1, 4) => by_shape!(multiply, panel.shape, [4, 1,], (panel, tile, place)),
            (1, 2) => by_shape!(multiply, panel.shape, [2, 2,], (panel, tile, place)),
            (1, 1) => by_shape!(multiply, panel.shape, [1, 2,], (panel, tile, place)),
            other => unreachable!("tiles have one group of 4, 2 or 1 rows; got {other:?}"),
        }
    }
}

/// `W` rows and `H` halves of the panel at a time.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn multiply<
    const W: usize,
    const H: usize,
    const CODES: usize,
    const SHIFT: i32,
    const FINE: bool,
    const NEST: bool,
    const MINS: bool,
>(
    panel: &Panel,
    tile: &RowTile,
    place: &Place,
) {
    // SAFETY: the panel's lengths are checked, the tile's follow from its blocks, and the caller vouches for
    // the place.
    unsafe {
        let parts = if FINE { 2 } else { 1 };
        // Sums of four rows and one half of the outputs stay in registers, of both halves they wouldn't; of fewer rows
        // they do, and the codes are read once.
        let passes = 2 / H;
        // The compiler mustn't know this number where there are many sums: it would unroll the loops over groups, take
        // the sums apart, and keep what it can't in memory.
        let groups = if W == 4 { std::hint::black_box(BLOCK / GROUP) } else { BLOCK / GROUP };
        for pass in 0..passes {
            let mut sums = [[_mm256_setzero_ps(); W]; H];
            for block in 0..panel.blocks {
                let codes = panel.codes.as_ptr().add(block * block_bytes(CODES));
                let x = tile.codes.as_ptr().add(block * 8 * W * GROUP);
                let x_scales = tile.scales.as_ptr().add(block * W);
                let d_at = if NEST { block / NESTED } else { block } * PANEL;
                for (i, sums) in sums.iter_mut().enumerate() {
                    let half = pass * H + i;
                    let d = widen(panel.d.as_ptr().add(d_at + half * LANES));
                    let dmin = match MINS {
                        true => widen(panel.dmin.as_ptr().add(d_at + half * LANES)),
                        false => _mm256_setzero_ps(),
                    };
                    for part in 0..parts {
                        let mut dots = [_mm256_setzero_si256(); W];
                        if FINE {
                            add_half::<W, CODES>(&mut dots, codes, x, half, part);
                        } else {
                            add_block::<W, CODES>(&mut dots, codes, x, half, groups);
                        }
                        let (sums_of_x, totals) = match FINE {
                            true => (&tile.half_sums, &tile.half_totals),
                            false => (&tile.sums, &tile.totals),
                        };
                        let row = (block * parts + part) * W;
                        let (scale, min) = match NEST {
                            true => {
                                let at = (block * parts + part) * PANEL + half * LANES;
                                let scale = _mm256_mul_ps(d, small_signed(panel.scales.as_ptr().add(at)));
                                let min = match MINS {
                                    true => _mm256_mul_ps(dmin, small(panel.mins.as_ptr().add(at))),
                                    false => dmin,
                                };
                                (scale, min)
                            }
                            false => (d, dmin),
                        };
                        for (r, (sum, mut dot)) in sums.iter_mut().zip(dots).enumerate() {
                            // Bytes were multiplied with their signs: no offset is left.
                            if SHIFT > 0 && CODES != BYTES {
                                let sum = _mm256_set1_epi32(*sums_of_x.as_ptr().add(row + r));
                                dot = _mm256_add_epi32(dot, _mm256_slli_epi32::<SHIFT>(sum));
                            }
                            let both = _mm256_mul_ps(scale, _mm256_set1_ps(*x_scales.add(r)));
                            *sum = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot), both, *sum);
                            if MINS {
                                let total = _mm256_set1_ps(*totals.as_ptr().add(row + r));
                                *sum = _mm256_fmadd_ps(min, total, *sum);
                            }
                        }
                    }
                }
            }
            for (i, sums) in sums.into_iter().enumerate() {
                let first = (pass * H + i) * LANES;
                let cols = place.cols.saturating_sub(first).min(LANES);
                for (r, sum) in sums.into_iter().enumerate() {
                    let mut lanes = [0f32; LANES];
                    _mm256_storeu_ps(lanes.as_mut_ptr(), sum);
                    for (i, value) in lanes[..cols].iter().enumerate() {
                        let value = place.bias.map_or(*value, |bias| value + bias[first + i]);
                        *place.out.add(r * place.stride + first + i) = value;
                    }
                }
            }
        }
    }
}

/// Eight half-precision values.
#[inline]
#[target_feature(enable = "avx2,f16c")]
unsafe fn widen(p: *const f16) -> __m256 {
    // SAFETY: the caller vouches for eight values.
    unsafe { _mm256_cvtph_ps(_mm_loadu_si128(p.cast())) }
}

#[inline]
#[target_feature(enable = "avx2")]
unsafe fn small_signed(p: *const i8) -> __m256 {
    // SAFETY: the caller vouches for eight values.
    unsafe { _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(p.cast()))) }
}

#[inline]
#[target_feature(enable = "avx2")]
unsafe fn small(p: *const u8) -> __m256 {
    // SAFETY: the caller vouches for eight values.
    unsafe { _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(p.cast()))) }
}

/// Four inputs of row `r`, in every lane.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn four<const W: usize>(x: *const i8, g: usize, r: usize) -> __m256i {
    // SAFETY: the caller vouches for a block of `W` rows.
    unsafe { _mm256_set1_epi32(x.add((g * W + r) * GROUP).cast::<i32>().read_unaligned()) }
}

/// Adds a block's products for one half of the outputs.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn add_block<const W: usize, const CODES: usize>(
    dots: &mut [__m256i; W],
    codes: *const u8,
    x: *const i8,
    half: usize,
    groups: usize,
) {
    // SAFETY: the caller vouches for a block of codes and of `W` rows.
    unsafe {
        if CODES == BYTES {
            return add_bytes(dots, codes, x, half, groups);
        }
        let ones = _mm256_set1_epi16(1);
        // Sums of 16 bits hold eight products of pairs of nibbles, but only two of six bits.
        let mut pairs = [_mm256_setzero_si256(); W];
        for j in 0..groups / 2 {
            let low = nibbles::<CODES>(codes, half, j, false);
            let high = nibbles::<CODES>(codes, half, j, true);
            for (r, pairs) in pairs.iter_mut().enumerate() {
                let a = _mm256_maddubs_epi16(low, four::<W>(x, j, r));
                let b = _mm256_maddubs_epi16(high, four::<W>(x, 4 + j, r));
                *pairs = _mm256_add_epi16(*pairs, _mm256_add_epi16(a, b));
            }
            if CODES > 0 {
                for (dot, pairs) in dots.iter_mut().zip(&mut pairs) {
                    *dot = _mm256_add_epi32(*dot, _mm256_madd_epi16(*pairs, ones));
                    *pairs = _mm256_setzero_si256();
                }
            }
        }
        if CODES == 0 {
            for (dot, pairs) in dots.iter_mut().zip(pairs) {
                *dot = _mm256_madd_epi16(pairs, ones);
            }
        }
    }
}

/// Adds the products of half a block's inputs, for one half of the outputs.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn add_half<const W: usize, const CODES: usize>(
    dots: &mut [__m256i; W],
    codes: *const u8,
    x: *const i8,
    half: usize,
    part: usize,
) {
    // SAFETY: the caller vouches for a block of codes and of `W` rows.
    unsafe {
        let ones = _mm256_set1_epi16(1);
        for g in (part * 4..part * 4 + 4).step_by(2) {
            let one = nibbles::<CODES>(codes, half, g % 4, part == 1);
            let two = nibbles::<CODES>(codes, half, g % 4 + 1, part == 1);
            for (r, dot) in dots.iter_mut().enumerate() {
                let a = _mm256_maddubs_epi16(one, four::<W>(x, g, r));
                let b = _mm256_maddubs_epi16(two, four::<W>(x, g + 1, r));
                *dot = _mm256_add_epi32(*dot, _mm256_madd_epi16(_mm256_add_epi16(a, b), ones));
            }
        }
    }
}

/// Adds a block's products of signed bytes for one half of the outputs.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn add_bytes<const W: usize>(
    dots: &mut [__m256i; W],
    codes: *const u8,
    x: *const i8,
    half: usize,
    groups: usize,
) {
    // SAFETY: the caller vouches for a block of codes and of `W` rows.
    unsafe {
        let (flip, ones) = (_mm256_set1_epi8(-128), _mm256_set1_epi16(1));
        for g in 0..groups {
            let raw = _mm256_loadu_si256(codes.add(g * VECTOR + half * VECTOR / 2).cast());
            let w = _mm256_xor_si256(raw, flip);
            let magnitude = _mm256_abs_epi8(w);
            for (r, dot) in dots.iter_mut().enumerate() {
                let signed = _mm256_sign_epi8(four::<W>(x, g, r), w);
                let pairs = _mm256_maddubs_epi16(magnitude, signed);
                *dot = _mm256_add_epi32(*dot, _mm256_madd_epi16(pairs, ones));
            }
        }
    }
}

/// The codes of group `j`, or of group `j + 4`, which lie above them, for one half of the outputs.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn nibbles<const CODES: usize>(codes: *const u8, half: usize, j: usize, above: bool) -> __m256i {
    // SAFETY: the caller vouches for a block.
    unsafe {
        let mut v = _mm256_loadu_si256(codes.add(j * VECTOR + half * VECTOR / 2).cast());
        let mut bits_at = PLANES + j * 8 + half * 4;
        if above {
            v = _mm256_srli_epi16::<4>(v);
            bits_at += 32;
        }
        v = _mm256_and_si256(v, _mm256_set1_epi8(15));
        for plane in 0..CODES {
            let bits = codes.add(bits_at + plane * 64).cast::<i32>().read_unaligned();
            v = _mm256_or_si256(v, _mm256_and_si256(spread(bits), _mm256_set1_epi8(16 << plane)));
        }
        v
    }
}

/// A byte of ones for each bit that is set.
#[inline]
#[target_feature(enable = "avx2")]
fn spread(bits: i32) -> __m256i {
    let byte_of = _mm256_setr_epi64x(0, 0x0101_0101_0101_0101, 0x0202_0202_0202_0202, 0x0303_0303_0303_0303);
    let bit = _mm256_set1_epi64x(0x8040_2010_0804_0201_u64 as i64);
    let bytes = _mm256_shuffle_epi8(_mm256_set1_epi32(bits), byte_of);
    _mm256_cmpeq_epi8(_mm256_and_si256(bytes, bit), bit)
}
