//! `config.json` in and out, as `transformers` writes it.
//!
//! Unknown architectures, and settings that would change the result without being understood here,
//! are errors: a model that loads gives the right logits.

use crate::config::{DecoderConfig, Family, Sliding};
use crate::error::ModelError;
use crate::rope_scaling::RopeScaling;
use hearth_kernel::activation::Activation;
use serde_json::{Value, json};

/// Ids that `config.json` and `generation_config.json` carry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpecialIds {
    /// Starts a text.
    pub bos: Option<u32>,
    /// Ends a text.
    pub eos: Option<u32>,
}

/// The model types of encoders.
pub(crate) const ENCODERS: [&str; 2] = ["bert", "eurobert"];

/// Reads fields of one JSON object, with errors that name the file and the field.
pub(crate) struct Fields<'a> {
    pub(crate) place: &'a str,
    pub(crate) json: &'a Value,
}

impl Fields<'_> {
    pub(crate) fn error(&self, problem: String) -> ModelError {
        ModelError::Config { place: self.place.to_owned(), problem }
    }

    pub(crate) fn present(&self, name: &str) -> Option<&Value> {
        self.json.get(name).filter(|v| !v.is_null())
    }

    pub(crate) fn size(&self, name: &str) -> Result<usize, ModelError> {
        let value = self.present(name).ok_or_else(|| self.error(format!("{name} is missing")))?;
        value
            .as_u64()
            .and_then(|n| usize::try_from(n).ok())
            .ok_or_else(|| self.error(format!("{name} is {value}, expected a whole number")))
    }

    pub(crate) fn size_or(&self, name: &str, default: usize) -> Result<usize, ModelError> {
        if self.present(name).is_some() { self.size(name) } else { Ok(default) }
    }

    pub(crate) fn number_or(&self, name: &str, default: f32) -> Result<f32, ModelError> {
        match self.present(name) {
            None => Ok(default),
            Some(v) => v
                .as_f64()
                .map(|x| x as f32)
                .ok_or_else(|| self.error(format!("{name} is {v}, expected a number"))),
        }
    }

    pub(crate) fn flag_or(&self, name: &str, default: bool) -> Result<bool, ModelError> {
        match self.present(name) {
            None => Ok(default),
            Some(v) => {
                v.as_bool().ok_or_else(|| self.error(format!("{name} is {v}, expected true or false")))
            }
        }
    }

    pub(crate) fn text_or<'s>(&'s self, name: &str, default: &'s str) -> Result<&'s str, ModelError> {
        match self.present(name) {
            None => Ok(default),
            Some(v) => v.as_str().ok_or_else(|| self.error(format!("{name} is {v}, expected a string"))),
        }
    }

    /// Refuses a setting that isn't supported.
    pub(crate) fn expect_flag(&self, name: &str, wanted: bool) -> Result<(), ModelError> {
        match self.flag_or(name, wanted)? {
            found if found == wanted => Ok(()),
            found => {
                Err(self.error(format!("{name} is {found}, which isn't supported for this architecture")))
            }
        }
    }
}

/// Reads a configuration; `place` names the file in errors.
pub fn config_from_json(place: &str, json: &Value) -> Result<DecoderConfig, ModelError> {
    let fields = Fields { place, json };
    let model_type = fields.text_or("model_type", "")?;
    let config = match model_type {
        "gpt2" => gpt(&fields, Family::Gpt2),
        "openai-gpt" => gpt(&fields, Family::Gpt1),
        "llama" | "mistral" => llama(&fields, Family::Llama),
        "qwen2" => llama(&fields, Family::Qwen2),
        "qwen3" => llama(&fields, Family::Qwen3),
        "gemma3_text" => gemma3(&fields),
        kind if ENCODERS.contains(&kind) => Err(fields.error(format!(
            "a {kind} is an encoder: it embeds texts, and can't continue them\nhint: hearth embed runs it"
        ))),
        other => Err(fields.error(format!(
            "model_type {other:?} isn't one that runs here\nhint: {} and mistral do",
            Family::ALL.map(Family::model_type).join(", ")
        ))),
    }?;
    config.validate().map_err(|e| fields.error(e.to_string()))?;
    Ok(config)
}

fn gpt(fields: &Fields, family: Family) -> Result<DecoderConfig, ModelError> {
    for name in ["scale_attn_by_inverse_layer_idx", "add_cross_attention"] {
        fields.expect_flag(name, false)?;
    }
    fields.expect_flag("scale_attn_weights", true)?;
    let (hidden_size, n_heads) = (fields.size("n_embd")?, fields.size("n_head")?);
    let key = if family == Family::Gpt1 { "afn" } else { "activation_function" };
    let activation = match (fields.text_or(key, "gelu_new")?, family) {
        ("gelu_new" | "gelu_pytorch_tanh", _) | ("gelu", Family::Gpt1) => Activation::GeluTanh,
        ("gelu", _) => Activation::GeluErf,
        ("relu", _) => Activation::Relu,
        ("relu2", _) => Activation::Relu2,
        ("silu" | "swish", _) => Activation::Silu,
        (other, _) => return Err(fields.error(format!("{key} {other:?} isn't known"))),
    };
    Ok(DecoderConfig {
        family,
        vocab_size: fields.size("vocab_size")?,
        hidden_size,
        intermediate_size: fields.size_or("n_inner", hidden_size.saturating_mul(4))?,
        n_layers: fields.size("n_layer")?,
        n_heads,
        n_kv_heads: n_heads,
        head_dim: hidden_size / n_heads.max(1),
        max_positions: fields.size("n_positions")?,
        norm_eps: fields.number_or("layer_norm_epsilon", 1e-5)?,
        rope_theta: 0.0,
        activation,
        biases: true,
        tied_head: fields.flag_or("tie_word_embeddings", true)?,
        sliding: None,
        query_scalar: None,
        rope_scaling: None,
    })
}

fn llama(fields: &Fields, family: Family) -> Result<DecoderConfig, ModelError> {
    for name in ["attention_bias", "mlp_bias", "use_sliding_window"] {
        fields.expect_flag(name, false)?;
    }
    let mistral = fields.text_or("model_type", "")? == "mistral";
    if let Some(window) = fields.present("sliding_window").filter(|_| family == Family::Llama && !mistral) {
        return Err(fields.error(format!("sliding_window is {window}, which isn't supported, only null is")));
    }
    let (rope_theta, rope_scaling) = rope(fields)?;
    let windowed = mistral && fields.present("sliding_window").is_some();
    let sliding = match windowed {
        true => Some(Sliding { window: fields.size("sliding_window")?, every: Sliding::ALL, rope_theta }),
        false => None,
    };
    let activation = fields.text_or("hidden_act", "silu")?;
    if activation != "silu" {
        return Err(fields.error(format!("hidden_act {activation:?} isn't supported, only \"silu\" is")));
    }
    let (hidden_size, n_heads) = (fields.size("hidden_size")?, fields.size("num_attention_heads")?);
    Ok(DecoderConfig {
        family,
        vocab_size: fields.size("vocab_size")?,
        hidden_size,
        intermediate_size: fields.size("intermediate_size")?,
        n_layers: fields.size("num_hidden_layers")?,
        n_heads,
        n_kv_heads: fields.size_or("num_key_value_heads", n_heads)?,
        head_dim: fields
            .size_or("head_dim", if family == Family::Qwen3 { 128 } else { hidden_size / n_heads.max(1) })?,
        max_positions: fields.size_or("max_position_embeddings", 2048)?,
        norm_eps: fields.number_or("rms_norm_eps", 1e-6)?,
        rope_theta,
        activation: Activation::Silu,
        biases: family == Family::Qwen2,
        tied_head: fields.flag_or("tie_word_embeddings", false)?,
        sliding,
        query_scalar: None,
        rope_scaling,
    })
}

fn gemma3(fields: &Fields) -> Result<DecoderConfig, ModelError> {
    fields.expect_flag("attention_bias", false)?;
    fields.expect_flag("use_bidirectional_attention", false)?;
    for name in ["attn_logit_softcapping", "final_logit_softcapping"] {
        if let Some(value) = fields.present(name) {
            return Err(fields.error(format!("{name} is {value}, which isn't supported, only null is")));
        }
    }
    let activation = fields.text_or("hidden_activation", "gelu_pytorch_tanh")?;
    if activation != "gelu_pytorch_tanh" {
        return Err(fields.error(format!("hidden_activation {activation:?} isn't supported for gemma3")));
    }
    // Bases in fields of their own, or by the kind of block.
    let bases = fields.present("rope_parameters").filter(|json| json.get("full_attention").is_some());
    let base = |kind: &str, name: &str, default| match bases {
        Some(bases) => {
            let json = bases.get(kind).unwrap_or(&Value::Null);
            let inner = Fields { place: fields.place, json };
            Ok::<_, ModelError>((
                inner.number_or("rope_theta", default)?,
                scaling(&inner, "rope_parameters")?,
            ))
        }
        None => Ok((fields.number_or(name, default)?, None)),
    };
    let (rope_base, mut rope_scaling) = base("full_attention", "rope_theta", 1e6)?;
    let (local_base, local_scaling) = base("sliding_attention", "rope_local_base_freq", 1e4)?;
    if let Some(local) = local_scaling {
        return Err(fields.error(format!("sliding_attention is scaled by {local:?}, which isn't supported")));
    }
    if bases.is_none() {
        rope_scaling = rope(fields)?.1;
    }
    let n_layers = fields.size("num_hidden_layers")?;
    Ok(DecoderConfig {
        family: Family::Gemma3,
        vocab_size: fields.size("vocab_size")?,
        hidden_size: fields.size("hidden_size")?,
        intermediate_size: fields.size("intermediate_size")?,
        n_layers,
        n_heads: fields.size("num_attention_heads")?,
        n_kv_heads: fields.size("num_key_value_heads")?,
        head_dim: fields.size_or("head_dim", 256)?,
        max_positions: fields.size_or("max_position_embeddings", 131_072)?,
        norm_eps: fields.number_or("rms_norm_eps", 1e-6)?,
        rope_theta: rope_base,
        activation: Activation::GeluTanh,
        biases: false,
        tied_head: fields.flag_or("tie_word_embeddings", true)?,
        sliding: Some(Sliding {
            window: fields.size_or("sliding_window", 4096)?,
            every: sliding_pattern(fields, n_layers)?,
            rope_theta: local_base,
        }),
        query_scalar: Some(fields.number_or("query_pre_attn_scalar", 256.0)?),
        rope_scaling,
    })
}

/// How often a block sees everything: from `sliding_window_pattern`, or from the list of `layer_types`,
/// which has to be as regular.
fn sliding_pattern(fields: &Fields, n_layers: usize) -> Result<usize, ModelError> {
    let every = fields.size_or("sliding_window_pattern", 6)?.max(1);
    let Some(list) = fields.present("layer_types").and_then(Value::as_array) else { return Ok(every) };
    let full: Vec<bool> = list.iter().map(|kind| kind == "full_attention").collect();
    let every = full.iter().position(|&full| full).map_or(n_layers.saturating_add(1), |i| i + 1);
    let regular = (0..n_layers).map(|i| (i + 1).is_multiple_of(every));
    if full.len() != n_layers || !regular.eq(full.iter().copied()) {
        return Err(fields.error("layer_types isn't regular, which isn't supported".into()));
    }
    Ok(every)
}

/// The base of the rotary embedding and its scaling, from fields of their own or from `rope_parameters`.
pub(crate) fn rope(fields: &Fields) -> Result<(f32, Option<RopeScaling>), ModelError> {
    let mut theta = fields.number_or("rope_theta", 10_000.0)?;
    let mut scaled = None;
    for name in ["rope_scaling", "rope_parameters"] {
        let Some(json) = fields.present(name) else { continue };
        let inner = Fields { place: fields.place, json };
        scaled = scaling(&inner, name)?.or(scaled);
        theta = inner.number_or("rope_theta", theta)?;
    }
    Ok((theta, scaled))
}

/// What an object says about scaling; variants that aren't known are refused.
fn scaling(fields: &Fields, name: &str) -> Result<Option<RopeScaling>, ModelError> {
    let number = |key: &str| match fields.present(key) {
        Some(_) => fields.number_or(key, 0.0),
        None => Err(fields.error(format!("{name} has no {key}, expected a number"))),
    };
    match fields.text_or("rope_type", fields.text_or("type", "default")?)? {
        "default" => Ok(None),
        "linear" => Ok(Some(RopeScaling::Linear { factor: number("factor")? })),
        "llama3" => Ok(Some(RopeScaling::Llama3 {
            factor: number("factor")?,
            low_freq_factor: number("low_freq_factor")?,
            high_freq_factor: number("high_freq_factor")?,
            original_positions: fields.size("original_max_position_embeddings")?,
        })),
        kind => Err(fields.error(format!(
            "{name} of type {kind:?} isn't supported, only \"default\", \"linear\" and \"llama3\" are"
        ))),
    }
}

fn scaling_to_json(scaling: &RopeScaling) -> Value {
    match *scaling {
        RopeScaling::Linear { factor } => json!({ "rope_type": "linear", "factor": round_trip(factor) }),
        RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_positions } => json!({
            "rope_type": "llama3",
            "factor": round_trip(factor),
            "low_freq_factor": round_trip(low_freq_factor),
            "high_freq_factor": round_trip(high_freq_factor),
            "original_max_position_embeddings": original_positions,
        }),
        RopeScaling::Divisors(_) => Value::Null,
    }
}

/// Writes a configuration, with the biases of GPT families whether or not they were trained.
pub fn config_to_json(config: &DecoderConfig, ids: SpecialIds, dtype: &str) -> Value {
    let mut json = if config.family.is_gpt() { gpt_to_json(config) } else { llama_to_json(config) };
    if let (Family::Gemma3, Some(sliding)) = (config.family, config.sliding) {
        json["hidden_activation"] = json!("gelu_pytorch_tanh");
        json["query_pre_attn_scalar"] = json!(config.query_scalar.unwrap_or(config.head_dim as f32));
        json["sliding_window"] = json!(sliding.window);
        json["sliding_window_pattern"] = json!(sliding.every);
        json["rope_local_base_freq"] = json!(round_trip(sliding.rope_theta));
        json["layer_types"] = (0..config.n_layers)
            .map(|i| if config.window_of(i).is_some() { "sliding_attention" } else { "full_attention" })
            .collect();
    }
    json["architectures"] = json!([config.family.class_name()]);
    json["model_type"] = json!(config.family.model_type());
    if let (Family::Llama, Some(sliding)) = (config.family, config.sliding) {
        // Llama's own class has no windows.
        json["architectures"] = json!(["MistralForCausalLM"]);
        json["model_type"] = json!("mistral");
        json["sliding_window"] = json!(sliding.window);
    }
    json["vocab_size"] = json!(config.vocab_size);
    json["tie_word_embeddings"] = json!(config.tied_head);
    json["bos_token_id"] = json!(ids.bos);
    json["eos_token_id"] = json!(ids.eos);
    json["torch_dtype"] = json!(dtype);
    json["use_cache"] = json!(true);
    json
}

fn gpt_to_json(config: &DecoderConfig) -> Value {
    let activation = match config.activation {
        // What `transformers` calls gelu in GPT-1 is the tanh form.
        Activation::GeluTanh if config.family == Family::Gpt1 => "gelu",
        Activation::GeluErf => "gelu",
        Activation::Relu => "relu",
        Activation::Relu2 => "relu2",
        Activation::Silu => "silu",
        _ => "gelu_new",
    };
    let key = if config.family == Family::Gpt1 { "afn" } else { "activation_function" };
    json!({
        "n_embd": config.hidden_size,
        "n_head": config.n_heads,
        "n_layer": config.n_layers,
        "n_positions": config.max_positions,
        "n_inner": config.intermediate_size,
        key: activation,
        "layer_norm_epsilon": round_trip(config.norm_eps),
        "attn_pdrop": 0.0,
        "embd_pdrop": 0.0,
        "resid_pdrop": 0.0,
    })
}

fn llama_to_json(config: &DecoderConfig) -> Value {
    json!({
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_hidden_layers": config.n_layers,
        "num_attention_heads": config.n_heads,
        "num_key_value_heads": config.n_kv_heads,
        "head_dim": config.head_dim,
        "max_position_embeddings": config.max_positions,
        "rms_norm_eps": round_trip(config.norm_eps),
        "rope_theta": round_trip(config.rope_theta),
        "rope_scaling": config.rope_scaling.as_ref().map(scaling_to_json),
        "hidden_act": "silu",
        "attention_bias": false,
        "attention_dropout": 0.0,
        "mlp_bias": false,
    })
}

/// The shortest decimal that reads back as the same `f32`, instead of the digits of its widening.
pub(crate) fn round_trip(x: f32) -> f64 {
    x.to_string().parse().unwrap_or(f64::from(x))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configurations_survive_the_round_trip() {
        let mut untied = DecoderConfig::native(321, 96, 3, 77);
        untied.tied_head = false;
        untied.family = Family::Llama;
        let gpt1 = DecoderConfig::preset("gpt1").expect("a preset");
        let mut mistral = untied.clone();
        mistral.sliding = Some(Sliding { window: 5, every: Sliding::ALL, rope_theta: 10_000.0 });
        let mut linear = untied.clone();
        linear.rope_scaling = Some(RopeScaling::Linear { factor: 2.5 });
        let mut llama3 = untied.clone();
        llama3.rope_scaling = Some(RopeScaling::llama3(8.0, 64));
        let gpt2 = DecoderConfig::gpt2(97, 48, 2, 3, 32);
        let native = DecoderConfig::native(97, 256, 2, 32);
        for config in [gpt2, native, untied, gpt1, mistral, linear, llama3] {
            let json = config_to_json(&config, SpecialIds::default(), "float32");
            assert_eq!(config_from_json("config.json", &json).expect("reads back"), config);
        }
    }

    #[test]
    fn what_is_not_understood_is_refused_by_name() {
        let good = config_to_json(&DecoderConfig::native(97, 256, 2, 32), SpecialIds::default(), "float32");
        for (key, value, expect) in [
            ("model_type", json!("mamba"), "model_type \"mamba\""),
            ("rope_scaling", json!({"rope_type": "yarn", "factor": 4.0}), "rope_scaling of type \"yarn\""),
            ("rope_scaling", json!({"type": "linear"}), "rope_scaling has no factor, expected a number"),
            ("rope_scaling", json!({"type": "linear", "factor": 0.0}), "a rotary embedding scaled by 0"),
            ("sliding_window", json!(8), "sliding_window is 8, which isn't supported"),
            ("attention_bias", json!(true), "attention_bias is true"),
            ("hidden_size", json!("wide"), "hidden_size is \"wide\", expected a whole number"),
            ("num_key_value_heads", json!(3), "4 heads can't share 3 key-value heads evenly"),
            ("hidden_size", Value::Null, "hidden_size is missing"),
            ("hidden_size", json!(u64::MAX), "hidden_size is"),
            ("num_hidden_layers", json!(1u64 << 23), "n_layers is 8388608, expected at most 4096"),
            ("vocab_size", json!(1u64 << 60), "vocab_size is 1152921504606846976, expected at most 16777216"),
        ] {
            let mut json = good.clone();
            if key == "sliding_window" {
                json["model_type"] = json!("llama");
            }
            json[key] = value;
            let error = config_from_json("m/config.json", &json).expect_err("refused").to_string();
            assert!(error.contains(expect) && error.starts_with("m/config.json"), "{error}");
        }
    }
}
