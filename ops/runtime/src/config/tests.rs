use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;

use proptest::prelude::*;
use serde::{Deserialize, Serialize};

use super::*;
use crate::Secret;

#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    first: First,
    second: Second,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct First {
    pool_max: u16,
    offset: i64,
    share: f64,
    on: bool,
    name: String,
    /// Ends like the variable that would name a file for a key `key`.
    key_file: Option<PathBuf>,
    addr: SocketAddr,
}

#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Second {
    mode: Mode,
    steps: Vec<String>,
    sizes: Vec<u32>,
    rule: Rule,
}

#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Rule {
    weight: u8,
}

#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Mode {
    #[default]
    Quiet,
    VeryLoud,
}

impl Default for First {
    fn default() -> Self {
        Self {
            pool_max: 8,
            offset: 0,
            share: 0.5,
            on: false,
            name: "none".to_owned(),
            key_file: None,
            addr: ([127, 0, 0, 1], 0).into(),
        }
    }
}

impl Sections for Config {
    fn problems(&self) -> Vec<(&'static str, Vec<String>)> {
        let mut first = Vec::new();
        if self.first.pool_max == 0 {
            first.push("pool_max must be at least 1".to_owned());
        }
        if self.first.name == "bad" {
            first.push("name is bad; choose another".to_owned());
        }
        let mut second = Vec::new();
        if self.second.sizes.len() > 3 {
            second.push("too many sizes together".to_owned());
        }
        vec![("first", first), ("second", second)]
    }
}

fn from_env(env: &[(&str, &str)]) -> Result<Config, ConfigErrors> {
    from(None, env)
}

fn from(file: Option<&str>, env: &[(&str, &str)]) -> Result<Config, ConfigErrors> {
    let file = file.map(file_with);
    let env = env
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    load(
        file.as_ref().map(|file| file.0.as_path()),
        env,
        &["GUICHET_ELSE"],
        |_| true,
    )
}

/// A file of its own, gone at the end.
struct TestFile(PathBuf);

impl Drop for TestFile {
    fn drop(&mut self) {
        std::fs::remove_file(&self.0).expect("it is still there");
    }
}

fn file_with(text: &str) -> TestFile {
    let name = format!("guichet-config-{:x}.toml", crate::trace::fresh().0);
    let path = std::env::temp_dir().join(name);
    let mut file = std::fs::File::create_new(&path).expect("a new file");
    file.write_all(text.as_bytes()).expect("written");
    TestFile(path)
}

fn problems(result: Result<Config, ConfigErrors>) -> Vec<String> {
    let errors = result.expect_err("there are problems");
    assert_eq!(errors.to_string().lines().count(), errors.problems().len());
    errors.0
}

#[test]
fn nothing_given_is_the_defaults() {
    let other = [
        ("PATH", "/bin"),
        ("GUICHET_ELSE", "x"),
        ("guichet_first_on", "1"),
    ];
    assert_eq!(from_env(&other), Ok(Config::default()));
    assert_eq!(from(Some("[first]\n"), &[]), Ok(Config::default()));
}

#[test]
fn text_becomes_what_the_key_wants() {
    let config = from_env(&[
        ("GUICHET_FIRST_POOL_MAX", "1_000"),
        ("GUICHET_FIRST_OFFSET", "-5"),
        ("GUICHET_FIRST_SHARE", "0.25"),
        ("GUICHET_FIRST_ON", "true"),
        ("GUICHET_FIRST_NAME", "8"),
        ("GUICHET_FIRST_KEY_FILE", "/run/key.pem"),
        ("GUICHET_FIRST_ADDR", "[::1]:80"),
        ("GUICHET_SECOND_MODE", "very_loud"),
        ("GUICHET_SECOND_STEPS", "reserve, pay"),
        ("GUICHET_SECOND_SIZES", "[1, 2]"),
        ("GUICHET_SECOND_RULE", "{ weight = 3 }"),
    ]);
    let expected = Config {
        first: First {
            pool_max: 1000,
            offset: -5,
            share: 0.25,
            on: true,
            name: "8".to_owned(),
            key_file: Some("/run/key.pem".into()),
            addr: "[::1]:80".parse().expect("an address"),
        },
        second: Second {
            mode: Mode::VeryLoud,
            steps: vec!["reserve".to_owned(), "pay".to_owned()],
            sizes: vec![1, 2],
            rule: Rule { weight: 3 },
        },
    };
    assert_eq!(config, Ok(expected));
    let empty = [("GUICHET_SECOND_STEPS", ""), ("GUICHET_FIRST_KEY_FILE", "")];
    assert_eq!(from_env(&empty), Ok(Config::default()));
}

#[test]
fn environment_over_file_over_defaults() {
    let file = "[first]\npool_max = 3\nname = \"file\"\n";
    let config = from(Some(file), &[("GUICHET_FIRST_POOL_MAX", "4")]).expect("fine");
    assert_eq!(
        (config.first.pool_max, config.first.name.as_str()),
        (4, "file")
    );
    assert_eq!(config.first.share, 0.5);
}

#[test]
fn a_value_may_be_in_a_file() {
    let file = file_with("from a file\n");
    let path = file.0.to_str().expect("UTF-8");
    let config = from_env(&[("GUICHET_FIRST_NAME_FILE", path)]).expect("fine");
    assert_eq!(config.first.name, "from a file");

    let both = [
        ("GUICHET_FIRST_NAME_FILE", path),
        ("GUICHET_FIRST_NAME", "x"),
    ];
    let expected = "GUICHET_FIRST_NAME: also set by GUICHET_FIRST_NAME_FILE; unset one";
    assert_eq!(problems(from_env(&both)), [expected]);
    let missing = problems(from_env(&[("GUICHET_FIRST_NAME_FILE", "/nowhere/at/all")]));
    let expected = "GUICHET_FIRST_NAME_FILE: /nowhere/at/all cannot be read: ";
    assert!(missing[0].starts_with(expected), "{missing:?}");
    let endless = problems(from_env(&[("GUICHET_FIRST_NAME_FILE", "/dev/zero")]));
    assert!(
        endless[0].contains("longer than 65536 bytes"),
        "{endless:?}"
    );

    let endless = load::<Config>(
        Some(Path::new("/dev/zero")),
        std::iter::empty(),
        &[],
        |_| true,
    );
    let expected = "/dev/zero: is longer than 65536 bytes";
    assert_eq!(problems(endless), [expected]);
}

#[test]
fn all_problems_at_once_each_with_its_place() {
    let file = "[first]\nshare = \"a lot\"\nname = \"bad\"\nspeed = 3\n\n[third]\nx = 1\n";
    let found = problems(from(
        Some(file),
        &[
            ("GUICHET_FIRST_POOL_MAX", "-1"),
            ("GUICHET_FIRST_ON", "maybe"),
            ("GUICHET_FIRST_POOL_MIN", "2"),
            ("GUICHET_SECOND_MODE", "loud"),
            ("GUICHET_SECOND_STEPS", "[\"unclosed"),
            ("GUICHET_SECOND_SIZES", "1,2,3,4"),
            ("GUICHET_SECOND_RULE", "{ weigth = 3 }"),
            ("GUICHET_FOURTH_Y", "2"),
            ("GUICHET_ODD", "2"),
        ],
    ));
    let expected = [
        "GUICHET_ODD: unknown; variables are GUICHET_<SECTION>_<KEY>. Correct or unset it",
        "GUICHET_FOURTH_Y: no such section; there are first, second. Correct or remove it",
        "third: no such section; there are first, second. Correct or remove it",
        "GUICHET_FIRST_POOL_MIN: no such key; first has pool_max, offset, share, on, name, key_file, \
         addr. Correct or remove it",
        "first.speed: no such key; first has pool_max, offset, share, on, name, key_file, addr. \
         Correct or remove it",
        "GUICHET_FIRST_POOL_MAX: must be a whole number from 0 to 65535",
        "first.share: invalid type: string \"a lot\", expected f64",
        "GUICHET_FIRST_ON: must be true or false",
        "GUICHET_SECOND_MODE: must be one of quiet, very_loud",
        "GUICHET_SECOND_STEPS: is not a value in TOML's syntax",
        "GUICHET_SECOND_RULE: unknown field `weigth`, expected `weight`",
        "first.name: name is bad; choose another",
        "second: too many sizes together",
    ];
    for expected in expected {
        let at_end = |problem: &&String| problem.ends_with(expected);
        assert!(
            found.iter().any(|p| at_end(&p)),
            "{expected}\nin {found:#?}"
        );
    }
    assert_eq!(found.len(), expected.len(), "{found:#?}");
}

#[test]
fn a_problem_of_a_default_names_the_variable_to_set() {
    #[derive(Debug, Default, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Url {
        url: Secret,
    }
    #[derive(Debug, Deserialize)]
    struct Must {
        database: Url,
    }
    impl Sections for Must {
        fn problems(&self) -> Vec<(&'static str, Vec<String>)> {
            let empty = self.database.url.is_empty();
            let problem = empty.then(|| "url must be set".to_owned());
            vec![("database", problem.into_iter().collect())]
        }
    }
    let errors = load::<Must>(None, std::iter::empty(), &[], |_| true).expect_err("not set");
    assert_eq!(errors.problems(), ["GUICHET_DATABASE_URL: url must be set"]);
}

#[test]
fn sections_without_defaults_do_not_hide_each_other() {
    #[derive(Debug, Deserialize)]
    struct Needs {
        #[expect(dead_code, reason = "only its absence matters")]
        url: String,
    }
    #[derive(Debug, Deserialize)]
    #[expect(dead_code, reason = "only its absence matters")]
    struct Three {
        a: Needs,
        b: Needs,
        c: First,
    }
    impl Sections for Three {
        fn problems(&self) -> Vec<(&'static str, Vec<String>)> {
            Vec::new()
        }
    }
    let env = [("GUICHET_C_ON".to_owned(), "x".to_owned())];
    let errors = load::<Three>(None, env.into_iter(), &[], |_| true).expect_err("not set");
    let expected = [
        "a: the key url is not set, and has no default",
        "b: the key url is not set, and has no default",
        "GUICHET_C_ON: must be true or false",
    ];
    assert_eq!(errors.problems(), expected);
}

#[test]
fn a_file_that_is_not_toml_is_a_problem_with_its_line() {
    let found = problems(from(
        Some("[first]\npool_max = 3\nname = secret words\n"),
        &[],
    ));
    assert!(found[0].contains(": line 3 is not TOML: "), "{found:?}");
    assert!(!found[0].contains("secret"), "{found:?}");
    let missing = load::<Config>(
        Some(Path::new("/nowhere.toml")),
        std::iter::empty(),
        &[],
        |_| true,
    );
    let found = problems(missing);
    assert!(
        found[0].starts_with("/nowhere.toml: cannot be read: "),
        "{found:?}"
    );
}

#[test]
fn a_password_in_the_wrong_place_is_not_shown() {
    let secret = "hunter2";
    let wrong = [
        "FIRST_POOL_MAX",
        "FIRST_SHARE",
        "FIRST_ON",
        "FIRST_ADDR",
        "FIRST_OFFSET",
    ];
    let wrong = wrong
        .into_iter()
        .chain(["SECOND_MODE", "SECOND_SIZES", "SECOND_RULE", "X_Y"]);
    let names: Vec<_> = wrong.map(|name| format!("GUICHET_{name}")).collect();
    let env: Vec<_> = names.iter().map(|name| (name.as_str(), secret)).collect();
    let found = problems(from_env(&env));
    assert_eq!(found.len(), names.len(), "{found:#?}");
    assert!(!found.join("\n").contains(secret), "{found:#?}");
}

prop_compose! {
    fn configs()(
        pool_max in 1..=u16::MAX,
        offset: i64,
        share in -1e9..1e9_f64,
        on: bool,
        name in "[a-z ,\"\\\\é]{0,9}x",
        key_file in proptest::option::of("/[a-z]{1,8}"),
        addr: SocketAddr,
        loud: bool,
        steps in proptest::collection::vec("[a-z ,\"'é]{0,5}", 0..4),
        sizes in proptest::collection::vec(any::<u32>(), 0..4),
        weight: u8,
    ) -> Config {
        // The scope of an address is not kept by its text form in all versions of the library.
        let addr = SocketAddr::new(addr.ip(), addr.port());
        let key_file = key_file.map(PathBuf::from);
        Config {
            first: First { pool_max, offset, share, on, name, key_file, addr },
            second: Second {
                mode: if loud { Mode::VeryLoud } else { Mode::Quiet },
                steps,
                sizes,
                rule: Rule { weight },
            },
        }
    }
}

/// The variables that say the same as `config`.
fn as_env(config: &Config) -> Vec<(String, String)> {
    let sections = toml::Table::try_from(config).expect("representable");
    let keys = sections.iter().flat_map(|(section, keys)| {
        let keys = keys.as_table().expect("a section").iter();
        keys.map(move |(key, value)| {
            let text = match value {
                toml::Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            (format!("GUICHET_{section}_{key}").to_uppercase(), text)
        })
    });
    keys.collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_value_can_be_said_both_ways(config in configs(), other in configs()) {
        let text = toml::to_string(&config).expect("representable");
        prop_assert_eq!(from(Some(&text), &[]), Ok(config.clone()));

        let env = as_env(&config);
        prop_assert_eq!(load(None, env.clone().into_iter(), &[], |_| true), Ok(config.clone()));

        // Where the variables say something, nothing of the file is left.
        let other = toml::to_string(&other).expect("representable");
        let file = file_with(&other);
        let mut over: Config = load(Some(&file.0), env.into_iter(), &[], |_| true).expect("fine");
        if config.first.key_file.is_none() {
            over.first.key_file = None;
        }
        prop_assert_eq!(over, config);
    }

    #[test]
    fn no_environment_panics_and_each_bad_variable_is_told(
        env in proptest::collection::btree_map("GUICHET_[A-Z]{0,3}_?[A-Z_]{0,6}", ".{0,5}", 0..6)
    ) {
        let count = env.len();
        match load::<Config>(None, env.into_iter(), &[], |_| true) {
            Ok(config) => prop_assert_eq!((count, config), (0, Config::default())),
            Err(errors) => prop_assert_eq!(errors.problems().len(), count),
        }
    }
}
