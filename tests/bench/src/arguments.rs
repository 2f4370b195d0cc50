//! The command line.

use std::path::PathBuf;

use clap::{Parser, ValueEnum, builder::RangedU64ValueParser, value_parser};

const EXAMPLES: &str = "\
Examples:
  ./ops/bench                              every benchmark but soak, one after the other
  ./ops/bench orders hot --json now.json   two of them, and their results for programs
  ./ops/bench orders --compare before.json the same with its ratios to an earlier run
  ./ops/bench orders --rate 500            so many a second, instead of the most that it can do
  ./ops/bench orders --pair - GUICHET_WORKER_BATCH_MAX=64 --runs 7
  ./ops/bench saga --pair ../old/target/release/guichet -

A pair is measured interleaved (A B, B A, A B …), each run with a database and processes of its own;
medians and their ratio are printed. A side is `-` (this build, nothing set), the path of
another build's `guichet` (its `bench` must lie beside it), settings NAME=VALUE, or several of these
separated by commas.";

/// Measures what orders, sagas and searches cost on this machine
#[derive(Debug, Parser)]
#[command(name = "bench", max_term_width = 100, after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// Which ones; all but soak if none is named
    #[arg(value_name = "NAME")]
    pub(crate) names: Vec<Name>,

    /// Write the results to this file, too
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,

    /// Show ratios to the results of an earlier run
    #[arg(long, value_name = "FILE", conflicts_with = "pair")]
    pub(crate) compare: Option<PathBuf>,

    /// Measure two alternatives interleaved
    #[arg(long, num_args = 2, value_names = ["A", "B"], allow_hyphen_values = true)]
    pub(crate) pair: Vec<String>,

    /// Runs of each side of a pair
    #[arg(long, value_name = "N", default_value_t = 5, requires = "pair",
          value_parser = RangedU64ValueParser::<usize>::new().range(1..=100))]
    pub(crate) runs: usize,

    /// Orders (of catalogue: requests) offered per second; without it the most that can be done is
    /// looked for first. Benchmarks that run at a share of the most take their share of this
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(2..=100_000))]
    pub(crate) rate: Option<u32>,

    /// How long each window is, in seconds; 1800 for soak unless given
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(1..=86_400))]
    pub(crate) seconds: Option<u32>,

    /// Connections to the gateway; as many requests can be under way
    #[arg(long, value_name = "N", default_value_t = 256,
          value_parser = RangedU64ValueParser::<usize>::new().range(1..=9_000))]
    pub(crate) connections: usize,

    /// Places of the event of `hot`
    #[arg(long, value_name = "N", default_value_t = 200_000,
          value_parser = value_parser!(i32).range(1..=10_000_000))]
    pub(crate) places: i32,

    /// Finished orders in the database of `grow`, one run each
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_values_t = [0, 1_000_000, 5_000_000])]
    pub(crate) finished: Vec<u64>,

    /// Where the roles keep their files
    #[arg(long, value_name = "DIR", default_value = ".guichet/bench")]
    pub(crate) dir: PathBuf,
}

impl Arguments {
    /// The benchmarks to run.
    pub(crate) fn names(&self) -> Vec<Name> {
        if self.names.is_empty() {
            let all = Name::value_variants().iter().copied();
            return all.filter(|name| *name != Name::Soak).collect();
        }
        self.names.clone()
    }

    /// The length of a window.
    pub(crate) fn seconds(&self) -> u32 {
        self.seconds.unwrap_or(60)
    }
}

/// A benchmark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Name {
    /// Orders over all events, until confirmed
    Orders,
    /// All on one offer; and until it is sold out
    Hot,
    /// Five steps that do nothing, in bulk and one by one
    Saga,
    /// 20 orders a second
    Latency,
    /// Half of the most
    Half,
    /// 10 % and 30 % of the cards are declined
    Undo,
    /// A payment provider that takes 300 ms
    SlowPay,
    /// 3 and 10 times the most, and what comes after
    Overload,
    /// With finished orders in the database
    Grow,
    /// Nobody orders
    Idle,
    /// 70 % of the most for half an hour
    Soak,
    /// Several orchestrators and workers
    Scale,
    /// Searches and events' pages
    Catalogue,
}

impl Name {
    /// As on the command line.
    pub(crate) fn label(self) -> String {
        let value = self.to_possible_value().expect("none is hidden");
        value.get_name().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Arguments::command().debug_assert();
        let parse = |line: &str| Arguments::try_parse_from(line.split(' '));
        let pair = parse("bench orders --pair - A=1 --runs 3").expect("sound");
        assert_eq!((pair.pair.len(), pair.runs), (2, 3));
        assert!(parse("bench orders --pair -").is_err());
        let all = parse("bench").map(|_| ());
        assert!(all.is_ok());
        assert!(
            !Arguments::parse_from(["bench"])
                .names()
                .contains(&Name::Soak)
        );
    }
}
