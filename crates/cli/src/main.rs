//! Serve, join, load-test and watch netstream servers from the command line.
//!
//! | module | what it is |
//! |---|---|
//! | [`args`], [`help`], [`units`], [`secrets`] | what the user says |
//! | [`demo`], [`serve`], [`join`], [`bots`] | the commands |
//! | [`token`] | keys and connect tokens, for back-ends |
//! | [`game`] | what they play |
//! | [`report`] | what came of it: sums, how hard it was, and whether anything happened that must not |
//! | [`lines`], [`output`], [`failure`] | what the user reads |
//! | [`drivers`], [`machine`], [`pace`], [`signals`], [`sockets`] | the machine |

#![forbid(unsafe_code)]

mod args;
mod bots;
mod demo;
mod drivers;
mod failure;
mod game;
mod help;
mod join;
mod lines;
mod machine;
mod output;
mod pace;
mod report;
mod secrets;
mod serve;
mod signals;
mod sockets;
mod token;
mod units;

use std::process::ExitCode;

use args::Command;
use failure::Failure;
use output::Output;
use signals::Stop;

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(failure) => {
            output::complain(&failure.to_string());
            failure.exit_code()
        }
    }
}

fn run() -> Result<ExitCode, Failure> {
    let command = args::parse(std::env::args_os().skip(1))?;
    let mut output = Output::default();
    match command {
        Command::Help(topic) => output.write(help::text(topic).as_bytes()),
        Command::Version => output.line(concat!("netstream ", env!("CARGO_PKG_VERSION"))),
        Command::Demo(args) => return demo::run(&args, &mut output, &Stop::on_signals()?),
        Command::Serve(args) => serve::run(args, &mut output, &Stop::on_signals()?)?,
        Command::Join(args) => join::run(args, &mut output, &Stop::on_signals()?)?,
        Command::Token(ask) => token::run(ask, &mut output)?,
        Command::Bots(args) => bots::run(args, &mut output, &Stop::on_signals()?)?,
    }
    Ok(ExitCode::SUCCESS)
}
