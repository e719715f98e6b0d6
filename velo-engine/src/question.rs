//! Open questions of runs, and answering them.

use serde::Serialize;
use serde_json::Value;

use crate::engine::{Engine, EngineError, PAGE_MAX};
use crate::json_schema;
use crate::run_id::RunId;
use crate::store;
use crate::vault::Home;

pub use crate::store::question::{
    BadQuestionId, ListedQuestion, Question, QuestionFilter, QuestionId,
};

const LISTING: &str = "list the open questions";
const ANSWERING: &str = "answer the question";

impl Engine {
    /// The open questions of a run and of the child runs that it waits for, however deep, or of all runs,
    /// oldest run first; at most `limit` and [`PAGE_MAX`].
    ///
    /// # Errors
    /// The database's.
    ///
    /// # Cancel safety
    /// Reads only.
    pub async fn questions(
        &self,
        run: Option<RunId>,
        limit: i64,
    ) -> Result<Vec<Question>, EngineError> {
        let filter = QuestionFilter {
            run,
            limit,
            ..QuestionFilter::default()
        };
        let listed = self.list_questions(&filter).await?;
        Ok(listed.into_iter().map(|listed| listed.question).collect())
    }

    /// The open questions that the filter lets through, oldest run first, with the schemas of their
    /// answers; at most [`PAGE_MAX`] at once.
    ///
    /// ```no_run
    /// # use velo_engine::{Engine, EngineError, QuestionFilter};
    /// # async fn inbox(engine: &Engine) -> Result<(), EngineError> {
    /// let mut page = QuestionFilter { graph: Some("report".to_owned()), ..QuestionFilter::default() };
    /// loop {
    ///     let open = engine.list_questions(&page).await?;
    ///     let Some(last) = open.last() else { break };
    ///     page.after = Some(last.question.id.clone());
    ///     for asked in open {
    ///         let (graph, question) = (asked.graph, asked.question);
    ///         println!("{graph} {}: {}", question.question, question.schema.unwrap_or_default());
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The database's.
    ///
    /// # Cancel safety
    /// Reads only.
    pub async fn list_questions(
        &self,
        filter: &QuestionFilter,
    ) -> Result<Vec<ListedQuestion>, EngineError> {
        let filter = QuestionFilter {
            limit: filter.limit.clamp(0, PAGE_MAX),
            ..filter.clone()
        };
        let mut found = store::question::open(self.pool(), &filter)
            .await
            .map_err(EngineError::on(LISTING))?;
        found
            .iter_mut()
            .try_for_each(|listed| self.vault().open_question(&mut listed.question))
            .map_err(EngineError::sealed(LISTING))?;
        Ok(found)
    }

    /// Answers a question, and has its run go on. Of two answers one is accepted.
    ///
    /// An answer that the question's schema does not allow is refused at once, and the question stays
    /// open. One that the node cannot read all the same is given back when the node has seen it: the
    /// question is open again, with a refusal.
    ///
    /// # Errors
    /// [`EngineError::NotOpen`] when the question was answered, has expired, or its run went on without
    /// it; [`EngineError::BadAnswer`]; [`EngineError::BadValue`], [`EngineError::TooLarge`],
    /// [`EngineError::Unstorable`]; or the database's.
    ///
    /// # Cancel safety
    /// Dropped half-way, the answer may or may not be accepted. A second try is refused if it was.
    pub async fn answer(
        &self,
        question: &Question,
        answer: &impl Serialize,
    ) -> Result<(), EngineError> {
        let answer = self.storable("answer", answer)?;
        fits(question, &answer)?;
        let sealed = self.sealed(question, answer)?;
        let accepted = store::question::answer(self.pool(), &question.id, &sealed)
            .await
            .map_err(EngineError::on(ANSWERING))?;
        if !accepted {
            let open = self.questions(Some(question.run), PAGE_MAX).await?;
            return Err(not_open(question.run, &question.name, &open));
        }
        self.hint();
        Ok(())
    }

    /// Answers the only question of a run, or of a child run that it waits for.
    ///
    /// # Errors
    /// [`EngineError::SeveralOpen`] when there are several; otherwise as [`answer`](Self::answer).
    ///
    /// # Cancel safety
    /// As [`answer`](Self::answer).
    pub async fn answer_only(
        &self,
        run: RunId,
        answer: &impl Serialize,
    ) -> Result<(), EngineError> {
        let open = self.questions(Some(run), PAGE_MAX).await?;
        match open.as_slice() {
            [only] => self.answer(only, answer).await,
            [] => {
                self.run(run).await?;
                Err(not_open(run, "", &open))
            }
            _ => Err(EngineError::SeveralOpen {
                run,
                open: names(&open),
            }),
        }
    }

    /// Answers several questions of a run, and of child runs that it waits for, all or none: each is given
    /// by its name or, where several tasks ask the same, by its [id](Question::id). Questions that are not
    /// given stay open.
    ///
    /// ```no_run
    /// # use serde_json::json;
    /// # use velo_engine::{Engine, EngineError, RunId};
    /// # async fn example(engine: &Engine, run: RunId) -> Result<(), EngineError> {
    /// engine.answer_all(run, [("name", json!("Ada")), ("age", json!(36))]).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Each names the question, and then none is answered: [`EngineError::NotOpen`],
    /// [`EngineError::BadAnswer`]; [`EngineError::SeveralOpen`] when a name is that of several questions;
    /// or as [`answer`](Self::answer).
    ///
    /// # Cancel safety
    /// Dropped half-way, all or none of the answers are accepted. A second try is refused if they were.
    pub async fn answer_all<N, A>(
        &self,
        run: RunId,
        answers: impl IntoIterator<Item = (N, A)>,
    ) -> Result<(), EngineError>
    where
        N: AsRef<str>,
        A: Serialize,
    {
        let open = self.questions(Some(run), PAGE_MAX).await?;
        let mut given = Vec::new();
        for (name, answer) in answers {
            let question = named(run, name.as_ref(), &open)?;
            let answer = self.storable("answer", &answer)?;
            fits(question, &answer)?;
            given.push((question, self.sealed(question, answer)?));
        }
        // Rows are locked in the order of their runs: two that answer several runs do not wait for each other.
        given.sort_by(|(one, _), (other, _)| one.id.cmp(&other.id));
        let mut tx = store::begin(self.pool())
            .await
            .map_err(EngineError::on(ANSWERING))?;
        for (question, answer) in &given {
            let accepted = store::question::answer(&mut *tx, &question.id, answer)
                .await
                .map_err(EngineError::on(ANSWERING))?;
            if !accepted {
                drop(tx);
                let open = self.questions(Some(run), PAGE_MAX).await?;
                return Err(not_open(question.run, &question.name, &open));
            }
        }
        tx.commit().await.map_err(EngineError::on(ANSWERING))?;
        self.hint();
        Ok(())
    }

    /// An answer as it is stored.
    fn sealed(&self, question: &Question, answer: Value) -> Result<Value, EngineError> {
        let Question {
            run,
            seq,
            task,
            name,
            ..
        } = question;
        let home = Home::of_task(*run, *seq, *task, "answer", name);
        self.vault()
            .seal_json(home, answer)
            .map_err(EngineError::sealed(ANSWERING))
    }
}

/// The open question of this id or name.
fn named<'a>(run: RunId, name: &str, open: &'a [Question]) -> Result<&'a Question, EngineError> {
    if let Ok(id) = name.parse::<QuestionId>()
        && let Some(question) = open.iter().find(|question| question.id == id)
    {
        return Ok(question);
    }
    let mut of_name = open.iter().filter(|question| question.name == name);
    match (of_name.next(), of_name.next()) {
        (Some(only), None) => Ok(only),
        (None, _) => Err(not_open(run, name, open)),
        (Some(_), Some(_)) => Err(EngineError::SeveralOpen {
            run,
            open: names(open),
        }),
    }
}

/// Whether the answer is what the question's schema asks for.
fn fits(question: &Question, answer: &Value) -> Result<(), EngineError> {
    let problems = match &question.schema {
        Some(schema) => json_schema::problems(answer, schema),
        None => Vec::new(),
    };
    if problems.is_empty() {
        return Ok(());
    }
    Err(EngineError::BadAnswer {
        run: question.run,
        name: question.name.clone(),
        problems,
    })
}

fn not_open(run: RunId, name: &str, open: &[Question]) -> EngineError {
    EngineError::NotOpen {
        run,
        name: name.to_owned(),
        open: names(open),
    }
}

/// The names of the questions, or their ids where several have one name.
fn names(open: &[Question]) -> Vec<String> {
    let is_only = |name: &str| {
        open.iter()
            .filter(|question| question.name == name)
            .nth(1)
            .is_none()
    };
    let told = |question: &Question| {
        if is_only(&question.name) {
            question.name.clone()
        } else {
            question.id.to_string()
        }
    };
    open.iter().map(told).collect()
}
