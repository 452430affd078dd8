//! The command line, with an example for every command.

use std::path::PathBuf;

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

/// An edge gateway that serves Istio manifests from files, without a control plane.
#[derive(Debug, Parser)]
#[command(
    name = "pingress",
    version,
    after_help = "Try `pingress demo`, then `pingress run --config FOLDER`."
)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve the manifests in files and folders, following every change.
    #[command(after_help = "Example:\n  pingress run --config manifests/ --settings pingress.yaml")]
    Run(Run),
    /// Replace the running gateway by the program that now lies in its place, without losing a
    /// request.
    #[command(
        after_help = "The running gateway starts the new program with its own arguments. If that cannot serve the\nsame, the old one serves on and the reason is printed.\n\nExit codes: 0 the new program serves, 2 the old one still does.\n\nExample:\n  install pingress /usr/local/bin/pingress && pingress upgrade --settings pingress.yaml"
    )]
    Upgrade(Upgrade),
    /// Say what is wrong with manifests: file, line, field and what to change.
    #[command(
        after_help = "Exit codes: 0 no errors, 1 errors found, 2 could not run.\n\nExamples:\n  pingress check manifests/\n  pingress check --format json manifests/ | jq '.findings[].code'"
    )]
    Check(Check),
    /// Say what happens to a request: which rule wins, why the others do not, what is sent where.
    #[command(
        after_help = "Examples:\n  pingress explain manifests/ http://shop.example.com/cart\n  pingress explain manifests/ http://shop.example.com/cart -X POST -H 'end-user: jason'\n  pingress explain --admin 127.0.0.1:15000 http://shop.example.com/cart"
    )]
    Explain(Explain),
    /// Print the effective routing table.
    #[command(after_help = "Example:\n  pingress routes manifests/")]
    Routes(Routes),
    /// Print every key of the settings file with its default and meaning.
    #[command(
        after_help = "Examples:\n  pingress settings | grep limits\n  pingress settings --format yaml > pingress.yaml"
    )]
    Settings(Settings),
    /// Start three small origins and a gateway in front of them, and say what to try.
    #[command(after_help = "Example:\n  pingress demo --port 8080")]
    Demo(Demo),
    /// Print a completion script for a shell.
    #[command(
        after_help = "Example:\n  pingress completions bash > /etc/bash_completion.d/pingress"
    )]
    Completions { shell: Shell },
}

/// How results are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    #[default]
    Text,
    Json,
}

/// How manifests are read and judged, the same for every command.
#[derive(Debug, Default, Args)]
pub struct Reading {
    /// Settings file; `pingress settings` lists its keys.
    #[arg(long, value_name = "FILE")]
    pub settings: Option<PathBuf>,
    /// Namespace of objects that name none.
    #[arg(long, value_name = "NAMESPACE", default_value = "default")]
    pub namespace: String,
}

#[derive(Debug, Args)]
pub struct Run {
    /// Manifest files and folders; folders are read with everything below them.
    #[arg(long, value_name = "PATH", required = true, num_args = 1..)]
    pub config: Vec<PathBuf>,
    #[command(flatten)]
    pub reading: Reading,
    /// Serve what can be read although a file cannot be parsed.
    #[arg(long)]
    pub start_partial: bool,
    /// Take the ports over from the gateway that runs with the same settings, without closing one.
    #[arg(long)]
    pub upgrade: bool,
}

#[derive(Debug, Args)]
pub struct Upgrade {
    /// Settings file of the running gateway.
    #[arg(long, value_name = "FILE")]
    pub settings: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct Check {
    /// Manifest files and folders.
    #[arg(value_name = "PATH", required = true)]
    pub paths: Vec<PathBuf>,
    #[command(flatten)]
    pub reading: Reading,
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

#[derive(Debug, Args)]
pub struct Explain {
    /// Manifest files and folders (none with --admin), then the URL.
    #[arg(value_name = "PATH... URL", required = true)]
    pub paths_and_url: Vec<String>,
    /// Method of the request.
    #[arg(
        short = 'X',
        long = "method",
        value_name = "METHOD",
        default_value = "GET"
    )]
    pub method: String,
    /// A header of the request; may be repeated.
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    pub headers: Vec<String>,
    /// Ask the running gateway with this admin address instead of reading files.
    #[arg(long, value_name = "ADDRESS")]
    pub admin: Option<String>,
    /// List every losing candidate, however many there are.
    #[arg(long)]
    pub all: bool,
    #[command(flatten)]
    pub reading: Reading,
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

#[derive(Debug, Args)]
pub struct Routes {
    /// Manifest files and folders.
    #[arg(value_name = "PATH", required = true)]
    pub paths: Vec<PathBuf>,
    #[command(flatten)]
    pub reading: Reading,
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

/// How settings are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum SettingsFormat {
    #[default]
    Text,
    Json,
    /// A settings file with every key at its default.
    Yaml,
}

#[derive(Debug, Args)]
pub struct Settings {
    #[arg(long, value_enum, default_value_t)]
    pub format: SettingsFormat,
}

#[derive(Debug, Args)]
pub struct Demo {
    /// Port of the gateway on 127.0.0.1.
    #[arg(long, default_value_t = 8080)]
    pub port: u16,
}

/// The command line as clap sees it, for completions.
pub fn command() -> clap::Command {
    Arguments::command()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        command().debug_assert();
    }

    #[test]
    fn every_command_has_an_example() {
        for sub in command().get_subcommands() {
            let help = sub
                .get_after_help()
                .map(ToString::to_string)
                .unwrap_or_default();
            assert!(help.contains("Example"), "{}", sub.get_name());
        }
    }
}
