//! Tiles with AVX-512 and its dot products of bytes (VNNI): sixteen outputs are the lanes of a vector, up
//! to twelve rows of x share each vector of codes.

use super::{BYTES, Codes, GROUP, NESTED, PANEL, Panel, Place, RowTile, Shape, block_bytes, by_shape};
use half::f16;
use std::arch::x86_64::*;

/// Three groups of four rows: 24 of 32 registers accumulate.
pub(super) const MOST_ROWS: usize = 12;
/// Codes in a vector.
const VECTOR: usize = PANEL * GROUP;
/// Where planes of bits begin in a block.
const PLANES: usize = 4 * VECTOR;

/// Whether the processor has the instructions.
pub(super) fn available() -> bool {
    is_x86_feature_detected!("avx512bw") && is_x86_feature_detected!("avx512vnni")
}

/// Multiplies a tile.
///
/// # Safety
/// `place` must be valid for the tile's rows and `place.cols <= PANEL` columns, the panel's lengths must
/// have been checked, and the processor must have AVX-512F, BW and VNNI.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
pub(super) unsafe fn run(panel: &Panel, tile: &RowTile, place: &Place) {
    assert_eq!(panel.blocks, tile.blocks);
    // SAFETY: passed on from the caller.
    unsafe {
        match (tile.groups, tile.width) {
            (3, 4) => by_shape!(multiply, panel.shape, [3, 4,], (panel, tile, place)),
            (2, 4) => by_shape!(multiply, panel.shape, [2, 4,], (panel, tile, place)),
            (1, 4) => by_shape!(multiply, panel.shape, [1, 4,], (panel, tile, place)),
            (1, 2) => by_shape!(multiply, panel.shape, [1, 2,], (panel, tile, place)),
            (1, 1) => by_shape!(multiply, panel.shape, [1, 1,], (panel, tile, place)),
            other => unreachable!("tiles have one to three groups of 4, or one of 2 or 1; got {other:?}"),
        }
    }
}

/// `Q` groups of `W` rows.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn multiply<
    const Q: usize,
    const W: usize,
    const CODES: usize,
    const SHIFT: u32,
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
        let blocks = panel.blocks;
        let mut sums = [[_mm512_setzero_ps(); W]; Q];
        let (mut d, mut dmin) = (_mm512_setzero_ps(), _mm512_setzero_ps());
        for block in 0..blocks {
            if !NEST || block % NESTED == 0 {
                let at = if NEST { block / NESTED } else { block } * PANEL;
                d = widen(panel.d.as_ptr().add(at));
                if MINS {
                    dmin = widen(panel.dmin.as_ptr().add(at));
                }
            }
            let codes = panel.codes.as_ptr().add(block * block_bytes(CODES));
            let x = |q: usize, g: usize| tile.codes.as_ptr().add(((q * blocks + block) * 8 + g) * W * GROUP);
            let scales = |q: usize| tile.scales.as_ptr().add((q * blocks + block) * W);
            if FINE {
                for part in 0..2 {
                    let row = |q: usize| ((q * blocks + block) * 2 + part) * W;
                    let mut dots = [[_mm512_setzero_si512(); W]; Q];
                    if SHIFT > 0 {
                        start::<Q, W, SHIFT>(&mut dots, |q| tile.half_sums.as_ptr().add(row(q)));
                    }
                    for j in 0..4 {
                        let w = if part == 0 { low::<CODES>(codes, j) } else { high::<CODES>(codes, j) };
                        add_dots(&mut dots, w, |q| x(q, part * 4 + j));
                    }
                    let at = (block * 2 + part) * PANEL;
                    let (scale, min) = nested_scales::<MINS>(panel, at, d, dmin);
                    absorb(&mut sums, dots, scale, scales);
                    if MINS {
                        add_mins(&mut sums, min, |q| tile.half_totals.as_ptr().add(row(q)));
                    }
                }
            } else {
                let row = |q: usize| (q * blocks + block) * W;
                let mut dots = [[_mm512_setzero_si512(); W]; Q];
                if SHIFT > 0 {
                    start::<Q, W, SHIFT>(&mut dots, |q| tile.sums.as_ptr().add(row(q)));
                }
                for j in 0..4 {
                    add_dots(&mut dots, low::<CODES>(codes, j), |q| x(q, j));
                    add_dots(&mut dots, high::<CODES>(codes, j), |q| x(q, 4 + j));
                }
                let (scale, min) =
                    if NEST { nested_scales::<MINS>(panel, block * PANEL, d, dmin) } else { (d, dmin) };
                absorb(&mut sums, dots, scale, scales);
                if MINS {
                    add_mins(&mut sums, min, |q| tile.totals.as_ptr().add(row(q)));
                }
            }
        }
        let mask = ((1u32 << place.cols) - 1) as __mmask16;
        let bias = place.bias.map(|b| _mm512_maskz_loadu_ps(mask, b.as_ptr()));
        for (q, group) in sums.into_iter().enumerate() {
            for (r, sum) in group.into_iter().enumerate() {
                let sum = bias.map_or(sum, |bias| _mm512_add_ps(sum, bias));
                _mm512_mask_storeu_ps(place.out.add((q * W + r) * place.stride), mask, sum);
            }
        }
    }
}

/// Sixteen half-precision values.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn widen(p: *const f16) -> __m512 {
    // SAFETY: the caller vouches for sixteen values.
    unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(p.cast())) }
}

/// Scales and minima of a block, or a half of one, from the small integers.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn nested_scales<const MINS: bool>(
    panel: &Panel,
    at: usize,
    d: __m512,
    dmin: __m512,
) -> (__m512, __m512) {
    // SAFETY: the caller vouches for sixteen entries from `at` on.
    unsafe {
        let scales = _mm512_cvtepi8_epi32(_mm_loadu_si128(panel.scales.as_ptr().add(at).cast()));
        let scale = _mm512_mul_ps(d, _mm512_cvtepi32_ps(scales));
        if !MINS {
            return (scale, dmin);
        }
        let mins = _mm512_cvtepu8_epi32(_mm_loadu_si128(panel.mins.as_ptr().add(at).cast()));
        (scale, _mm512_mul_ps(dmin, _mm512_cvtepi32_ps(mins)))
    }
}

/// The codes of group `j` of a block.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn low<const CODES: usize>(codes: *const u8, j: usize) -> __m512i {
    // SAFETY: the caller vouches for a block.
    unsafe {
        let v = _mm512_loadu_si512(codes.add(j * VECTOR).cast());
        if CODES == BYTES {
            return v;
        }
        with_planes::<CODES>(codes, j, _mm512_and_si512(v, _mm512_set1_epi8(15)))
    }
}

/// The codes of group `j + 4`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn high<const CODES: usize>(codes: *const u8, j: usize) -> __m512i {
    // SAFETY: the caller vouches for a block.
    unsafe {
        if CODES == BYTES {
            return _mm512_loadu_si512(codes.add((4 + j) * VECTOR).cast());
        }
        let v = _mm512_loadu_si512(codes.add(j * VECTOR).cast());
        let v = _mm512_and_si512(_mm512_srli_epi16::<4>(v), _mm512_set1_epi8(15));
        with_planes::<CODES>(codes, 4 + j, v)
    }
}

/// Adds the fifth bit, and the sixth: a plane's 64 bits are a mask of bytes.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn with_planes<const CODES: usize>(codes: *const u8, g: usize, mut v: __m512i) -> __m512i {
    // SAFETY: the caller vouches for a block, which has `CODES` planes of 64 bytes.
    unsafe {
        if CODES >= 1 {
            let mask = codes.add(PLANES + g * 8).cast::<u64>().read_unaligned();
            v = _mm512_mask_add_epi8(v, mask, v, _mm512_set1_epi8(16));
        }
        if CODES >= 2 {
            let mask = codes.add(PLANES + 64 + g * 8).cast::<u64>().read_unaligned();
            v = _mm512_mask_add_epi8(v, mask, v, _mm512_set1_epi8(32));
        }
        v
    }
}

/// Begins with what the codes' offset takes away: the negated sums of x, times a power of two.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn start<const Q: usize, const W: usize, const SHIFT: u32>(
    dots: &mut [[__m512i; W]; Q],
    sums: impl Fn(usize) -> *const i32,
) {
    for (q, group) in dots.iter_mut().enumerate() {
        for (r, dot) in group.iter_mut().enumerate() {
            // SAFETY: the caller vouches for `W` sums a group.
            *dot = _mm512_slli_epi32::<SHIFT>(_mm512_set1_epi32(unsafe { *sums(q).add(r) }));
        }
    }
}

/// Adds the products of four inputs of each row.
#[inline]
#[target_feature(enable = "avx512f,avx512vnni")]
unsafe fn add_dots<const Q: usize, const W: usize>(
    dots: &mut [[__m512i; W]; Q],
    w: __m512i,
    x: impl Fn(usize) -> *const i8,
) {
    for (q, group) in dots.iter_mut().enumerate() {
        for (r, dot) in group.iter_mut().enumerate() {
            // SAFETY: the caller vouches for `W` times four codes a group.
            let four = unsafe { x(q).add(r * GROUP).cast::<i32>().read_unaligned() };
            *dot = _mm512_dpbusd_epi32(*dot, w, _mm512_set1_epi32(four));
        }
    }
}

/// `sum += dot · (scale of W · scale of x)`
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn absorb<const Q: usize, const W: usize>(
    sums: &mut [[__m512; W]; Q],
    dots: [[__m512i; W]; Q],
    scale: __m512,
    scales: impl Fn(usize) -> *const f32,
) {
    for (q, (sums, dots)) in sums.iter_mut().zip(dots).enumerate() {
        for (r, (sum, dot)) in sums.iter_mut().zip(dots).enumerate() {
            // SAFETY: the caller vouches for `W` scales a group.
            let both = _mm512_mul_ps(scale, _mm512_set1_ps(unsafe { *scales(q).add(r) }));
            *sum = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot), both, *sum);
        }
    }
}

/// `sum += min · total of x`
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn add_mins<const Q: usize, const W: usize>(
    sums: &mut [[__m512; W]; Q],
    min: __m512,
    totals: impl Fn(usize) -> *const f32,
) {
    for (q, sums) in sums.iter_mut().enumerate() {
        for (r, sum) in sums.iter_mut().enumerate() {
            // SAFETY: the caller vouches for `W` totals a group.
            *sum = _mm512_fmadd_ps(min, _mm512_set1_ps(unsafe { *totals(q).add(r) }), *sum);
        }
    }
}
