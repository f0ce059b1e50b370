//! The curves of a run as an SVG: training loss, held-out loss and the n-gram floors.

use crate::error::TrainError;
use crate::runlog::Record;
use hearth_tokenizer::replace_file;
use plotters::prelude::*;
use std::path::Path;

const SIZE: (u32, u32) = (960, 540);
/// At most so many points of the training loss, each a mean over its neighbours.
const POINTS: usize = 400;

/// Draws `records` into `path`; nothing if no step was done.
pub fn draw(records: &[Record], path: &Path) -> Result<(), TrainError> {
    let steps: Vec<(f64, f64)> = records
        .iter()
        .filter_map(|r| match r {
            Record::Step { step, loss, .. } => Some((*step as f64, f64::from(*loss))),
            _ => None,
        })
        .collect();
    if steps.is_empty() {
        return Ok(());
    }
    let looks: Vec<(f64, f64)> = records
        .iter()
        .filter_map(|r| match r {
            Record::Eval { step, val_loss, .. } => Some((*step as f64, *val_loss)),
            _ => None,
        })
        .collect();
    let floors: Vec<(String, f64)> = records
        .iter()
        .filter_map(|r| match r {
            Record::Ngram { order, tokens, val_loss, .. } => {
                let millions = *tokens as f64 / 1e6;
                Some((format!("{order}-gram (Kneser-Ney) of {millions:.1} M tokens, held out"), *val_loss))
            }
            _ => None,
        })
        .collect();
    let svg =
        render(&smooth(&steps, POINTS), &looks, &floors).map_err(|problem| TrainError::Plot { problem })?;
    Ok(replace_file(path, svg.as_bytes())?)
}

/// At most so many points, each a mean over its neighbours.
pub(crate) fn smooth(steps: &[(f64, f64)], most: usize) -> Vec<(f64, f64)> {
    let chunk = steps.len().div_ceil(most).max(1);
    let mean = |part: &[(f64, f64)]| {
        let n = part.len() as f64;
        (part.iter().map(|p| p.0).sum::<f64>() / n, part.iter().map(|p| p.1).sum::<f64>() / n)
    };
    steps.chunks(chunk).map(mean).collect()
}

fn render(training: &[(f64, f64)], looks: &[(f64, f64)], floors: &[(String, f64)]) -> Result<String, String> {
    let all = || training.iter().chain(looks).map(|p| p.1).chain(floors.iter().map(|f| f.1));
    let low = all().fold(f64::INFINITY, f64::min);
    let high = all().fold(f64::NEG_INFINITY, f64::max);
    let margin = ((high - low) * 0.05).max(0.01);
    let last = training.iter().chain(looks).map(|p| p.0).fold(1.0, f64::max);
    let mut svg = String::new();
    let text = |e: &dyn std::fmt::Display| e.to_string();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        area.fill(&WHITE).map_err(|e| text(&e))?;
        let mut chart = ChartBuilder::on(&area)
            .caption("Loss (nats a token)", ("sans-serif", 22))
            .margin(12)
            .x_label_area_size(40)
            .y_label_area_size(56)
            .build_cartesian_2d(0.0..last, low - margin..high + margin)
            .map_err(|e| text(&e))?;
        let style = ("sans-serif", 15);
        chart
            .configure_mesh()
            .light_line_style(WHITE)
            .bold_line_style(BLACK.mix(0.1))
            .x_desc("step")
            .label_style(style)
            .axis_desc_style(style)
            .draw()
            .map_err(|e| text(&e))?;
        let (grey, blue) = (RGBColor(150, 160, 175), RGBColor(30, 90, 200));
        let reds = [RGBColor(200, 70, 40), RGBColor(230, 150, 90)];
        let swatch = move |color: RGBColor| {
            move |(x, y): (i32, i32)| PathElement::new([(x, y), (x + 22, y)], color.stroke_width(3))
        };
        chart
            .draw_series(LineSeries::new(training.iter().copied(), grey.stroke_width(1)))
            .map_err(|e| text(&e))?
            .label("training")
            .legend(swatch(grey));
        for ((label, loss), red) in floors.iter().zip(reds) {
            chart
                .draw_series(LineSeries::new([(0.0, *loss), (last, *loss)], red.stroke_width(2)))
                .map_err(|e| text(&e))?
                .label(label)
                .legend(swatch(red));
        }
        chart
            .draw_series(LineSeries::new(looks.iter().copied(), blue.stroke_width(3)).point_size(3))
            .map_err(|e| text(&e))?
            .label("held out")
            .legend(swatch(blue));
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperRight)
            .background_style(WHITE)
            .border_style(BLACK.mix(0.2))
            .label_font(style)
            .draw()
            .map_err(|e| text(&e))?;
        area.present().map_err(|e| text(&e))?;
    }
    Ok(svg)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn curves_show_every_series_and_stay_small() {
        let steps: Vec<_> = (0..5000).map(|i| (f64::from(i), 8.0 - f64::from(i) / 1000.0)).collect();
        let floors = [("5-gram, all".to_owned(), 4.0), ("5-gram, some".to_owned(), 4.5)];
        let looks = [(0.0, 8.1), (2500.0, 5.6), (4999.0, 3.2)];
        let svg = render(&smooth(&steps, POINTS), &looks, &floors).expect("draws");
        for label in ["training", "held out", "5-gram, all", "5-gram, some", "step"] {
            assert!(svg.contains(label), "no {label}");
        }
        assert!(svg.len() < 40_000, "{} bytes", svg.len());
    }
}
