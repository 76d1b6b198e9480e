//! `docs/config.md`, generated from the table of keys.

use std::fmt::Write;

use super::Config;
use super::keys::KEYS;

const HEAD: &str = "# Configuration of a broker

One TOML file, given with `tidelog server -c FILE`; a key `section.name` stands as `name` under
`[section]`. Every key can also be set by the environment variable in its row, which beats the file.
Unknown keys are refused. `tidelog server -c FILE --check` checks a file without starting a broker,
`--print-config` prints what holds. Durations are written `500ms`, `2s`, `5m`, `1h`, `7d`; sizes `64MiB`,
`1GiB`. This page is generated from the code.

| key | type | default | allowed | what it is, and what breaks when it is wrong | variable |
|---|---|---|---|---|---|
";

/// The reference of all keys in Markdown: `docs/config.md`.
#[must_use]
pub fn reference() -> String {
    let defaults = Config::default();
    let mut page = HEAD.to_owned();
    for key in KEYS {
        let shown = (key.show)(&defaults);
        let default = match (key.required, shown.is_empty()) {
            (true, _) => "required".to_owned(),
            (false, true) => "none".to_owned(),
            (false, false) => format!("`{shown}`"),
        };
        let allowed = key.bounds.map(|(least, most)| format!("`{least}` to `{most}`"));
        writeln!(
            page,
            "| `{}` | {} | {default} | {} | {} | `{}` |",
            key.name,
            key.kind,
            allowed.unwrap_or_default(),
            key.text,
            key.variable()
        )
        .expect("a string takes all that is written");
    }
    page
}

#[cfg(test)]
mod tests {
    use super::super::HostPort;
    use super::*;
    use crate::docs_test::assert_page;

    #[test]
    fn the_page_is_what_the_code_says() {
        assert_page("docs/config.md", &reference());
    }

    #[test]
    fn every_field_is_a_key_and_every_key_a_field() {
        // With every optional value present, so that none is left out.
        let mut config =
            Config { broker_id: Some(1), rack: Some("r".to_owned()), ..Config::default() };
        config.initial_brokers = vec!["1@h:1".parse().unwrap()];
        config.seeds = vec!["h:1".parse().unwrap()];
        let dial = Some(HostPort { host: "h".to_owned(), port: 1 });
        config.listener.client.advertised.clone_from(&dial);
        config.listener.internal.advertised.clone_from(&dial);
        config.listener.http.advertised = dial;
        let mut fields = Vec::new();
        flatten("", &toml::Table::try_from(&config).unwrap(), &mut fields);
        fields.sort();
        let mut keys: Vec<_> = KEYS.iter().map(|key| key.name.to_owned()).collect();
        keys.sort();
        assert_eq!(fields, keys);
    }

    fn flatten(prefix: &str, table: &toml::Table, into: &mut Vec<String>) {
        for (name, value) in table {
            match value {
                toml::Value::Table(section) => flatten(&format!("{prefix}{name}."), section, into),
                _ => into.push(format!("{prefix}{name}")),
            }
        }
    }

    #[test]
    fn defaults_are_within_their_own_bounds() {
        for key in KEYS {
            let shown = (key.show)(&Config::default());
            let given = key.required || shown.is_empty();
            assert!(given || (key.put)(&mut Config::default(), &shown), "{} = {shown}", key.name);
        }
    }
}
