//! From blocks back to values: the reference for every product with quantised weights.

use super::layout::halves;
use super::{BlockType, SubBlocks};
use crate::arch::simd_fn;
use crate::pool::parallel_chunks_mut;
use crate::split::TASK;
use half::{bf16, f16};

/// The values of a run of blocks, bit for bit what ggml's reference gives.
///
/// Steps that are infinite or NaN give values that are; see [`first_not_finite`].
///
/// # Panics
/// If `bytes` isn't what `out.len()` values take, or these aren't whole blocks.
pub fn dequantize(kind: BlockType, bytes: &[u8], out: &mut [f32]) {
    assert_eq!(Some(bytes.len()), kind.bytes_for(out.len()), "bytes for {} values of {kind}", out.len());
    // A whole number of blocks of any format.
    parallel_chunks_mut(out, TASK, |i, out| {
        let at = |values: usize| values / kind.block_len() * kind.block_bytes();
        dequantize_run(kind, &bytes[at(i * TASK)..][..at(out.len())], out);
    });
}

simd_fn! {
    fn dequantize_run(_s, kind: BlockType, bytes: &[u8], out: &mut [f32]) {
        match kind {
            BlockType::F32 => widen(bytes, out, f32::from_le_bytes),
            BlockType::F16 => widen(bytes, out, |b| f16::from_le_bytes(b).to_f32()),
            BlockType::Bf16 => widen(bytes, out, |b| bf16::from_le_bytes(b).to_f32()),
            _ => {
                let mut block = SubBlocks::default();
                let blocks = bytes.chunks_exact(kind.block_bytes());
                for (bytes, out) in blocks.zip(out.chunks_exact_mut(kind.block_len())) {
                    block.decode(kind, bytes);
                    block.multiply_out(kind.sub_len(), out);
                }
            }
        }
    }
}

fn widen<const N: usize>(bytes: &[u8], out: &mut [f32], value: impl Fn([u8; N]) -> f32) {
    for (&bytes, out) in bytes.as_chunks().0.iter().zip(out) {
        *out = value(bytes);
    }
}

/// The first block whose steps or values are infinite or NaN, as only a damaged file or a failed
/// quantisation has them.
///
/// # Panics
/// If `bytes` isn't whole blocks.
pub fn first_not_finite(kind: BlockType, bytes: &[u8]) -> Option<usize> {
    assert!(bytes.len().is_multiple_of(kind.block_bytes()), "{} bytes aren't blocks of {kind}", bytes.len());
    let half = |block: &[u8], at: usize| f16::from_le_bytes([block[at], block[at + 1]]).is_finite();
    bytes.chunks_exact(kind.block_bytes()).position(|block| match kind {
        BlockType::F32 => !f32::from_le_bytes([block[0], block[1], block[2], block[3]]).is_finite(),
        BlockType::F16 => !half(block, 0),
        BlockType::Bf16 => !bf16::from_le_bytes([block[0], block[1]]).is_finite(),
        _ => !halves(kind).iter().all(|&at| half(block, at)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_is_whole_blocks() {
        assert!(BlockType::ALL.iter().all(|kind| TASK.is_multiple_of(kind.block_len())));
    }
}
