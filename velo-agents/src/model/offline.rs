//! A stand-in for a language model, without a network and without a cost: [`OfflineModel`].
//!
//! It writes PRDs and task plans by rules from the words of the request, the same text that a real
//! model would see. What it writes is a rough draft and says so wherever it is shown
//! ([`ChatModel::is_offline`]). Asked for anything else it refuses.

mod brief;
mod knowledge;
mod language;
mod plan;
mod prd;
mod product;
mod sentence;
mod vocabulary;
mod words;

use async_trait::async_trait;
use serde::Serialize;

use super::{
    ChatModel, ChatReply, ChatRequest, Finish, ModelError, ModelErrorKind, Progress, Role, Tier,
    Usage,
};
use crate::document::PrdDraft;
use crate::prompt::block;

/// The name of the model.
const NAME: &str = "offline model";
/// About how many bytes a token has.
const BYTES_PER_TOKEN: usize = 4;
/// Bytes of a piece that is handed to `progress`.
const PIECE_BYTES: usize = 160;

/// Writes by rules what a model would write, for demonstrations and tests. It answers requests
/// whose purpose is `draft_prd`, `repair_prd`, `break_down` or `repair_plan`, and the same request
/// always with the same text.
///
/// ```
/// use velo_agents::model::offline::OfflineModel;
/// use velo_agents::model::{ChatModel, Progress};
/// use velo_agents::prompt;
///
/// # let runtime = tokio::runtime::Builder::new_current_thread().build()?;
/// # runtime.block_on(async {
/// let asked = prompt::draft_prd("A habit tracker with streaks and reminders", &[]);
/// let mut seen = String::new();
/// let mut progress = |progress: Progress<'_>| {
///     if let Progress::Text(text) = progress {
///         seen.push_str(text);
///     }
/// };
/// let reply = OfflineModel.complete(&asked.request, &mut progress).await?;
/// assert!(reply.text.contains("streak"));
/// assert_eq!(reply.text, seen);
/// assert!(OfflineModel.is_offline());
/// # Ok::<(), velo_agents::model::ModelError>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct OfflineModel;

#[async_trait]
impl ChatModel for OfflineModel {
    fn name(&self, _tier: Tier) -> &str {
        NAME
    }

    fn is_offline(&self) -> bool {
        true
    }

    async fn complete(
        &self,
        request: &ChatRequest,
        progress: &mut (dyn for<'p> FnMut(Progress<'p>) + Send),
    ) -> Result<ChatReply, ModelError> {
        let mut text = write(request)?;
        let room = (request.max_output_tokens as usize).saturating_mul(BYTES_PER_TOKEN);
        let mut finish = Finish::Stop;
        if text.len() > room {
            text.truncate(text.floor_char_boundary(room));
            finish = Finish::MaxTokens;
        }
        let mut rest = text.as_str();
        while !rest.is_empty() {
            // A piece holds at least one letter, however long.
            let end = rest.floor_char_boundary(PIECE_BYTES.min(rest.len()));
            let (piece, after) = rest.split_at(end);
            progress(Progress::Text(piece));
            rest = after;
        }
        Ok(ChatReply {
            usage: Usage {
                input_tokens: tokens(&request.system)
                    + request
                        .turns
                        .iter()
                        .map(|turn| tokens(&turn.text))
                        .sum::<u64>(),
                output_tokens: tokens(&text),
                ..Usage::default()
            },
            text,
            model: NAME.to_owned(),
            finish,
        })
    }
}

fn write(request: &ChatRequest) -> Result<String, ModelError> {
    match request.purpose.as_str() {
        "draft_prd" | "repair_prd" => {
            let (brief, rest) = data(request, "brief")?;
            let remarks = block::find("remarks", rest).unwrap_or_default();
            Ok(json(&prd::write(brief, remarks)))
        }
        "break_down" | "repair_plan" => {
            let (prd, _) = data(request, "prd")?;
            let prd: PrdDraft = serde_json::from_str(prd).map_err(|source| {
                bad_request("could not read the document in the request as a PRD; send it as JSON")
                    .with_source(source)
            })?;
            Ok(json(&plan::write(&prd)))
        }
        other => Err(bad_request(format!(
            "could not answer a request for `{other}`: the offline model only writes PRDs and task plans; configure a language model for everything else"
        ))),
    }
}

/// The block called `name` in the first thing that was asked, and what follows it.
fn data<'r>(request: &'r ChatRequest, name: &str) -> Result<(&'r str, &'r str), ModelError> {
    request
        .turns
        .iter()
        .find(|turn| turn.role == Role::User)
        .and_then(|turn| block::split(name, &turn.text))
        .ok_or_else(|| {
            bad_request(format!(
                "could not find the {name} in the request for `{}`; ask with the prompts of this program",
                request.purpose
            ))
        })
}

fn bad_request(message: impl Into<String>) -> ModelError {
    ModelError::new(ModelErrorKind::BadRequest, message)
}

fn json(draft: &impl Serialize) -> String {
    serde_json::to_string_pretty(draft).expect("a draft is made of texts and lists")
}

fn tokens(text: &str) -> u64 {
    text.len().div_ceil(BYTES_PER_TOKEN) as u64
}

#[cfg(test)]
mod tests;
