//! Taking up a run that other code has left: going on with it, or leaving it to code that can.

use sqlx::PgConnection;

use super::place::Place;
use super::{Note, Turn, TurnEnd, described};
use crate::check::Misfit;
use crate::code::{Need, graph_of};
use crate::codec::SealError;
use crate::engine::PAGE_MAX;
use crate::error::{NodeError, NodeErrorKind};
use crate::fit;
use crate::graph::Graph;
use crate::lease::Claim;
use crate::question::QuestionFilter;
use crate::run_id::RunId;
use crate::state::State;
use crate::store::load::Stored;
use crate::store::{self, Backoff};
use crate::vault::Vault;

/// What keeps the graph from going on with a run, as a worker would find it.
pub(crate) async fn misfits<S: State>(
    graph: &Graph<S>,
    vault: &Vault,
    db: &mut PgConnection,
    run: RunId,
) -> Result<Vec<Misfit>, sqlx::Error> {
    let Some(mut stored) = store::load::stored(&mut *db, run).await? else {
        return Ok(Vec::new());
    };
    let sealed = |error: &SealError| Misfit::Unreadable {
        message: error.to_string(),
    };
    if let Err(error) = vault.open_stored(run, &mut stored) {
        return Ok(vec![sealed(&error)]);
    }
    let had = Some(stored.shape).filter(|had| *had != graph.fingerprint());
    let place = match Place::restore(graph.shape(), stored) {
        Ok(place) => place,
        Err(error) => return Ok(vec![fit::misfit_of(&error)]),
    };
    let joins = match had {
        Some(had) if !place.checkpoint.joins.is_empty() => {
            store::code::joins(&mut *db, had).await?
        }
        _ => None,
    };
    let had = had.map(|had| (had, joins.as_ref()));
    let mut misfits = fit::misfits(graph, &place.checkpoint, had);
    let of_run = QuestionFilter {
        run: Some(run),
        limit: PAGE_MAX,
        ..QuestionFilter::default()
    };
    let listed = store::question::open(db, &of_run).await?;
    let questions = listed.into_iter().map(|listed| listed.question);
    for mut question in questions.filter(|question| question.run == run) {
        if let Err(error) = vault.open_question(&mut question) {
            misfits.push(sealed(&error));
            continue;
        }
        let (now, had) = (
            graph.answer(&question.node, &question.name),
            &question.schema,
        );
        if now.is_some_and(|now| had.as_ref().is_some_and(|had| had != now)) {
            misfits.push(Misfit::AnswerChanged {
                node: question.node,
                question: question.name,
            });
        }
    }
    Ok(misfits)
}

impl<S: State> Turn<'_, S> {
    /// Where the run stands, once it is this code's.
    pub(super) async fn take_up(&self, claim: &Claim, stored: Stored) -> Result<Place<S>, TurnEnd> {
        let had = Some(stored.shape).filter(|had| *had != self.graph.fingerprint());
        let place = match Place::restore(self.graph.shape(), stored) {
            Ok(place) => place,
            Err(error) => {
                return Err(match fit::need_of(&error) {
                    Some(need) => self.leave(claim, &need).await,
                    None => {
                        let error = NodeError::of(NodeErrorKind::Refused, &error);
                        self.pause(&described(&error, None)).await
                    }
                });
            }
        };
        let joins = match had {
            Some(had) if !place.checkpoint.joins.is_empty() => self.joins(had).await?,
            _ => None,
        };
        let had = had.map(|had| (had, joins.as_ref()));
        if let Some(need) = fit::needs(self.graph, &place.checkpoint, had).first() {
            return Err(self.leave(claim, need).await);
        }
        if had.is_some() || claim.code != self.graph.queued() {
            tracing::info!(
                run.id = %self.lease.run, from = claim.code, to = self.graph.queued(),
                "goes on with a run of other code"
            );
            self.write(&Note::Adopt).await;
        }
        Ok(place)
    }

    /// The joins of a shape, however long the database is away while the lease may hold.
    async fn joins(&self, fingerprint: uuid::Uuid) -> Result<Option<serde_json::Value>, TurnEnd> {
        let mut backoff = Backoff::default();
        loop {
            match store::code::joins(&self.setting.pool, fingerprint).await {
                Ok(joins) => return Ok(joins),
                Err(error) if store::is_transient(&error) => backoff.wait().await,
                Err(error) => {
                    let error = NodeError::of(NodeErrorKind::Refused, &error);
                    return Err(self.pause(&described(&error, None)).await);
                }
            }
        }
    }

    pub(super) async fn leave(&self, claim: &Claim, need: &Need) -> TurnEnd {
        let lacks = need.to_string();
        tracing::warn!(
            run.id = %self.lease.run, graph = self.graph.code(), lacks,
            "left a run to a worker that has what this one lacks"
        );
        let code = need.code(graph_of(&claim.code));
        self.write(&Note::Lack {
            code: &code,
            lacks: &lacks,
        })
        .await;
        TurnEnd::Left
    }
}
