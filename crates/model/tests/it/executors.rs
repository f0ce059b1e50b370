//! The two executors run one description: training's tape and the runner with its cache must agree,
//! and the runner must give the same bits however the tokens are cut up.

use hearth_kernel::activation::Activation;
use hearth_model::config::Sliding;
use hearth_model::runner::MAX_ROWS;
use hearth_model::tape::{TokenBatch, Trainable};
use hearth_model::{
    CacheType, Decoder, DecoderConfig, Family, Feed, Logits, ModelError, RopeScaling, Runner, Weights,
};

const V: usize = 61;

/// Three blocks of an odd width; the native families share key-value heads.
pub(crate) fn config(family: Family, context: usize) -> DecoderConfig {
    if family.is_gpt() {
        return DecoderConfig { family, ..DecoderConfig::gpt2(V, 36, 3, 3, context) };
    }
    DecoderConfig {
        family,
        n_heads: 4,
        n_kv_heads: 2,
        head_dim: 10,
        tied_head: false,
        biases: family == Family::Qwen2,
        activation: if family == Family::Gemma3 { Activation::GeluTanh } else { Activation::Silu },
        query_scalar: (family == Family::Gemma3).then_some(10.0),
        sliding: (family == Family::Gemma3).then_some(Sliding { window: 7, every: 6, rope_theta: 1e4 }),
        ..DecoderConfig::native(V, 36, 3, context)
    }
}

/// Windows in every block, and frequencies that are scaled in each way that has words in both formats.
pub(crate) fn stretched() -> Vec<DecoderConfig> {
    let llama = config(Family::Llama, 64);
    let sliding = Some(Sliding { window: 5, every: Sliding::ALL, rope_theta: 1e4 });
    let linear = Some(RopeScaling::Linear { factor: 2.5 });
    vec![
        DecoderConfig { rope_scaling: Some(RopeScaling::llama3(8.0, 64)), ..llama.clone() },
        DecoderConfig { sliding, rope_scaling: linear.clone(), ..llama },
        DecoderConfig { rope_scaling: linear, ..config(Family::Gemma3, 64) },
    ]
}

/// Random weights, large enough that every operation shows in the logits; no vector stays at 0 or 1.
pub(crate) fn random(config: &DecoderConfig) -> (Decoder, Weights) {
    let decoder = Decoder::new(config.clone()).expect("valid");
    let mut weights = Weights::init(&decoder, 3, false);
    for (i, tensor) in weights.tensors_mut().iter_mut().enumerate() {
        let vector = tensor.shape().len() == 1;
        for (j, x) in tensor.data_mut().iter_mut().enumerate() {
            *x = if vector { *x + 0.3 * ((i * 31 + j * 17) % 13) as f32 / 13.0 - 0.1 } else { *x * 8.0 };
        }
    }
    (decoder, weights)
}

pub(crate) fn tokens(count: usize, salt: usize) -> Vec<u32> {
    (0..count).map(|i| ((i * i * 7 + i * 13 + salt * 29) % V) as u32).collect()
}

/// The logits of every token, fed in parts of the given length.
pub(crate) fn fed(runner: &mut Runner, tokens: &[u32], part: usize) -> Vec<f32> {
    let mut sequence = runner.sequence(tokens.len()).expect("fits");
    let mut all = Vec::new();
    for tokens in tokens.chunks(part) {
        let mut feeds = [Feed { sequence: &mut sequence, tokens, logits: Logits::All }];
        all.extend_from_slice(runner.run(&mut feeds).expect("runs"));
    }
    all
}

/// The logits of every token of `tokens`, fed one by one beside sequences of other lengths.
fn fed_in_company(runner: &mut Runner, tokens: &[u32]) -> Vec<f32> {
    let mut ours = runner.sequence(tokens.len()).expect("fits");
    let mut others: Vec<_> = (0..3).map(|_| runner.sequence(tokens.len() + 9).expect("fits")).collect();
    let company: Vec<Vec<u32>> = (0..3).map(|i| self::tokens(i + 1, i + 5)).collect();
    let mut all = Vec::new();
    for (step, token) in tokens.chunks(1).enumerate() {
        let mut feeds: Vec<Feed> = others
            .iter_mut()
            .zip(&company)
            .take(step % 4)
            .map(|(sequence, tokens)| Feed { sequence, tokens, logits: Logits::None })
            .collect();
        let at = step % (feeds.len() + 1);
        feeds.insert(at, Feed { sequence: &mut ours, tokens: token, logits: Logits::Last });
        all.extend_from_slice(runner.run(&mut feeds).expect("runs"));
    }
    all
}

fn same_bits(what: &str, a: &[f32], b: &[f32]) {
    assert_eq!(a.len(), b.len(), "{what}");
    let differing = a.iter().zip(b).position(|(a, b)| a.to_bits() != b.to_bits());
    assert_eq!(differing, None, "{what}: the index of the first logit that differs");
}

fn check(config: &DecoderConfig, count: usize) {
    let name = config.family.model_type();
    let (decoder, weights) = random(config);
    let tokens = tokens(count, 0);
    let batch = TokenBatch::causal(tokens.clone(), 1);
    let expect = Trainable::new(decoder.clone()).logits(&weights, &batch).expect("runs");

    let mut runner = Runner::new(decoder, &weights).expect("packs");
    let whole = fed(&mut runner, &tokens, MAX_ROWS);
    let spread = whole.iter().fold(0.0f32, |a, x| a.max(x.abs()));
    assert!(spread > 1.0, "{name}: logits up to {spread} would hide an error");
    for (i, (got, expect)) in whole.iter().zip(expect.data()).enumerate() {
        assert!((got - expect).abs() < 1e-4, "{name}: token {}: {got}, the tape says {expect}", i / V);
    }
    assert_eq!(whole.len(), expect.len());
    for part in [1, 2, 7, 16, 33] {
        same_bits(&format!("{name} in parts of {part}"), &fed(&mut runner, &tokens, part), &whole);
    }
    same_bits(&format!("{name} beside others"), &fed_in_company(&mut runner, &tokens), &whole);

    let mut sequence = runner.sequence(count).expect("fits");
    let last = runner.prefill(&mut sequence, &tokens).expect("runs").to_vec();
    same_bits(&format!("{name} prefilled"), &last, &whole[(count - 1) * V..]);
}

#[test]
fn executors_agree_on_every_family() {
    for family in Family::ALL {
        check(&config(family, 128), 37);
    }
    for config in stretched() {
        check(&config, 37);
    }
}

#[test]
fn executors_agree_without_biases_and_with_each_activation() {
    for activation in [Activation::GeluErf, Activation::Relu, Activation::Relu2] {
        check(&DecoderConfig { activation, biases: false, ..config(Family::Gpt2, 64) }, 19);
    }
    check(&DecoderConfig { tied_head: true, n_kv_heads: 4, ..config(Family::Qwen3, 64) }, 19);
}

#[test]
fn a_prompt_longer_than_one_pass_goes_in_parts() {
    check(&config(Family::Gpt2, 1400), MAX_ROWS + 45);
    check(&config(Family::Llama, 1400), 2 * MAX_ROWS + 1);
}

#[test]
fn narrower_caches_change_little_and_no_row_by_its_company() {
    for family in [Family::Gpt2, Family::Gemma3, Family::Qwen3] {
        let config = config(family, 128);
        let (decoder, weights) = random(&config);
        let tokens = tokens(75, 0);
        let mut runner = Runner::new(decoder, &weights).expect("packs");
        let exact = fed(&mut runner, &tokens, MAX_ROWS);
        for (cache_type, most) in [(CacheType::F16, 0.01), (CacheType::Q8_0, 0.15)] {
            let name = format!("{} with {}", config.family.model_type(), cache_type.name());
            runner.set_cache_type(cache_type);
            let whole = fed(&mut runner, &tokens, MAX_ROWS);
            let off = exact.iter().zip(&whole).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(off > 0.0 && off < most, "{name}: off by {off}");
            for part in [1, 7, 33] {
                same_bits(&format!("{name} in parts of {part}"), &fed(&mut runner, &tokens, part), &whole);
            }
            same_bits(&format!("{name} beside others"), &fed_in_company(&mut runner, &tokens), &whole);
            let mut first = runner.sequence(40).expect("fits");
            runner.prefill(&mut first, &tokens[..40]).expect("runs");
            let mut fork = first.clone();
            runner.reserve(&mut fork, 75).expect("fits");
            let last = runner.prefill(&mut fork, &tokens[40..]).expect("runs");
            same_bits(&format!("{name} in a fork"), last, &whole[74 * V..]);
        }
    }
}

#[test]
fn packed_documents_are_as_if_alone() {
    for family in [Family::Gpt2, Family::Qwen3] {
        let (decoder, weights) = random(&config(family, 64));
        let model = Trainable::new(decoder);
        let (a, b) = (tokens(9, 1), tokens(14, 2));
        let segments: Vec<u32> = a.iter().map(|_| 0).chain(b.iter().map(|_| 1)).collect();
        let positions = (0..9).chain(0..14).collect();
        let both = TokenBatch::packed([a.clone(), b.clone()].concat(), 1, &segments, positions);
        let packed = model.logits(&weights, &both).expect("runs");
        let alone = [a, b].map(|t| model.logits(&weights, &TokenBatch::causal(t, 1)).expect("runs"));
        for (got, expect) in packed.data().iter().zip(alone.iter().flat_map(|t| t.data())) {
            assert!((got - expect).abs() < 1e-4, "{family:?}: {got}, alone {expect}");
        }
    }
}

#[test]
fn a_fork_and_a_truncated_sequence_go_on_as_the_whole_does() {
    let (decoder, weights) = random(&config(Family::Qwen3, 64));
    let mut runner = Runner::new(decoder, &weights).expect("packs");
    let (prompt, end) = (tokens(12, 3), tokens(5, 4));
    let whole = fed(&mut runner, &[prompt.clone(), end.clone()].concat(), 17);
    let expect = &whole[16 * V..];

    let mut first = runner.sequence(64).expect("fits");
    runner.prefill(&mut first, &prompt).expect("runs");
    let mut fork = first.clone();
    runner.prefill(&mut first, &tokens(9, 9)).expect("runs");
    same_bits("fork", runner.prefill(&mut fork, &end).expect("runs"), expect);
    first.truncate(prompt.len());
    same_bits("truncated", runner.prefill(&mut first, &end).expect("runs"), expect);
    assert_eq!((first.len(), fork.len()), (17, 17));
}

#[test]
fn what_does_not_fit_is_refused() {
    let (decoder, weights) = random(&config(Family::Gpt2, 300));
    let mut runner = Runner::new(decoder, &weights).expect("packs");
    let check = |result: Result<&[f32], ModelError>, expect: &str| {
        assert_eq!(result.expect_err("refused").to_string(), expect);
    };
    assert_eq!(
        runner.sequence(301).expect_err("refused").to_string(),
        "301 tokens don't fit: the model has room for 300\nhint: ask for fewer tokens, or shorten the prompt"
    );
    let mut sequence = runner.sequence(3).expect("fits");
    check(
        runner.prefill(&mut sequence, &[1, 2, 3, 4]),
        "4 tokens don't fit: the sequence has room for 3\nhint: ask for fewer tokens, or shorten the prompt",
    );
    check(
        runner.prefill(&mut sequence, &[1, V as u32]),
        "token id 61 is outside the model's vocabulary of 61\nhint: was the text encoded with another model's \
         tokenizer?",
    );
    assert_eq!(sequence.len(), 0, "a refused feed leaves the sequence as it was");
    let mut long = runner.sequence(300).expect("fits");
    let tokens = tokens(MAX_ROWS + 1, 0);
    check(
        runner.run(&mut [Feed { sequence: &mut long, tokens: &tokens, logits: Logits::Last }]),
        "257 tokens don't fit: one pass has room for 256\nhint: feed the prompt in parts",
    );
}
