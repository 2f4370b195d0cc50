//! The command line: what there is and how it explains itself.

use clap::{Parser, Subcommand};
use clap_complete::Shell;

use crate::up::Up;

/// Sells tickets through durable sagas: every role and every operator command
#[derive(Debug, Parser)]
#[command(
    name = "guichet",
    version,
    max_term_width = 100,
    arg_required_else_help = true
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start private servers and everything on top, and keep it running until Ctrl-C
    Up(Up),
    /// Print a completion script
    ///
    /// For bash: `guichet completions bash > ~/.local/share/bash-completion/completions/guichet`
    Completions {
        /// The shell to write it for
        shell: Shell,
    },
}
