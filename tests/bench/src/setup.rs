//! What a run is measured of: which programs, how many processes, which settings.

use std::{
    env,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

/// A side of a pair, or what is measured without one.
#[derive(Debug, Clone)]
pub(crate) struct Side {
    /// As it was written; `-` is this build.
    pub(crate) label: String,
    /// The binary of Guichet.
    pub(crate) guichet: PathBuf,
    /// This program, or another build's: it plays the roles of sagas that do nothing.
    pub(crate) bench: PathBuf,
    /// Settings of the roles.
    pub(crate) settings: Vec<(String, String)>,
}

impl Side {
    /// This build, with what the environment says.
    pub(crate) fn ours() -> Result<Self> {
        let bench = env::current_exe().context("cannot find this program's own file")?;
        Ok(Self {
            label: "-".to_owned(),
            guichet: bench.with_file_name("guichet"),
            bench,
            settings: Vec::new(),
        })
    }

    /// Reads one: `-`, a path, `NAME=VALUE`, or several of these with commas between.
    pub(crate) fn read(text: &str) -> Result<Self> {
        let mut side = Self::ours()?;
        text.clone_into(&mut side.label);
        for part in text.split(',').filter(|part| !matches!(*part, "" | "-")) {
            match part.split_once('=') {
                Some((name, value)) if name.starts_with("GUICHET_") => {
                    side.settings.push((name.to_owned(), value.to_owned()));
                }
                Some((name, _)) => bail!("{name} is no setting: they begin with GUICHET_"),
                None => side.use_build(Path::new(part))?,
            }
        }
        Ok(side)
    }

    fn use_build(&mut self, guichet: &Path) -> Result<()> {
        let bench = guichet.with_file_name("bench");
        for file in [guichet, &bench] {
            if !file.is_file() {
                bail!("there is no {}", file.display());
            }
        }
        self.guichet = guichet.to_owned();
        self.bench = bench;
        Ok(())
    }
}

/// How the steps are spread over processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Workers {
    /// One process works on every step.
    AllInOne,
    /// So many processes for each step, each working on that one only.
    OfEachStep(usize),
}

/// Where mails go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mail {
    /// One file each.
    Files,
    /// By SMTP to a server that takes all of them.
    Server,
}

/// What is played.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cast {
    /// Guichet: every role.
    Selling,
    /// An orchestrator and workers of five steps that do nothing.
    NoOps,
}

/// The processes of one run.
#[derive(Debug, Clone)]
pub(crate) struct Setup {
    pub(crate) side: Side,
    pub(crate) cast: Cast,
    pub(crate) orchestrators: usize,
    pub(crate) workers: Workers,
    /// Whether the provider tells what happens to payments.
    pub(crate) webhooks: bool,
    pub(crate) mail: Mail,
    /// How much longer each request to the provider takes.
    pub(crate) provider_ms: u32,
}

impl Setup {
    /// One process of each role, and nothing that is not needed to sell a ticket.
    pub(crate) fn plain(side: &Side) -> Self {
        Self {
            side: side.clone(),
            cast: Cast::Selling,
            orchestrators: 1,
            workers: Workers::AllInOne,
            webhooks: false,
            mail: Mail::Files,
            provider_ms: 0,
        }
    }

    /// What differs from one run to another, in words.
    pub(crate) fn words(&self) -> String {
        let workers = match self.workers {
            Workers::AllInOne => "1 worker of all steps".to_owned(),
            Workers::OfEachStep(each) => format!("{each} workers of each step"),
        };
        let mut words = format!("{} orchestrators, {workers}", self.orchestrators);
        if self.cast == Cast::NoOps {
            return words + ", five steps that do nothing";
        }
        words += match self.webhooks {
            true => ", provider's webhooks on",
            false => ", provider's webhooks off",
        };
        words += match self.mail {
            Mail::Files => ", mails as files",
            Mail::Server => ", mails by SMTP",
        };
        words + &format!(", provider's requests {} ms longer", self.provider_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_side_is_a_build_or_settings() {
        let plain = Side::read("-").expect("sound");
        assert!(plain.settings.is_empty());
        let two = Side::read("GUICHET_A_B=1,GUICHET_C_D=x=y").expect("sound");
        assert_eq!(two.settings[1], ("GUICHET_C_D".into(), "x=y".into()));
        assert_eq!(two.guichet, plain.guichet);
        assert!(Side::read("PATH=x").is_err());
        assert!(Side::read("/nowhere/guichet").is_err());
    }
}
