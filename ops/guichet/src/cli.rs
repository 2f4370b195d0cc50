//! The command line: what there is and how it explains itself.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;

use crate::{
    config::CONFIG_VARIABLE,
    operator::{
        act, attention, audit, catalogue::Load, intervention::By, reconcile::Reconcile, review,
        saga, versions,
    },
    output::Format,
    roles::worker::Name,
    up::Up,
};

const EXAMPLES: &str = "\
Examples:
  guichet up                        everything on this machine, until Ctrl-C
  guichet migrate                   bring the database up to date
  guichet gateway                   one role, configured by GUICHET_… or --config
  guichet config print              what is configured, secrets left out

Exit codes: 0 fine, 1 failed, 2 wrong usage or configuration, 3 not found, 4 conflict";

/// Sells tickets through durable sagas: every role and every operator command
#[derive(Debug, Parser)]
#[command(
    name = "guichet",
    version,
    max_term_width = 100,
    arg_required_else_help = true,
    after_help = EXAMPLES
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command understands.
#[derive(Debug, Args)]
pub(crate) struct Global {
    /// A TOML file with the configuration; GUICHET_… in the environment goes first
    #[arg(long, global = true, value_name = "FILE", env = CONFIG_VARIABLE)]
    pub(crate) config: Option<PathBuf>,

    /// How a command writes its answer
    #[arg(
        short,
        long,
        global = true,
        value_name = "FORMAT",
        default_value = "table"
    )]
    pub(crate) output: Format,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start private servers and everything on top, and keep it running until Ctrl-C
    Up(Up),
    /// Role: the public HTTP API
    Gateway,
    /// Role: drives the orders' sagas
    Orchestrator,
    /// Role: does the work of some steps
    Worker {
        /// Which ones
        #[arg(required = true, value_name = "STEP")]
        steps: Vec<Name>,
    },
    /// Role: the payment-provider simulator
    Psp,
    /// Bring the database's schema and definitions up to date
    Migrate,
    /// What is on sale
    #[command(subcommand)]
    Catalogue(Catalogue),
    /// Sagas: what an order is at and what happened to it
    #[command(subcommand)]
    Saga(Saga),
    /// Orders that are held for a person
    #[command(subcommand)]
    Review(Review),
    /// What people did: a log whose rows hold each other
    #[command(subcommand)]
    Audit(Audit),
    /// Ask the live database whether each promise holds; only reads
    Check,
    /// Hold the payment provider's list against our orders, and tell every difference
    Reconcile(Reconcile),
    /// Which life of the database this is: messages of another one are dropped
    #[command(subcommand)]
    Incarnation(Incarnation),
    /// What is configured
    #[command(subcommand)]
    Config(Config),
    /// Print a completion script
    ///
    /// For bash: `guichet completions bash > ~/.local/share/bash-completion/completions/guichet`
    Completions {
        /// The shell to write it for
        shell: Shell,
    },
}

/// `guichet incarnation …`
#[derive(Debug, Subcommand)]
pub(crate) enum Incarnation {
    /// The one that the database is in
    Show,
    /// Begin another one, after the database was brought back to an earlier point; every role ends, to be
    /// started again
    Renew(By),
}

/// `guichet catalogue …`
#[derive(Debug, Subcommand)]
pub(crate) enum Catalogue {
    /// Load the events on sale: all or nothing, and again without harm
    Load(Load),
}

/// `guichet saga …`
#[derive(Debug, Subcommand)]
pub(crate) enum Saga {
    /// List them, the newest first
    Ls(saga::List),
    /// One saga: its state, its timeline, and what is in force
    Show(saga::Show),
    /// Stop one for a while: nothing is decided about it, and nothing is lost
    Pause(act::Act),
    /// Let a paused one go on; the time of the pause does not count
    Resume(act::Act),
    /// Take one on that asks for a person, or give it back
    Take(attention::Take),
    /// Let one go on that was set aside because it could not be read or written
    Release(act::Act),
    /// Try again now what the saga asks a person about: failed undos, or a mail that keeps failing
    ///
    /// With --step and --input a person corrects what that step is given first: where a mail goes, or
    /// which payment is to be given back. Who corrected which fields is kept in the audit log and shown
    /// in the timeline; the values are not.
    Retry(act::Retry),
    /// Say that an effect was dealt with elsewhere, with evidence
    Resolve(act::Resolve),
    /// End an order that is not confirmed, and undo what it has begun
    Compensate(act::Act),
    /// Give a saga up with what it leaves in force; takes two people
    Abandon(act::Abandon),
    /// Move those in flight to another version of their definition, where that is safe
    Migrate(versions::Migrate),
    /// Withdraw a version of a definition: no order runs by it any more, and those that are not confirmed
    /// are ended and undone; takes two people
    Withdraw(versions::Withdraw),
}

/// `guichet review …`
#[derive(Debug, Subcommand)]
pub(crate) enum Review {
    /// List them, the longest waiting first
    Ls(review::List),
    /// Let an order go on
    Approve(review::Decide),
    /// End an order
    Reject(review::Decide),
}

/// `guichet audit …`
#[derive(Debug, Subcommand)]
pub(crate) enum Audit {
    /// Walk the chain; fail at the first row that was changed, removed or put in
    Verify,
    /// List what people did, newest first
    Ls(audit::List),
}

/// `guichet config …`
#[derive(Debug, Subcommand)]
pub(crate) enum Config {
    /// Print the whole configuration as it takes effect, secrets as ***
    Print,
}
