//! `config.json` of encoders in and out, as `transformers` writes it for `bert` and `eurobert`.

use crate::encoder::{EncoderConfig, EncoderFamily, EncoderIds, EuroBert};
use crate::error::ModelError;
use crate::hf::{ENCODERS, Fields, rope, round_trip};
use hearth_kernel::activation::Activation;
use serde_json::{Value, json};

/// Reads a configuration; `place` names the file in errors. Whether a BERT has a pooler, its tensors tell.
pub(crate) fn encoder_config_from_json(place: &str, json: &Value) -> Result<EncoderConfig, ModelError> {
    let fields = Fields { place, json };
    let config = match fields.text_or("model_type", "")? {
        "bert" => bert(&fields),
        "eurobert" => eurobert(&fields),
        other => Err(fields.error(format!(
            "model_type {other:?} isn't an encoder that runs here\nhint: {} are",
            ENCODERS.join(" and ")
        ))),
    }?;
    config.validate().map_err(|e| fields.error(e.to_string()))?;
    Ok(config)
}

fn bert(fields: &Fields) -> Result<EncoderConfig, ModelError> {
    fields.expect_flag("is_decoder", false)?;
    fields.expect_flag("add_cross_attention", false)?;
    let positions = fields.text_or("position_embedding_type", "absolute")?;
    if positions != "absolute" {
        return Err(fields.error(format!("position_embedding_type {positions:?} isn't supported")));
    }
    let activation = match fields.text_or("hidden_act", "gelu")? {
        "gelu" => Activation::GeluErf,
        "gelu_new" | "gelu_pytorch_tanh" => Activation::GeluTanh,
        "relu" => Activation::Relu,
        "silu" | "swish" => Activation::Silu,
        other => return Err(fields.error(format!("hidden_act {other:?} isn't known"))),
    };
    Ok(EncoderConfig {
        family: EncoderFamily::Bert,
        vocab_size: fields.size("vocab_size")?,
        hidden_size: fields.size("hidden_size")?,
        intermediate_size: fields.size("intermediate_size")?,
        n_layers: fields.size("num_hidden_layers")?,
        n_heads: fields.size("num_attention_heads")?,
        max_positions: fields.size("max_position_embeddings")?,
        n_types: fields.size_or("type_vocab_size", 2)?,
        norm_eps: fields.number_or("layer_norm_eps", 1e-12)?,
        activation,
        pooler: false,
    })
}

fn eurobert(fields: &Fields) -> Result<EncoderConfig, ModelError> {
    for name in ["attention_bias", "mlp_bias"] {
        fields.expect_flag(name, false)?;
    }
    let activation = fields.text_or("hidden_act", "silu")?;
    if activation != "silu" {
        return Err(fields.error(format!("hidden_act {activation:?} isn't supported, only \"silu\" is")));
    }
    let (rope_theta, scaling) = rope(fields)?;
    if let Some(scaling) = scaling {
        return Err(
            fields.error(format!("the rotary embedding is scaled by {scaling:?}, which isn't supported"))
        );
    }
    let (hidden_size, n_heads) = (fields.size("hidden_size")?, fields.size("num_attention_heads")?);
    let head_dim = hidden_size / n_heads.max(1);
    let given = fields.size_or("head_dim", head_dim)?;
    if given != head_dim {
        let problem = format!("head_dim is {given}, expected {hidden_size} / {n_heads} = {head_dim}");
        return Err(fields.error(problem));
    }
    let id = |name: &str| match fields.present(name).filter(|value| !value.is_array()) {
        Some(_) => {
            let id = fields.size(name)?;
            u32::try_from(id)
                .map(Some)
                .map_err(|_| fields.error(format!("{name} is {id}, expected a token id")))
        }
        None => Ok(None),
    };
    Ok(EncoderConfig {
        family: EncoderFamily::EuroBert(EuroBert {
            n_kv_heads: fields.size_or("num_key_value_heads", n_heads)?,
            rope_theta,
            tied_head: fields.flag_or("tie_word_embeddings", false)?,
            ids: EncoderIds {
                bos: id("bos_token_id")?,
                eos: id("eos_token_id")?,
                pad: id("pad_token_id")?,
                mask: id("mask_token_id")?,
            },
        }),
        vocab_size: fields.size("vocab_size")?,
        hidden_size,
        intermediate_size: fields.size("intermediate_size")?,
        n_layers: fields.size("num_hidden_layers")?,
        n_heads,
        max_positions: fields.size_or("max_position_embeddings", 8192)?,
        n_types: 0,
        norm_eps: fields.number_or("rms_norm_eps", 1e-5)?,
        activation: Activation::Silu,
        pooler: false,
    })
}

/// Writes a configuration, as `transformers` has it for `BertModel` or `EuroBertModel`; `dtype` is that of the
/// tensors.
pub(crate) fn encoder_config_to_json(config: &EncoderConfig, dtype: &str) -> Value {
    let mut json = match config.family {
        EncoderFamily::Bert => bert_to_json(config),
        EncoderFamily::EuroBert(own) => eurobert_to_json(config, &own),
    };
    json["architectures"] = json!([format!("{}Model", config.family.class_prefix())]);
    json["model_type"] = json!(config.family.model_type());
    json["vocab_size"] = json!(config.vocab_size);
    json["hidden_size"] = json!(config.hidden_size);
    json["intermediate_size"] = json!(config.intermediate_size);
    json["num_hidden_layers"] = json!(config.n_layers);
    json["num_attention_heads"] = json!(config.n_heads);
    json["max_position_embeddings"] = json!(config.max_positions);
    json["initializer_range"] = json!(0.02);
    json["torch_dtype"] = json!(dtype);
    json
}

fn bert_to_json(config: &EncoderConfig) -> Value {
    let activation = match config.activation {
        Activation::GeluTanh => "gelu_pytorch_tanh",
        Activation::Relu => "relu",
        Activation::Silu => "silu",
        _ => "gelu",
    };
    json!({
        "type_vocab_size": config.n_types,
        "layer_norm_eps": round_trip(config.norm_eps),
        "hidden_act": activation,
        "position_embedding_type": "absolute",
        "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1,
    })
}

fn eurobert_to_json(config: &EncoderConfig, own: &EuroBert) -> Value {
    let theta = round_trip(own.rope_theta);
    let mut json = json!({
        "num_key_value_heads": own.n_kv_heads,
        "head_dim": config.head_dim(),
        "rms_norm_eps": round_trip(config.norm_eps),
        // Where releases before 5 of `transformers` look, and where later ones do.
        "rope_theta": theta,
        "rope_parameters": { "rope_type": "default", "rope_theta": theta },
        "hidden_act": "silu",
        "attention_bias": false,
        "attention_dropout": 0.0,
        "mlp_bias": false,
        "tie_word_embeddings": own.tied_head,
        "classifier_pooling": "late",
        "bos_token_id": own.ids.bos,
        "eos_token_id": own.ids.eos,
        "pad_token_id": own.ids.pad,
    });
    // The one that can't be null there.
    if let Some(mask) = own.ids.mask {
        json["mask_token_id"] = json!(mask);
    }
    json
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configurations_survive_the_round_trip() {
        let mut native = EncoderConfig::native(97, 256, 2, 32);
        let EncoderFamily::EuroBert(own) = &mut native.family else { panic!("a eurobert") };
        own.n_kv_heads = 2;
        own.ids = EncoderIds { bos: Some(2), eos: Some(3), pad: Some(0), mask: Some(4) };
        let mut relu = EncoderConfig::bert(97, 48, 2, 3, 32);
        relu.activation = Activation::Relu;
        for config in [native, relu, EncoderConfig::native(97, 64, 1, 8)] {
            let json = encoder_config_to_json(&config, "float32");
            assert_eq!(encoder_config_from_json("config.json", &json).expect("reads back"), config);
        }
    }

    #[test]
    fn what_is_not_understood_is_refused_by_name() {
        let good = encoder_config_to_json(&EncoderConfig::native(97, 256, 2, 32), "float32");
        for (key, value, expect) in [
            ("model_type", json!("roberta"), "model_type \"roberta\""),
            ("rope_parameters", json!({"rope_type": "linear", "factor": 2.0}), "scaled by Linear"),
            ("mlp_bias", json!(true), "mlp_bias is true"),
            ("head_dim", json!(32), "head_dim is 32, expected 256 / 4 = 64"),
            ("hidden_act", json!("gelu"), "hidden_act \"gelu\" isn't supported"),
            ("num_key_value_heads", json!(3), "4 heads can't share 3 key-value heads evenly"),
            ("pad_token_id", json!(1u64 << 40), "pad_token_id is 1099511627776, expected a token id"),
        ] {
            let mut json = good.clone();
            json[key] = value;
            let error = encoder_config_from_json("m/config.json", &json).expect_err("refused").to_string();
            assert!(error.contains(expect) && error.starts_with("m/config.json"), "{error}");
        }
    }
}
