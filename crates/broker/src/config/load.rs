//! Reads the file and the environment into a [`Config`].

use std::fmt;
use std::path::Path;

use super::Config;
use super::keys::{self, KEYS, Key};

/// What is wrong with a configuration, in one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The file or variable.
    pub place: String,
    /// What is wrong there, and what is allowed.
    pub problem: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.problem)
    }
}

impl std::error::Error for ConfigError {}

pub(super) fn load(
    path: Option<&Path>,
    environment: impl Iterator<Item = (String, String)>,
) -> Result<Config, ConfigError> {
    let mut loading = Loading { config: Config::default(), given: Vec::new() };
    let mut place = "environment".to_owned();
    if let Some(path) = path {
        place = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|err| ConfigError {
            place: place.clone(),
            problem: format!("cannot be read: {err}"),
        })?;
        loading.read_file(&place, &text)?;
    }
    for (name, value) in environment {
        loading.read_variable(&name, &value)?;
    }
    if let Some(missing) =
        KEYS.iter().find(|key| key.required && !loading.given.contains(&key.name))
    {
        let problem = format!(
            "{} is missing: {} (or set {})",
            missing.name,
            missing.allowed(),
            missing.variable()
        );
        return Err(ConfigError { place, problem });
    }
    loading.config.check().map_err(|error| ConfigError { place, ..error })?;
    Ok(loading.config)
}

struct Loading {
    config: Config,
    given: Vec<&'static str>,
}

impl Loading {
    fn read_file(&mut self, place: &str, text: &str) -> Result<(), ConfigError> {
        let wrong = |problem| ConfigError { place: place.to_owned(), problem };
        let table: toml::Table = text.parse().map_err(|err: toml::de::Error| {
            let line = err.span().map_or(1, |span| text[..span.start].lines().count().max(1));
            wrong(format!("line {line}: {}", err.message().trim().replace('\n', ", ")))
        })?;
        self.read_table(place, "", &table)
    }

    fn read_table(
        &mut self,
        place: &str,
        prefix: &str,
        table: &toml::Table,
    ) -> Result<(), ConfigError> {
        for (name, value) in table {
            let name = format!("{prefix}{name}");
            let wrong = |problem| ConfigError { place: place.to_owned(), problem };
            match (keys::find(&name), value) {
                (None, toml::Value::Table(section)) if is_section(&name) => {
                    self.read_table(place, &format!("{name}."), section)?;
                }
                (None, _) => return Err(wrong(unknown(&name))),
                (Some(key), value) => {
                    let text = as_text(value);
                    self.put(key, text.as_deref().unwrap_or_default())
                        .map_err(|()| wrong(not_allowed(key, &value.to_string())))?;
                }
            }
        }
        Ok(())
    }

    fn read_variable(&mut self, name: &str, value: &str) -> Result<(), ConfigError> {
        let wrong =
            |problem| ConfigError { place: format!("environment variable {name}"), problem };
        if let Some(key) = KEYS.iter().find(|key| key.variable() == name) {
            return self
                .put(key, value)
                .map_err(|()| wrong(not_allowed(key, &format!("{value:?}"))));
        }
        // Other variables of ours belong to the command line; those of our sections are mistakes.
        let of_a_section = KEYS
            .iter()
            .filter_map(|key| key.name.split_once('.'))
            .any(|(section, _)| name.starts_with(&format!("TIDELOG_{}_", section.to_uppercase())));
        if of_a_section {
            return Err(wrong(
                "is no key of the configuration; docs/config.md lists them".to_owned(),
            ));
        }
        Ok(())
    }

    fn put(&mut self, key: &'static Key, text: &str) -> Result<(), ()> {
        if !(key.put)(&mut self.config, text) {
            return Err(());
        }
        self.given.push(key.name);
        Ok(())
    }
}

fn is_section(name: &str) -> bool {
    KEYS.iter().any(|key| key.name.strip_prefix(name).is_some_and(|rest| rest.starts_with('.')))
}

/// The value as the environment would write it.
fn as_text(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Array(list) => {
            let list: Option<Vec<_>> = list.iter().map(toml::Value::as_str).collect();
            list.map(|list| list.join(","))
        }
        _ => None,
    }
}

fn not_allowed(key: &Key, value: &str) -> String {
    format!("{} = {value} is not allowed: expected {}", key.name, key.allowed())
}

fn unknown(name: &str) -> String {
    let section = name.rsplit_once('.').map_or("", |(section, _)| section);
    let near: Vec<_> = KEYS
        .iter()
        .map(|key| key.name)
        .filter(|known| known.rsplit_once('.').map_or("", |(of, _)| of) == section)
        .collect();
    if near.is_empty() {
        return format!("unknown section or key {name:?}; docs/config.md lists all");
    }
    format!("unknown key {name:?}, known here are {}", near.join(", "))
}

#[cfg(test)]
mod tests {
    use super::super::{ByteSize, LogLevel, Span};
    use super::*;

    const MINIMAL: &str = "broker_id = 1\ndata_dir = \"d\"\n\
                           initial_brokers = [\"1@127.0.0.1:7171\"]\n";

    fn read(text: &str, variables: &[(&str, &str)]) -> Result<Config, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node.toml");
        std::fs::write(&path, text).unwrap();
        let variables = variables.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        Config::load(Some(&path), variables)
            .map_err(|err| err.to_string().replace(&path.display().to_string(), "node.toml"))
    }

    #[test]
    fn file_and_environment_are_laid_over_the_defaults() {
        let text = format!("{MINIMAL}[raft]\nheartbeat = \"150ms\"\n[limits]\nconnections = 99\n");
        let variables = [
            ("TIDELOG_RAFT_HEARTBEAT", "120ms"),
            ("TIDELOG_LOG_LEVEL", "warn"),
            ("TIDELOG_BOOTSTRAP", "not ours"),
        ];
        let config = read(&text, &variables).unwrap();
        assert_eq!(config.raft.heartbeat, Span::ms(120));
        assert_eq!(config.limits.connections, 99);
        assert_eq!(config.limits.in_flight_bytes, ByteSize::mib(64));
        assert_eq!(config.log.level, LogLevel::Warn);
    }

    #[test]
    fn every_key_can_come_from_its_variable_alone() {
        let reference = read(MINIMAL, &[]).unwrap();
        let shown: Vec<_> = KEYS
            .iter()
            .map(|key| (key.variable(), (key.show)(&reference)))
            .filter(|(_, value)| !value.is_empty())
            .collect();
        assert_eq!(Config::load(None, shown.into_iter()), Ok(reference));
    }

    #[test]
    fn what_is_printed_reads_back() {
        let mut config = read(MINIMAL, &[("TIDELOG_RACK", "r1")]).unwrap();
        config.limits.in_flight_bytes = ByteSize::mib(48);
        assert_eq!(read(&config.print(), &[]), Ok(config));
    }

    #[test]
    fn errors_are_one_line_with_place_key_and_what_is_allowed() {
        let check = |text: &str, variables: &[(&str, &str)], expected: &str| {
            assert_eq!(read(text, variables).unwrap_err(), expected);
        };
        check("", &[], "node.toml: data_dir is missing: a path (or set TIDELOG_DATA_DIR)");
        check(
            "broker_id = \"x\"",
            &[],
            "node.toml: broker_id = \"x\" is not allowed: expected a number from 1 to 2147483647",
        );
        check(
            &format!("{MINIMAL}[raft]\nheartbeat = 5\n"),
            &[],
            "node.toml: raft.heartbeat = 5 is not allowed: expected a duration from 10ms to 10s",
        );
        check(
            &format!("{MINIMAL}[log]\nlevel = \"loud\"\n"),
            &[],
            "node.toml: log.level = \"loud\" is not allowed: expected a `error`, `warn`, `info`, `debug` or `trace`",
        );
        check(
            &format!("{MINIMAL}[log]\nlevle = \"info\"\n"),
            &[],
            "node.toml: unknown key \"log.levle\", known here are log.level, log.format",
        );
        check(
            &format!("{MINIMAL}[lgo]\nlevel = \"info\"\n"),
            &[],
            "node.toml: unknown key \"lgo\", known here are broker_id, data_dir, rack, initial_brokers, seeds",
        );
        check(
            MINIMAL,
            &[("TIDELOG_LIMITS_CONECTIONS", "1")],
            "environment variable TIDELOG_LIMITS_CONECTIONS: is no key of the configuration; docs/config.md lists them",
        );
        check(
            MINIMAL,
            &[("TIDELOG_LIMITS_CONNECTIONS", "1")],
            "environment variable TIDELOG_LIMITS_CONNECTIONS: limits.connections = \"1\" is not allowed: expected a number from 16 to 100000",
        );
        let error = read("broker_id = = 1", &[]).unwrap_err();
        assert!(error.starts_with("node.toml: line 1: ") && !error.contains('\n'), "{error}");
        let missing = Config::load(Some(Path::new("/nowhere/x.toml")), std::iter::empty());
        let error = missing.unwrap_err().to_string();
        assert!(error.starts_with("/nowhere/x.toml: cannot be read: "), "{error}");
    }
}
