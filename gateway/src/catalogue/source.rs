//! What a catalogue is made from: three tables of venues, sports and sessions, read and checked as a
//! whole before anything is done with them.

use chrono::{DateTime, FixedOffset};
use serde::Deserialize;
use std::{
    collections::{HashMap, HashSet},
    fmt,
    path::Path,
};

/// Problems that a [`SourceError`] lists at most; more are only counted.
const PROBLEMS_SHOWN: usize = 20;
/// Rows of one table at most, far above any Games: a wrong file is refused, not loaded for hours.
const ROWS_MAX: usize = 20_000;

/// A place where sessions are held.
#[derive(Clone, PartialEq, Debug, Deserialize)]
pub struct Venue {
    /// Three letters or digits.
    pub code: String,
    /// `olympic` rows are read, others skipped: one place may be another venue for other Games.
    games: String,
    /// English name; empty when no session is held there.
    pub name_en: String,
    /// French name.
    pub name_fr: String,
    /// The town.
    pub city: String,
    /// IANA time zone.
    pub time_zone: String,
    /// Degrees north.
    #[serde(rename = "lat")]
    pub latitude: f64,
    /// Degrees east.
    #[serde(rename = "lon")]
    pub longitude: f64,
    /// Places that each session there sells; 0 where none are sold.
    pub capacity: Option<u32>,
}

/// A sport, or a ceremony.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
pub struct Sport {
    /// Three letters or digits.
    pub code: String,
    /// English name.
    #[serde(rename = "name")]
    pub name_en: String,
    /// French name.
    pub name_fr: String,
    /// What it is.
    pub kind: SportKind,
}

/// Sport or ceremony: the latter is priced and limited otherwise.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SportKind {
    /// People compete.
    Sport,
    /// An opening or a closing.
    Ceremony,
}

impl SportKind {
    /// As stored and published.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Sport => "sport",
            Self::Ceremony => "ceremony",
        }
    }
}

/// One session: what is sold as an event.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
pub struct Session {
    /// Stable and unique; the event's id is made of it.
    #[serde(rename = "session")]
    pub code: String,
    /// Code of the sport.
    #[serde(rename = "discipline_code")]
    pub sport: String,
    /// Code of the venue.
    #[serde(rename = "venue_code")]
    pub venue: String,
    /// When it was held, in local time.
    pub start: DateTime<FixedOffset>,
    /// When it ended.
    pub end: DateTime<FixedOffset>,
    /// Medals decided in it.
    pub medal_events: u16,
    /// What is contested, in English.
    #[serde(rename = "events")]
    pub contests: String,
}

/// A checked catalogue: every session's sport and venue are there, every venue holds a session.
#[derive(Clone, PartialEq, Debug)]
pub struct Source {
    /// By code.
    pub venues: Vec<Venue>,
    /// By code.
    pub sports: Vec<Sport>,
    /// In the order of the file.
    pub sessions: Vec<Session>,
}

/// Everything that is wrong with a source, at once.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SourceError(pub Vec<String>);

impl fmt::Display for SourceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = &self.0[..self.0.len().min(PROBLEMS_SHOWN)];
        write!(f, "the catalogue's data is not valid: {}", shown.join("; "))?;
        match self.0.len() - shown.len() {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
}

impl std::error::Error for SourceError {}

impl Source {
    /// Paris 2024, which is part of the program.
    ///
    /// # Errors
    /// Never with the data of this repository; a test reads it.
    pub fn embedded() -> Result<Self, SourceError> {
        Self::parse(
            include_str!("../../data/paris-2024/venues.csv"),
            include_str!("../../data/paris-2024/sports.csv"),
            include_str!("../../data/paris-2024/sessions.csv"),
        )
    }

    /// The files `venues.csv`, `sports.csv` and `sessions.csv` of a directory.
    ///
    /// # Errors
    /// A file cannot be read, or what is wrong in them.
    pub fn directory(path: &Path) -> Result<Self, SourceError> {
        let read = |name: &str| {
            let file = path.join(name);
            std::fs::read_to_string(&file)
                .map_err(|error| SourceError(vec![format!("{}: {error}", file.display())]))
        };
        Self::parse(
            &read("venues.csv")?,
            &read("sports.csv")?,
            &read("sessions.csv")?,
        )
    }

    /// Reads the three tables.
    ///
    /// # Errors
    /// Each row that cannot be read, each code that is double or unknown, each time or capacity that
    /// makes no sense, with file and line.
    pub fn parse(venues: &str, sports: &str, sessions: &str) -> Result<Self, SourceError> {
        let mut problems = Vec::new();
        let mut venues: Vec<(u64, Venue)> = rows("venues.csv", venues, &mut problems);
        venues.retain(|(_, venue)| venue.games == "olympic");
        let sports: Vec<(u64, Sport)> = rows("sports.csv", sports, &mut problems);
        let sessions: Vec<(u64, Session)> = rows("sessions.csv", sessions, &mut problems);
        let before = problems.len();
        unique(
            "venues.csv",
            venues.iter().map(|(line, v)| (*line, &v.code)),
            8,
            &mut problems,
        );
        unique(
            "sports.csv",
            sports.iter().map(|(line, s)| (*line, &s.code)),
            8,
            &mut problems,
        );
        unique(
            "sessions.csv",
            sessions.iter().map(|(line, s)| (*line, &s.code)),
            12,
            &mut problems,
        );
        if before == 0 {
            // References are only judged when every row could be read.
            check_sessions(&venues, &sports, &sessions, &mut problems);
        }
        if sessions.is_empty() && problems.is_empty() {
            problems.push("sessions.csv: there is no session".to_owned());
        }
        if !problems.is_empty() {
            return Err(SourceError(problems));
        }
        let held: HashSet<&str> = sessions.iter().map(|(_, s)| s.venue.as_str()).collect();
        let played: HashSet<&str> = sessions.iter().map(|(_, s)| s.sport.as_str()).collect();
        let mut venues: Vec<Venue> = venues.into_iter().map(|(_, venue)| venue).collect();
        let mut sports: Vec<Sport> = sports.into_iter().map(|(_, sport)| sport).collect();
        venues.retain(|venue| held.contains(venue.code.as_str()));
        sports.retain(|sport| played.contains(sport.code.as_str()));
        venues.sort_by(|a, b| a.code.cmp(&b.code));
        sports.sort_by(|a, b| a.code.cmp(&b.code));
        Ok(Self {
            venues,
            sports,
            sessions: sessions.into_iter().map(|(_, s)| s).collect(),
        })
    }
}

fn rows<T: for<'de> Deserialize<'de>>(
    file: &str,
    text: &str,
    problems: &mut Vec<String>,
) -> Vec<(u64, T)> {
    let mut rows = Vec::new();
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let headers = match reader.headers() {
        Ok(headers) => headers.clone(),
        Err(error) => {
            problems.push(format!("{file}: {error}"));
            return rows;
        }
    };
    for record in reader.records() {
        if rows.len() == ROWS_MAX {
            problems.push(format!("{file}: more than {ROWS_MAX} rows"));
            break;
        }
        let row = record.and_then(|record| {
            let line = record.position().map_or(0, csv::Position::line);
            record.deserialize(Some(&headers)).map(|row| (line, row))
        });
        match row {
            Ok(row) => rows.push(row),
            Err(error) => problems.push(format!("{file}: {error}")),
        }
    }
    rows
}

fn unique<'a>(
    file: &str,
    codes: impl Iterator<Item = (u64, &'a String)>,
    length_max: usize,
    problems: &mut Vec<String>,
) {
    let mut seen = HashSet::new();
    for (line, code) in codes {
        let legal = code
            .bytes()
            .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit());
        if !legal || !(3..=length_max).contains(&code.len()) {
            problems.push(format!(
                "{file}:{line}: `{code}` is not a code of 3 to {length_max} capital letters and digits"
            ));
        }
        if !seen.insert(code) {
            problems.push(format!("{file}:{line}: `{code}` is there twice"));
        }
    }
}

fn check_sessions(
    venues: &[(u64, Venue)],
    sports: &[(u64, Sport)],
    sessions: &[(u64, Session)],
    problems: &mut Vec<String>,
) {
    let venues: HashMap<&str, &Venue> = venues.iter().map(|(_, v)| (v.code.as_str(), v)).collect();
    let sports: HashSet<&str> = sports.iter().map(|(_, s)| s.code.as_str()).collect();
    for (line, session) in sessions {
        let Session {
            code, sport, venue, ..
        } = session;
        let mut problem =
            |what: String| problems.push(format!("sessions.csv:{line}: {code}: {what}"));
        if !sports.contains(sport.as_str()) {
            problem(format!("the sport `{sport}` is not in sports.csv"));
        }
        match venues.get(venue.as_str()) {
            None => problem(format!("there is no olympic venue `{venue}` in venues.csv")),
            Some(Venue { capacity: None, .. }) => {
                problem(format!("the venue `{venue}` has no capacity"));
            }
            Some(Venue {
                capacity: Some(1_000_001..),
                ..
            }) => {
                problem(format!(
                    "the venue `{venue}` has a capacity above 1,000,000"
                ));
            }
            Some(venue) if venue.name_en.is_empty() || venue.name_fr.is_empty() => {
                problem(format!("the venue `{}` lacks a name", venue.code));
            }
            Some(_) => {}
        }
        if session.end <= session.start {
            problem("it ends before it starts".to_owned());
        }
        if session.contests.trim().is_empty() || session.contests.contains('\0') {
            problem("what is contested is empty or not text".to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VENUES: &str = "code,games,name_fr,name_en,city,time_zone,lat,lon,capacity\n\
        AAA,olympic,Stade,Stadium,Paris,Europe/Paris,48.8,2.3,1000\n\
        BBB,olympic,Parc,Park,Paris,Europe/Paris,48.8,2.3,\n\
        AAA,paralympic,Stade,Stadium,Paris,Europe/Paris,48.8,2.3,900\n";
    const SPORTS: &str = "code,name,name_fr,kind\nARC,Archery,Tir à l'arc,sport\n";
    const HEAD: &str = "session,discipline_code,venue_code,start,end,medal_events,events\n";

    fn parse(sessions: &str) -> Result<Source, SourceError> {
        Source::parse(VENUES, SPORTS, &format!("{HEAD}{sessions}"))
    }

    #[test]
    fn paris_2024_is_whole() {
        let source = Source::embedded().expect("the repository's data is valid");
        assert_eq!(source.sessions.len(), 722);
        assert_eq!(source.venues.len(), 40);
        assert_eq!(source.sports.len(), 45);
    }

    #[test]
    fn only_what_sessions_use_is_kept() {
        let source =
            parse("X01,ARC,AAA,2024-07-25T09:30:00+02:00,2024-07-25T12:30:00+02:00,0,Final\n")
                .expect("valid");
        assert_eq!(source.venues.len(), 1);
        assert_eq!(source.venues[0].capacity, Some(1000));
    }

    #[test]
    fn every_problem_is_reported_at_once_with_its_line() {
        let error = parse(
            "X01,NIX,AAA,2024-07-25T09:30:00+02:00,2024-07-25T12:30:00+02:00,0,Final\n\
             X01,ARC,BBB,2024-07-25T09:30:00+02:00,2024-07-25T09:30:00+02:00,0,Final\n\
             x-1,ARC,CCC,2024-07-25T09:30:00+02:00,2024-07-25T12:30:00+02:00,0,Final\n",
        )
        .expect_err("invalid")
        .to_string();
        for part in [
            "sessions.csv:2: X01: the sport `NIX` is not in sports.csv",
            "sessions.csv:3: `X01` is there twice",
            "sessions.csv:3: X01: the venue `BBB` has no capacity",
            "sessions.csv:3: X01: it ends before it starts",
            "sessions.csv:4: `x-1` is not a code",
            "sessions.csv:4: x-1: there is no olympic venue `CCC`",
        ] {
            assert!(error.contains(part), "{part:?} is missing in {error}");
        }
        let error = parse("X01,ARC,AAA,yesterday,2024-07-25T12:30:00+02:00,0,Final\n")
            .expect_err("invalid");
        assert!(error.to_string().contains("line: 2"), "{error}");
        assert!(
            parse("")
                .expect_err("empty")
                .to_string()
                .contains("no session")
        );
    }
}
