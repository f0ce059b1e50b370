//! The reference: plain loops over one output and one row at a time.

use super::{BLOCK, Codes, GROUP, NESTED, PANEL, Panel, Place, RowTile};

/// Multiplies a tile.
///
/// # Safety
/// `place` must be valid for the tile's rows and `place.cols` columns.
pub(super) unsafe fn run(panel: &Panel, tile: &RowTile, place: &Place) {
    for row in 0..tile.groups * tile.width {
        for lane in 0..place.cols {
            let dot = dot(panel, tile, row, lane);
            let value = place.bias.map_or(dot, |bias| dot + bias[lane]);
            // SAFETY: the caller vouches for the row and the column.
            unsafe { *place.out.add(row * place.stride + lane) = value };
        }
    }
}

fn dot(panel: &Panel, tile: &RowTile, row: usize, lane: usize) -> f32 {
    let (group, r, width) = (row / tile.width, row % tile.width, tile.width);
    let shape = panel.shape;
    let parts = if shape.fine { 2 } else { 1 };
    let groups = BLOCK / GROUP;
    let mut sum = 0.0f32;
    for block in 0..panel.blocks {
        let scales_at = if shape.nested { block / NESTED } else { block } * PANEL + lane;
        let d = panel.d[scales_at].to_f32();
        for part in 0..parts {
            let at = |per_block: usize, i: usize| ((group * tile.blocks + block) * per_block + i) * width + r;
            let (minus_sum, total) = match shape.fine {
                true => (tile.half_sums[at(2, part)], tile.half_totals[at(2, part)]),
                false => (tile.sums[at(1, 0)], tile.totals[at(1, 0)]),
            };
            let mut dot = shape.shift.map_or(0, |shift| minus_sum << shift);
            for g in part * groups / parts..(part + 1) * groups / parts {
                for b in 0..GROUP {
                    let x = tile.codes[at(groups, g) * GROUP + b];
                    dot += i32::from(code(panel, block, g, lane, b)) * i32::from(x);
                }
            }
            let nested_at = (block * parts + part) * PANEL + lane;
            let scale = if shape.nested { d * f32::from(panel.scales[nested_at]) } else { d };
            sum = (dot as f32).mul_add(scale * tile.scales[at(1, 0)], sum);
            if shape.mins {
                let dmin = panel.dmin[scales_at].to_f32();
                let min = if shape.nested { dmin * f32::from(panel.mins[nested_at]) } else { dmin };
                sum = min.mul_add(total, sum);
            }
        }
    }
    sum
}

/// The code of input `32 block + 4 g + b` of an output.
fn code(panel: &Panel, block: usize, g: usize, lane: usize, b: usize) -> u8 {
    let codes = &panel.codes[block * panel.shape.codes.block_bytes()..];
    let (vector, i) = (PANEL * GROUP, lane * GROUP + b);
    match panel.shape.codes {
        Codes::Bytes => codes[g * vector + i],
        Codes::Nibbles { planes } => {
            let byte = codes[g % 4 * vector + i];
            let nibble = if g < 4 { byte & 15 } else { byte >> 4 };
            (0..planes).fold(nibble, |code, plane| {
                let plane_at = PANEL * BLOCK / 2 + plane * PANEL * BLOCK / 8;
                code | (codes[plane_at + g * 8 + i / 8] >> (i % 8) & 1) << (4 + plane)
            })
        }
    }
}
