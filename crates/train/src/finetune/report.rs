//! The page that tells how a run went: metrics, curves, confusion matrix, and what it got wrong.

use crate::curves::smooth;
use crate::error::TrainError;
use crate::finetune::compare::Baseline;
use crate::finetune::fit::{Event, Metrics};
use crate::metrics::classification::Confusion;
use plotters::prelude::*;
use std::fmt::Write as _;

/// An example that went wrong.
#[derive(Clone, Debug)]
pub struct Wrong {
    /// The text.
    pub text: String,
    /// What is right.
    pub expected: String,
    /// What the model says.
    pub got: String,
    /// How sure it was of it, or how far off.
    pub sureness: f32,
}

/// What the page shows.
#[derive(Debug)]
pub struct Report<'a> {
    /// The task.
    pub title: &'a str,
    /// On held-out examples, by the best weights.
    pub metrics: &'a Metrics,
    /// All that happened.
    pub events: &'a [Event],
    /// The metric that is drawn.
    pub metric: &'a str,
    /// Which label was taken for which, and their names.
    pub confusion: Option<(&'a Confusion, &'a [String])>,
    /// Cheap models on the same examples.
    pub baselines: &'a [Baseline],
    /// The surest first.
    pub wrong: &'a [Wrong],
}

/// So many errors are shown, each cut to so many characters.
const ERRORS_SHOWN: usize = 20;
const CHARS_SHOWN: usize = 400;
/// A larger matrix can't be read.
const MOST_LABELS: usize = 30;
const CURVE_POINTS: usize = 100;
const CURVES: (u32, u32) = (720, 320);

impl Report<'_> {
    /// The page as HTML that needs nothing else.
    ///
    /// # Errors
    /// If the curves can't be drawn.
    pub fn html(&self) -> Result<String, TrainError> {
        let mut page = String::from(
            "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Hearth: how the run went</title>\
             <style>body{font:16px/1.5 system-ui,sans-serif;max-width:760px;margin:2em auto;padding:0 1em;color:#222}\
             table{border-collapse:collapse}td,th{padding:.2em .8em;border-bottom:1px solid #ddd;text-align:left;\
             vertical-align:top}td.n{text-align:right}small{color:#666}svg{max-width:100%}</style>",
        );
        let _ = write!(page, "<h1>{}</h1><h2>Held-out examples</h2><table>", escape(self.title));
        for (name, value) in self.metrics {
            let value = if name == "examples" { format!("{value}") } else { format!("{value:.4}") };
            let _ = write!(page, "<tr><th>{}</th><td class=\"n\">{value}</td></tr>", escape(name));
        }
        page += "</table>";
        if !self.baselines.is_empty() {
            page += "<h2>Cheap models on the same examples</h2><table><tr><th></th><th>accuracy</th><th>F1</th></tr>";
            for Baseline { name, accuracy, f1, .. } in self.baselines {
                let _ = write!(
                    page,
                    "<tr><th>{name}</th><td class=\"n\">{accuracy:.4}</td><td class=\"n\">{f1:.4}</td></tr>"
                );
            }
            page += "</table>";
        }
        page += "<h2>Curves</h2>";
        page += &self.curves().map_err(|problem| TrainError::Plot { problem })?;
        if let Some((confusion, labels)) = self.confusion.filter(|(c, _)| c.n_classes() <= MOST_LABELS) {
            page += "<h2>Confusion matrix</h2><p><small>Rows: what is right. Columns: what the model says.</small></p>";
            page += &matrix(confusion, labels);
        }
        if !self.wrong.is_empty() {
            let shown = self.wrong.len().min(ERRORS_SHOWN);
            let _ = write!(
                page,
                "<h2>Errors</h2><p><small>{} in all; the {shown} of which the model was surest.</small></p><table><tr>\
                 <th>right</th><th>model</th><th></th><th>text</th></tr>",
                self.wrong.len()
            );
            for Wrong { text, expected, got, sureness } in &self.wrong[..shown] {
                let [expected, got, text] = [expected, got, text].map(|text| escape(&shortened(text)));
                let _ = write!(
                    page,
                    "<tr><td>{expected}</td><td>{got}</td><td class=\"n\">{sureness:.3}</td><td>{text}</td></tr>"
                );
            }
            page += "</table>";
        }
        page.push('\n');
        Ok(page)
    }

    /// Training loss, and the metric of each look, over the steps.
    fn curves(&self) -> Result<String, String> {
        let losses: Vec<(f64, f64)> = self.events.iter().filter_map(step_loss).collect();
        let looks: Vec<(f64, f64)> = self
            .events
            .iter()
            .filter_map(|event| match event {
                Event::Look { step, metrics, .. } => Some((*step as f64, *metrics.get(self.metric)?)),
                Event::Step { .. } => None,
            })
            .collect();
        let losses = smooth(&losses, CURVE_POINTS);
        let last = losses.iter().chain(&looks).map(|p| p.0).fold(1.0, f64::max);
        let highest = losses.iter().map(|p| p.1).fold(0.1, f64::max);
        let best = looks.iter().map(|p| 1.05 * p.1).fold(1.0, f64::max);
        let text = |e: &dyn std::fmt::Display| e.to_string();
        let mut svg = String::new();
        {
            let area = SVGBackend::with_string(&mut svg, CURVES).into_drawing_area();
            area.fill(&WHITE).map_err(|e| text(&e))?;
            let mut chart = ChartBuilder::on(&area)
                .margin(8)
                .x_label_area_size(32)
                .y_label_area_size(48)
                .right_y_label_area_size(48)
                .build_cartesian_2d(0.0..last, 0.0..highest * 1.05)
                .map_err(|e| text(&e))?
                .set_secondary_coord(0.0..last, 0.0..best);
            let (grey, blue) = (RGBColor(150, 160, 175), RGBColor(30, 90, 200));
            chart
                .configure_mesh()
                .light_line_style(WHITE)
                .bold_line_style(BLACK.mix(0.1))
                .x_desc("step")
                .y_desc("training loss")
                .draw()
                .map_err(|e| text(&e))?;
            chart.configure_secondary_axes().y_desc(self.metric).draw().map_err(|e| text(&e))?;
            chart.draw_series(LineSeries::new(losses, grey.stroke_width(2))).map_err(|e| text(&e))?;
            chart
                .draw_secondary_series(LineSeries::new(looks, blue.stroke_width(3)).point_size(4))
                .map_err(|e| text(&e))?;
            area.present().map_err(|e| text(&e))?;
        }
        Ok(svg)
    }
}

fn step_loss(event: &Event) -> Option<(f64, f64)> {
    match event {
        Event::Step { step, loss, .. } => Some((*step as f64, f64::from(*loss))),
        Event::Look { .. } => None,
    }
}

/// Squares as dark as the share of their row.
fn matrix(confusion: &Confusion, labels: &[String]) -> String {
    let n = confusion.n_classes();
    let (cell, left, top) = (if n <= 8 { 64 } else { 28 }, 130, 34);
    let (width, height) = (left + n * cell + 8, top + n * cell + 8);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" font-size=\"13\" \
         font-family=\"sans-serif\">"
    );
    let short = |label: &String| escape(&label.chars().take(14).collect::<String>());
    for (gold, label) in labels.iter().enumerate() {
        let (y, sum) = (top + gold * cell, confusion.row(gold).iter().sum::<usize>().max(1));
        let _ = write!(
            svg,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text><text x=\"{}\" y=\"22\" \
             text-anchor=\"middle\">{}</text>",
            left - 8,
            y + cell / 2 + 4,
            short(label),
            left + gold * cell + cell / 2,
            if n <= 8 { short(label) } else { (gold + 1).to_string() }
        );
        for predicted in 0..n {
            let count = confusion.count(gold, predicted);
            let share = count as f64 / sum as f64;
            let (x, light) = (left + predicted * cell, 97.0 - 57.0 * share);
            let ink = if share > 0.6 { "#fff" } else { "#222" };
            let _ = write!(
                svg,
                "<rect x=\"{x}\" y=\"{y}\" width=\"{cell}\" height=\"{cell}\" stroke=\"#fff\" \
                 fill=\"hsl(215,70%,{light:.0}%)\"/><text x=\"{}\" y=\"{}\" text-anchor=\"middle\" \
                 fill=\"{ink}\">{count}</text>",
                x + cell / 2,
                y + cell / 2 + 4
            );
        }
    }
    svg + "</svg>"
}

fn shortened(text: &str) -> String {
    let mut cut: String = text.chars().take(CHARS_SHOWN).collect();
    if cut.len() < text.len() {
        cut.push('…');
    }
    cut
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
