//! The `hearth` binary: arguments, terminal, exit codes. Each command is a thin call into a library.
#![forbid(unsafe_code)]

mod beams;
mod commands;
mod failure;
mod interrupt;
mod lines;
mod model;
mod preview;
mod profile_table;
mod report;
mod speculation;
mod terminal;
mod training;

use clap::{Args, Parser, Subcommand};
use commands::{
    answer, bench, chat, classify, convert, doctor, embed, eval, finetune, generate, get, key, merge,
    pretrain, quickstart, serve, tag, tokenizer,
};
use std::process::ExitCode;
use terminal::Terminal;

/// The whole life of a language model on your own machine.
#[derive(Parser)]
#[command(name = "hearth", version, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Flags that every command takes.
#[derive(Args)]
struct Global {
    /// Print one JSON object on the last line of stdout
    #[arg(long, global = true)]
    json: bool,
    /// Threads to compute with [default: one a core]
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=256))]
    threads: Option<u64>,
    /// Decides every random draw
    #[arg(long, global = true, value_name = "S")]
    seed: Option<u64>,
    /// Print no progress
    #[arg(long, short, global = true)]
    quiet: bool,
}

#[derive(Subcommand)]
enum Command {
    Quickstart(quickstart::Quickstart),
    Get(get::Get),
    Tokenizer(tokenizer::Tokenizer),
    Pretrain(pretrain::Pretrain),
    Finetune(Box<finetune::Finetune>),
    Generate(Box<generate::Generate>),
    Chat(chat::Chat),
    Embed(embed::Embed),
    Classify(classify::Classify),
    Tag(tag::Tag),
    Answer(answer::Answer),
    Eval(eval::Eval),
    Convert(convert::Convert),
    Merge(merge::Merge),
    Quantize(convert::Quantize),
    Serve(serve::Serve),
    Key(key::KeyCommand),
    Bench(bench::Bench),
    Doctor(doctor::Doctor),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let Global { json, threads, seed, quiet } = cli.global;
    if let Some(threads) = threads {
        hearth_kernel::pool::set_threads(threads as usize);
        hearth_tokenizer::set_threads(threads as usize);
    }
    let terminal = Terminal::new(json, quiet);
    let result = interrupt::install().and_then(|()| match cli.command {
        Command::Quickstart(command) => command.run(&terminal, seed),
        Command::Get(command) => command.run(&terminal),
        Command::Tokenizer(command) => command.run(&terminal),
        Command::Pretrain(command) => command.run(&terminal, seed),
        Command::Finetune(command) => command.run(&terminal, seed),
        Command::Generate(command) => command.run(&terminal, seed),
        Command::Chat(command) => command.run(&terminal, seed),
        Command::Embed(command) => command.run(&terminal),
        Command::Classify(command) => command.run(&terminal),
        Command::Tag(command) => command.run(&terminal),
        Command::Answer(command) => command.run(&terminal),
        Command::Eval(command) => command.run(&terminal),
        Command::Convert(command) => command.run(&terminal),
        Command::Merge(command) => command.run(&terminal),
        Command::Quantize(command) => command.run(&terminal),
        Command::Serve(command) => command.run(&terminal),
        Command::Key(command) => command.run(&terminal),
        Command::Bench(command) => command.run(&terminal, seed),
        Command::Doctor(command) => command.run(&terminal),
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failure::report(&error),
    }
}
