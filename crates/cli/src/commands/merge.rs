//! `hearth merge`: a model with adapters in its weights.

use crate::commands::convert::write_model;
use crate::model::resolve;
use crate::terminal::Terminal;
use anyhow::Result;
use hearth_engine::{Mix, ModelFiles};
use std::path::PathBuf;

/// Put adapters into the weights of the model that they are for, and write it as a folder or a GGUF file
#[derive(clap::Args)]
pub struct Merge {
    /// A model file or folder, or a name of the catalogue; the folder of an adapter stands for its model with it
    model: String,
    /// Adapters in PEFT's format, each with a weight if it isn't to be 1, as in DIR=0.5
    #[arg(long, num_args = 1.., value_name = "DIR[=W]", value_parser = weighted)]
    adapter: Vec<(PathBuf, f32)>,
    /// Where to: a file that ends in .gguf, or a folder in the Hugging Face layout
    #[arg(long, value_name = "PATH")]
    out: PathBuf,
    /// The type of the weights; a folder takes F32 or BF16
    #[arg(long = "type", default_value = "F32", value_name = "T")]
    mix: Mix,
}

fn weighted(text: &str) -> Result<(PathBuf, f32), String> {
    let Some((dir, weight)) = text.rsplit_once('=') else { return Ok((text.into(), 1.0)) };
    let weight = weight.parse().ok().filter(|weight: &f32| weight.is_finite());
    Ok((dir.into(), weight.ok_or("expected DIR or DIR=W, such as my-adapter=0.5")?))
}

impl Merge {
    pub fn run(self, terminal: &Terminal) -> Result<()> {
        let model = resolve(&self.model, terminal)?;
        let mut files = ModelFiles::open(&model)?;
        for (dir, weight) in &self.adapter {
            files = files.with_adapter(dir, *weight)?;
        }
        write_model(&files, &model, &self.out, self.mix, terminal)
    }
}
