//! What the rules know: kinds of product, wishes that briefs contain, and the tasks around them.

use std::sync::LazyLock;

use serde::Deserialize;

use super::words::Words;
use crate::catalogue::TaskKind;
use crate::document::{Complexity, Level, ProjectType, RequirementKind, Verify};

static KNOWLEDGE: LazyLock<Knowledge> = LazyLock::new(|| {
    const READ: &str = "the tables are a part of the program and read by a test";
    let facets: Facets = toml::from_str(include_str!("facets.toml")).expect(READ);
    let products: Products = toml::from_str(include_str!("products.toml")).expect(READ);
    let steps: Steps = toml::from_str(include_str!("steps.toml")).expect(READ);
    Knowledge {
        facets: facets.facet,
        products: products.product,
        steps: steps.step,
    }
});

/// All that the rules know.
#[derive(Debug)]
pub(super) struct Knowledge {
    pub(super) facets: Vec<Facet>,
    pub(super) products: Vec<Product>,
    pub(super) steps: Vec<Step>,
}

impl Knowledge {
    pub(super) fn built_in() -> &'static Self {
        &KNOWLEDGE
    }
}

/// A wish that briefs often contain.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Facet {
    pub(super) id: String,
    pub(super) name: String,
    stems: Vec<String>,
    #[serde(default = "software")]
    types: Vec<ProjectType>,
    #[serde(default)]
    screens: bool,
    #[serde(default = "functional")]
    pub(super) kind: RequirementKind,
    pub(super) goal: GoalKey,
    pub(super) statement: String,
    pub(super) why: String,
    pub(super) accept: Vec<Accept>,
    #[serde(default)]
    pub(super) risk: Option<(String, Level, Level, String)>,
    #[serde(default)]
    pub(super) ask: Option<(String, String, String)>,
    pub(super) work: Vec<Work>,
}

impl Facet {
    /// Whether such a product may have such a wish beside its main requirement.
    pub(super) fn suits(&self, kind: &Product) -> bool {
        self.types.contains(&kind.project_type)
            && !(self.screens && kind.headless && kind.project_type == ProjectType::Software)
            && !kind.covers.contains(&self.id)
    }

    /// How many of its stems `words` contain, and where the first one is.
    pub(super) fn hits(&self, words: &Words) -> Option<(usize, usize)> {
        let places: Vec<usize> = self
            .stems
            .iter()
            .filter_map(|stem| words.find(stem))
            .collect();
        Some((places.len(), *places.iter().min()?))
    }
}

/// Given, when, then, and who can tell.
#[derive(Debug, Deserialize)]
pub(super) struct Accept(
    pub(super) String,
    pub(super) String,
    pub(super) String,
    pub(super) Verify,
);

/// The kind, title, skills and size of a task.
#[derive(Debug, Deserialize)]
pub(super) struct Work(
    pub(super) TaskKind,
    pub(super) String,
    pub(super) Vec<String>,
    pub(super) Complexity,
);

/// What a wish is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum GoalKey {
    Core,
    Return,
    Trust,
    Reach,
    Revenue,
    Insight,
    Operate,
}

/// A kind of product.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Product {
    pub(super) id: String,
    #[serde(rename = "type", default = "one_software")]
    pub(super) project_type: ProjectType,
    pub(super) nouns: Vec<String>,
    pub(super) item: String,
    #[serde(default)]
    pub(super) takes_item: bool,
    #[serde(default)]
    pub(super) headless: bool,
    #[serde(default)]
    pub(super) covers: Vec<String>,
    #[serde(default)]
    pub(super) needs: Vec<String>,
    #[serde(default)]
    pub(super) called: Option<String>,
    #[serde(default)]
    pub(super) routine: Vec<String>,
    #[serde(default)]
    pub(super) otherwise: Option<String>,
    #[serde(default)]
    pub(super) purpose: bool,
    pub(super) gist: String,
    pub(super) problem: String,
    pub(super) statement: String,
    pub(super) why: String,
    pub(super) accept: Vec<Accept>,
    pub(super) aim: String,
    pub(super) metric: String,
    pub(super) target: String,
    pub(super) persona: (String, String, Vec<String>),
    pub(super) expected: Vec<String>,
    pub(super) work: Vec<Work>,
}

/// A task around the wishes.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Step {
    pub(super) id: String,
    pub(super) types: Vec<ProjectType>,
    #[serde(default)]
    pub(super) before: bool,
    #[serde(default)]
    pub(super) when: Option<When>,
    #[serde(default)]
    pub(super) wishes: Vec<String>,
    pub(super) kind: TaskKind,
    pub(super) title: String,
    pub(super) text: String,
    pub(super) skills: Vec<String>,
    pub(super) size: Complexity,
    #[serde(default)]
    pub(super) needs: Vec<String>,
    pub(super) serves: Serves,
    pub(super) accept: (String, Verify),
}

/// What a product must have for a step to make sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum When {
    Screens,
    Headless,
    Server,
    Storage,
}

/// Which requirements a step names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Serves {
    All,
    Product,
    Wishes,
    Quality,
}

#[derive(Deserialize)]
struct Facets {
    facet: Vec<Facet>,
}

#[derive(Deserialize)]
struct Products {
    product: Vec<Product>,
}

#[derive(Deserialize)]
struct Steps {
    step: Vec<Step>,
}

fn software() -> Vec<ProjectType> {
    vec![ProjectType::Software]
}

fn one_software() -> ProjectType {
    ProjectType::Software
}

fn functional() -> RequirementKind {
    RequirementKind::Functional
}
