//! The commands: arguments in, text or JSON out, an exit code that means something.
//!
//! Exit codes: 0 all is well, 1 the input has errors, 2 the command could not run.

mod arguments;
mod check;
mod demo;
mod explain;
mod load;
mod origin;
mod routes;
mod run;
mod settings;
mod upgrade;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;

use arguments::{Arguments, Command};

/// The command could not run.
const COULD_NOT_RUN: u8 = 2;
/// The input has errors.
const HAS_ERRORS: u8 = 1;

/// Runs the command named on the command line.
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let asked = matches!(
                error.kind(),
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
            );
            // A closed pipe is no reason to fail: the reader has seen enough.
            let _ = error.print();
            return ExitCode::from(if asked { 0 } else { COULD_NOT_RUN });
        }
    };
    let outcome = match arguments.command {
        Command::Run(arguments) => run::run(arguments),
        Command::Upgrade(arguments) => upgrade::upgrade(&arguments),
        Command::Check(arguments) => check::check(&arguments),
        Command::Explain(arguments) => explain::explain(&arguments),
        Command::Routes(arguments) => routes::routes(&arguments),
        Command::Settings(arguments) => settings::settings(&arguments),
        Command::Demo(arguments) => demo::demo(&arguments),
        Command::Completions { shell } => {
            let mut out = Vec::new();
            clap_complete::generate(shell, &mut arguments::command(), "pingress", &mut out);
            print(&String::from_utf8_lossy(&out));
            Ok(ExitCode::SUCCESS)
        }
    };
    outcome.unwrap_or_else(|message| {
        eprintln!("pingress: {message}");
        ExitCode::from(COULD_NOT_RUN)
    })
}

/// Writes to standard output; a reader that has gone away is not an error.
fn print(text: &str) {
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}

/// What every command returns: an exit code, or why it could not run.
type Outcome = Result<ExitCode, String>;
