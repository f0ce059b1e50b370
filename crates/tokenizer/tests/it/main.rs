//! Integration tests of the tokenizer, in one binary.

mod chars;
mod encode;
mod gguf;
mod hostile;
mod load;
mod pretokenize;
mod stream;
mod train;
mod words;

use hearth_tokenizer::{BpeTrainer, PreTokenizer, Tokenizer};

/// English, Chinese, emoji, digits and code, enough to give every kind of token.
const TEXT: &str = "The cat sat on the mat, and the cat's hat was on the mat too. It's 2024 now; 12345 cats.\n\n\
    床前明月光，疑是地上霜。舉頭望明月，低頭思故鄉。床前明月光。\n🎉🎉 party 👩‍👩‍👧 naïve café\tfn main() { let x = 1; }\r\n";

fn texts(of: &[&str]) -> impl Iterator<Item = Result<String, std::io::Error>> {
    of.iter().map(|text| Ok(text.to_string())).collect::<Vec<_>>().into_iter()
}

fn trained(pre: PreTokenizer) -> Tokenizer {
    let mut trainer = BpeTrainer::new(340, pre);
    trainer.special_tokens.push("<|im start|>".to_string());
    trainer.train(texts(&[TEXT, TEXT]), |_| {}).unwrap()
}
