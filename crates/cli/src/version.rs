//! `tidelog version`: what this binary is, and what it reads and writes.

use std::io;
use std::process::ExitCode;

use serde::Serialize;
use tidelog_broker::{Format, formats};
use tidelog_types::{FEATURES, Feature, FeatureLevels};

use crate::args::Globals;
use crate::output::json_item;
use crate::{Column, Failure, Page, backup};

/// The commit that this binary was built from, or `unknown`.
pub(crate) const COMMIT: &str = env!("TIDELOG_COMMIT");

const KIND: &str = "version";

const FORMATS: &[Column] = &[Column::text("FORMAT"), Column::number("VERSION")];

const LEVELS: &[Column] =
    &[Column::number("LEVEL"), Column::text("FEATURE"), Column::text("ALLOWS")];

#[derive(Debug, Serialize)]
struct Version {
    version: &'static str,
    commit: &'static str,
    feature_levels: Levels,
    formats: Vec<FormatView>,
}

#[derive(Debug, Serialize)]
struct Levels {
    min: u32,
    max: u32,
}

/// The newest version of a format that is read and written; older ones are read.
#[derive(Debug, Serialize)]
struct FormatView {
    name: &'static str,
    version: u32,
}

pub(crate) fn run(globals: &Globals) -> Result<ExitCode, Failure> {
    let version = Version::of_this_build();
    globals.output().item(KIND, &version, |_| version.page())?;
    Ok(ExitCode::SUCCESS)
}

/// The same in JSON.
pub(crate) fn json() -> io::Result<Vec<u8>> {
    json_item(KIND, &Version::of_this_build())
}

impl Version {
    fn of_this_build() -> Self {
        let FeatureLevels { min, max } = FeatureLevels::SUPPORTED;
        let backup = Format { name: "backup", version: backup::VERSION };
        let view = |Format { name, version }| FormatView { name, version };
        Self {
            version: env!("CARGO_PKG_VERSION"),
            commit: COMMIT,
            feature_levels: Levels { min: min.0, max: max.0 },
            formats: formats().into_iter().chain([backup]).map(view).collect(),
        }
    }

    fn page(&self) -> Page {
        let formats = self.formats.iter();
        let formats = formats.map(|one| vec![one.name.to_owned(), one.version.to_string()]);
        let level = |feature: &Feature| {
            vec![feature.level.to_string(), feature.name.to_owned(), feature.allows.to_owned()]
        };
        Page::new()
            .facts([
                ("version", self.version.to_owned()),
                ("commit", self.commit.to_owned()),
                ("feature levels", FeatureLevels::SUPPORTED.to_string()),
            ])
            .table(LEVELS, FEATURES.iter().map(level))
            .table(FORMATS, formats.collect::<Vec<_>>())
    }
}
