//! What can go wrong, and which tests let it.

use std::error::Error;
use std::fmt;
use std::path::Path;

use serde::Deserialize;

/// All faults, in the order of the report.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Matrix {
    #[serde(rename = "fault")]
    pub(crate) faults: Vec<Fault>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Fault {
    pub(crate) id: String,
    pub(crate) what: String,
    pub(crate) expect: String,
    #[serde(default)]
    pub(crate) tests: Vec<Test>,
    /// Why no test lets it happen.
    pub(crate) absent: Option<String>,
}

/// A test by its package, its target (`lib`, or the name of a file or folder of `tests`) and its path in that.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Test {
    pub(crate) package: String,
    pub(crate) target: String,
    pub(crate) path: String,
}

impl TryFrom<String> for Test {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.split(' ').collect::<Vec<_>>()[..] {
            [package, target, path] => Ok(Self {
                package: package.to_owned(),
                target: target.to_owned(),
                path: path.to_owned(),
            }),
            _ => Err(format!("`{text}` is not a package, a target and a path")),
        }
    }
}

impl fmt::Display for Test {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.package, self.target, self.path)
    }
}

impl Matrix {
    pub(crate) fn read(root: &Path) -> Result<Self, Box<dyn Error>> {
        let path = root.join("faults/matrix.toml");
        let text = std::fs::read_to_string(&path)
            .map_err(|error| format!("could not read {}: {error}", path.display()))?;
        toml::from_str(&text).map_err(|error| format!("{}: {error}", path.display()).into())
    }

    pub(crate) fn tests(&self) -> impl Iterator<Item = &Test> {
        self.faults.iter().flat_map(|fault| &fault.tests)
    }
}

impl Test {
    /// The name of its function.
    pub(crate) fn name(&self) -> &str {
        self.path.rsplit("::").next().unwrap_or(&self.path)
    }

    /// Whether its function is somewhere in the sources of its package and target.
    #[cfg(test)]
    pub(crate) fn is_written(&self, root: &Path) -> bool {
        let package = root.join(&self.package);
        let places = match self.target.as_str() {
            "lib" => vec![package.join("src")],
            target => vec![
                package.join(format!("tests/{target}.rs")),
                package.join(format!("tests/{target}")),
            ],
        };
        let function = format!("fn {}(", self.name());
        sources(places).any(|source| {
            std::fs::read_to_string(source).is_ok_and(|text| text.contains(&function))
        })
    }
}

/// The files of Rust among the paths and in the folders below them.
#[cfg(test)]
fn sources(mut places: Vec<std::path::PathBuf>) -> impl Iterator<Item = std::path::PathBuf> {
    std::iter::from_fn(move || {
        while let Some(place) = places.pop() {
            if let Ok(inside) = std::fs::read_dir(&place) {
                places.extend(inside.filter_map(|entry| Some(entry.ok()?.path())));
            } else if place.extension().is_some_and(|extension| extension == "rs") {
                return Some(place);
            }
        }
        None
    })
}
