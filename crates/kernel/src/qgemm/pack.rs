//! Weights in panels of sixteen outputs, at the width that their file has.
//!
//! A panel's codes come a block of 32 inputs at a time. Of a block, group g holds inputs 4g..4g+4 of all
//! sixteen outputs, output by output, 64 codes in all: the lanes of one 512-bit vector, or two of 256 bits.
//! As bytes the eight groups follow each other; as nibbles, byte i of the j-th 64 bytes holds a code of
//! group j below and one of group j+4 above, and a plane has one more bit for each code, group by group.

use super::{BLOCK, Codes, GROUP, NESTED, PANEL, Panel, Shape};
use crate::buffer::Buffer;
use crate::pool::{Shards, parallel_for};
use crate::quant::{BlockType, SubBlocks};
use half::f16;

/// A matrix W [outputs, inputs] of a block format, ready for [`quant_linear`](super::quant_linear).
#[derive(Debug)]
pub struct QuantMatrix {
    shape: Shape,
    outputs: usize,
    inputs: usize,
    codes: Buffer<u8>,
    d: Buffer<f16>,
    dmin: Buffer<f16>,
    scales: Buffer<i8>,
    mins: Buffer<u8>,
}

/// The shape of a block format; none for the formats that aren't multiplied as integers.
fn shape_of(kind: BlockType) -> Option<Shape> {
    let nibbles = |planes| Codes::Nibbles { planes };
    let legacy = |codes, shift, mins| Shape { codes, shift, fine: false, nested: false, mins };
    let nested = |codes, shift, fine, mins| Shape { codes, shift, fine, nested: true, mins };
    Some(match kind {
        BlockType::F32 | BlockType::F16 | BlockType::Bf16 => return None,
        BlockType::Q4_0 => legacy(nibbles(0), Some(3), false),
        BlockType::Q4_1 => legacy(nibbles(0), None, true),
        BlockType::Q5_0 => legacy(nibbles(1), Some(4), false),
        BlockType::Q5_1 => legacy(nibbles(1), None, true),
        BlockType::Q8_0 | BlockType::Iq4Nl => legacy(Codes::Bytes, Some(7), false),
        BlockType::Q2K => nested(nibbles(0), None, true, true),
        BlockType::Q3K => nested(nibbles(0), Some(2), true, false),
        BlockType::Q4K => nested(nibbles(0), None, false, true),
        BlockType::Q5K => nested(nibbles(1), None, false, true),
        BlockType::Q6K => nested(nibbles(2), Some(5), true, false),
    })
}

impl QuantMatrix {
    /// Whether weights of a format are multiplied as integers.
    pub fn takes(kind: BlockType) -> bool {
        shape_of(kind).is_some()
    }

    /// Repacks `bytes`, rows of blocks as they lie in a file. Output `i` is row `row_of(i)`.
    ///
    /// # Panics
    /// If the format isn't one that [`QuantMatrix::takes`], or `bytes` isn't as long as it has to be.
    pub fn pack(
        kind: BlockType,
        bytes: &[u8],
        outputs: usize,
        inputs: usize,
        row_of: impl Fn(usize) -> usize + Sync,
    ) -> Self {
        let shape = shape_of(kind).unwrap_or_else(|| panic!("{} isn't an integer format", kind.name()));
        let row_bytes = inputs / kind.block_len() * kind.block_bytes();
        assert!(inputs.is_multiple_of(kind.block_len()), "rows of {inputs} values aren't whole blocks");
        assert_eq!(bytes.len(), outputs * row_bytes, "{outputs} rows of {row_bytes} bytes");
        let (panels, blocks) = (outputs.div_ceil(PANEL), inputs / BLOCK);
        let parts = if shape.fine { 2 } else { 1 };
        let supers = if shape.nested { blocks.div_ceil(NESTED) } else { blocks };
        let nested = if shape.nested { blocks * parts * PANEL } else { 0 };
        let with_mins = |len: usize| if shape.mins { len } else { 0 };
        let mut matrix = QuantMatrix {
            shape,
            outputs,
            inputs,
            codes: Buffer::zeros(panels * blocks * shape.codes.block_bytes()),
            d: Buffer::zeros(panels * supers * PANEL),
            dmin: Buffer::zeros(with_mins(panels * supers * PANEL)),
            scales: Buffer::zeros(panels * nested),
            mins: Buffer::zeros(with_mins(panels * nested)),
        };
        let lens = [blocks * shape.codes.block_bytes(), supers * PANEL, nested];
        let (codes, d, dmin) =
            (Shards::new(&mut matrix.codes), Shards::new(&mut matrix.d), Shards::new(&mut matrix.dmin));
        let (scales, mins) = (Shards::new(&mut matrix.scales), Shards::new(&mut matrix.mins));
        parallel_for(panels, |i| {
            // SAFETY: each panel's parts belong to one task.
            let mut out = unsafe {
                Out {
                    shape,
                    codes: codes.part(i * lens[0], lens[0]),
                    d: d.part(i * lens[1], lens[1]),
                    dmin: dmin.part(with_mins(i * lens[1]), with_mins(lens[1])),
                    scales: scales.part(i * lens[2], lens[2]),
                    mins: mins.part(with_mins(i * lens[2]), with_mins(lens[2])),
                }
            };
            for lane in 0..PANEL.min(outputs - i * PANEL) {
                let row = &bytes[row_of(i * PANEL + lane) * row_bytes..][..row_bytes];
                out.put_row(kind, row, lane);
            }
        });
        matrix
    }

    /// Rows of W.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Columns of W.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    pub(super) fn panel(&self, i: usize) -> Panel<'_> {
        let panels = self.outputs.div_ceil(PANEL);
        fn part<T>(all: &[T], i: usize, panels: usize) -> &[T] {
            let len = all.len() / panels;
            &all[i * len..(i + 1) * len]
        }
        Panel {
            shape: self.shape,
            blocks: self.inputs / BLOCK,
            codes: part(&self.codes, i, panels),
            d: part(&self.d, i, panels),
            dmin: part(&self.dmin, i, panels),
            scales: part(&self.scales, i, panels),
            mins: part(&self.mins, i, panels),
        }
    }
}

/// One panel, to be written.
struct Out<'a> {
    shape: Shape,
    codes: &'a mut [u8],
    d: &'a mut [f16],
    dmin: &'a mut [f16],
    scales: &'a mut [i8],
    mins: &'a mut [u8],
}

impl Out<'_> {
    /// One output: a row of blocks.
    fn put_row(&mut self, kind: BlockType, row: &[u8], lane: usize) {
        match kind {
            BlockType::Q4_0 | BlockType::Q4_1 | BlockType::Q8_0 => self.copy_row(kind, row, lane),
            _ => self.decode_row(kind, row, lane),
        }
    }

    /// Formats whose codes lie in the order of a panel already: four bytes of a block are four of a group.
    fn copy_row(&mut self, kind: BlockType, row: &[u8], lane: usize) {
        let half = |block: &[u8], at: usize| f16::from_le_bytes([block[at], block[at + 1]]);
        let (codes_at, flip) = match kind {
            BlockType::Q4_1 => (4, 0),
            BlockType::Q8_0 => (2, 0x80),
            _ => (2, 0),
        };
        let (vector, block_bytes) = (PANEL * GROUP, self.shape.codes.block_bytes());
        let to = self.codes.chunks_exact_mut(block_bytes);
        for (i, (block, to)) in row.chunks_exact(kind.block_bytes()).zip(to).enumerate() {
            self.d[i * PANEL + lane] = half(block, 0);
            if self.shape.mins {
                self.dmin[i * PANEL + lane] = half(block, 2);
            }
            let groups = block[codes_at..].as_chunks::<GROUP>().0;
            for (four, to) in groups.iter().zip(to.chunks_exact_mut(vector)) {
                to[lane * GROUP..][..GROUP].copy_from_slice(&four.map(|code| code ^ flip));
            }
        }
    }

    fn decode_row(&mut self, kind: BlockType, row: &[u8], lane: usize) {
        let mut decoded = SubBlocks::default();
        let per_source = kind.block_len() / BLOCK;
        let parts = if self.shape.fine { 2 } else { 1 };
        for (i, source) in row.chunks_exact(kind.block_bytes()).enumerate() {
            decoded.decode(kind, source);
            // Each format's own scale is a half-precision number, so nothing is rounded here.
            self.d[i * PANEL + lane] = f16::from_f32(decoded.d);
            if self.shape.mins {
                self.dmin[i * PANEL + lane] = f16::from_f32(-decoded.dmin);
            }
            for block in 0..per_source {
                self.put_codes(i * per_source + block, &decoded.q[block * BLOCK..][..BLOCK], lane);
            }
            if self.shape.nested {
                for part in 0..per_source * parts {
                    let at = (i * per_source * parts + part) * PANEL + lane;
                    self.scales[at] = decoded.scales[part];
                    if self.shape.mins {
                        self.mins[at] = decoded.mins[part];
                    }
                }
            }
        }
    }

    fn put_codes(&mut self, block: usize, q: &[u8], lane: usize) {
        let bytes = self.shape.codes.block_bytes();
        let to = &mut self.codes[block * bytes..][..bytes];
        let vector = PANEL * GROUP;
        match self.shape.codes {
            Codes::Bytes => {
                for (g, four) in q.chunks_exact(GROUP).enumerate() {
                    to[g * vector + lane * GROUP..][..GROUP].copy_from_slice(four);
                }
            }
            Codes::Nibbles { planes } => {
                let (low, high) = q.split_at(BLOCK / 2);
                for (j, (low, high)) in low.chunks_exact(GROUP).zip(high.chunks_exact(GROUP)).enumerate() {
                    for (b, (low, high)) in low.iter().zip(high).enumerate() {
                        to[j * vector + lane * GROUP + b] = low & 15 | (high & 15) << 4;
                    }
                }
                for plane in 0..planes {
                    let to = &mut to[PANEL * BLOCK / 2 + plane * PANEL * BLOCK / 8..];
                    for (i, code) in q.iter().enumerate() {
                        let bit = lane * GROUP + i % GROUP;
                        to[i / GROUP * 8 + bit / 8] |= (code >> (4 + plane) & 1) << (bit % 8);
                    }
                }
            }
        }
    }
}
