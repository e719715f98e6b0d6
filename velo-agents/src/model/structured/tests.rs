use serde::Deserialize;

use super::*;
use crate::model::Tier;

#[derive(Debug, PartialEq, Deserialize, JsonSchema)]
struct Answer {
    why: String,
    score: u32,
}

const GOOD: &str = r#"{"why": "it is", "score": 3}"#;

fn asked() -> Structured<Answer> {
    let request = ChatRequest {
        agent: "oracle".into(),
        purpose: "judge".into(),
        tier: Tier::Flash,
        system: "You judge.".into(),
        turns: vec![Turn {
            role: Role::User,
            text: "How good?".into(),
        }],
        schema: None,
        temperature: None,
        max_output_tokens: 100,
    };
    Structured::new(request, |answer: &Answer| {
        let is_high = answer.score > 5;
        let finding = Finding::new("/score", "must be at most 5");
        is_high.then_some(finding).into_iter().collect()
    })
}

fn reply(text: &str, finish: Finish) -> ChatReply {
    ChatReply {
        text: text.into(),
        model: "m".into(),
        finish,
        usage: Usage {
            input_tokens: 10,
            output_tokens: 5,
            requests: 1,
            ..Usage::default()
        },
    }
}

fn whole(text: &str) -> ChatReply {
    reply(text, Finish::Stop)
}

fn failure(progress: Progress<Answer>) -> ModelError {
    match progress {
        Progress::Failed(error) => error,
        other => panic!("expected a failure, got {other:?}"),
    }
}

#[test]
fn the_type_is_asked_for() {
    let asked = asked();
    let schema = asked.request().schema.as_ref().expect("a schema");
    assert_eq!(schema["required"], serde_json::json!(["why", "score"]));
}

#[test]
fn a_good_reply_is_the_answer_also_in_wrapping() {
    for text in [
        GOOD.to_owned(),
        format!("Sure!\n```json\n{GOOD}\n```"),
        "{\"why\": \"it is\", \"score\": 3,}".to_owned(),
    ] {
        let mut asked = asked();
        assert!(
            matches!(
                asked.take(&whole(&text)),
                Progress::Done(Answer { score: 3, .. })
            ),
            "{text}"
        );
        assert_eq!(asked.calls(), 1);
    }
}

#[test]
fn what_is_wrong_is_sent_back_with_its_place_and_the_reply() {
    for (text, told) in [
        ("no idea", "- (the whole): is not JSON"),
        (r#"{"why": "x"}"#, "- /score: is missing"),
        (r#"{"why": 1, "score": 2}"#, "- /why: must be string, not 1"),
        (r#"{"why": "x", "score": 6}"#, "- /score: must be at most 5"),
        ("", "- (the whole): is not JSON"),
    ] {
        let mut asked = asked();
        assert!(matches!(asked.take(&whole(text)), Progress::Ask));
        let turns = &asked.request().turns;
        assert_eq!(turns.len(), 3);
        assert_eq!(turns[1].role, Role::Model);
        assert!(!turns[1].text.is_empty(), "a provider refuses empty turns");
        assert!(turns[2].text.contains(told), "{}", turns[2].text);
    }
}

#[test]
fn after_two_times_it_is_given_up_and_said_why() {
    let mut asked = asked();
    for _ in 0..MAX_REASKS {
        assert!(matches!(asked.take(&whole("{}")), Progress::Ask));
        assert_eq!(
            asked.request().turns.len(),
            3,
            "old replies are not piled up"
        );
    }
    let error = failure(asked.take(&whole(r#"{"why": "x", "score": 9}"#)));
    assert_eq!(error.kind, ModelErrorKind::InvalidOutput);
    assert!(
        error.message.contains("/score: must be at most 5"),
        "{error}"
    );
    assert_eq!(asked.usage().total_tokens(), 45);
}

#[test]
fn a_good_reply_to_a_repair_is_the_answer() {
    let mut asked = asked().with_repair(prompt::oracle_repair());
    assert!(asked.repair_prompt().is_none());
    assert!(matches!(asked.take(&whole("{}")), Progress::Ask));
    assert_eq!(asked.request().purpose, "repair_prd");
    assert_eq!(
        asked.repair_prompt().map(Prompt::name),
        Some("oracle/repair")
    );
    assert!(matches!(asked.take(&whole(GOOD)), Progress::Done(_)));
}

#[test]
fn a_cut_reply_is_asked_for_again_with_twice_the_room_and_only_once() {
    let mut asked = asked();
    // Even a reply that could be read: whether it is whole is not known.
    assert!(matches!(
        asked.take(&reply(GOOD, Finish::MaxTokens)),
        Progress::Ask
    ));
    assert_eq!(asked.request().max_output_tokens, 200);
    assert_eq!(asked.request().turns.len(), 1);
    let error = failure(asked.take(&reply(GOOD, Finish::MaxTokens)));
    assert_eq!(error.kind, ModelErrorKind::InvalidOutput);
    assert!(error.message.contains("cut at 200 tokens"), "{error}");
}

#[test]
fn a_repair_that_is_cut_is_asked_for_again_as_a_repair() {
    let mut asked = asked();
    assert!(matches!(asked.take(&whole("{}")), Progress::Ask));
    let repair = asked.request().turns.clone();
    assert!(matches!(
        asked.take(&reply("{", Finish::MaxTokens)),
        Progress::Ask
    ));
    assert_eq!(asked.request().turns, repair);
    assert!(matches!(asked.take(&whole(GOOD)), Progress::Done(_)));
}

#[test]
fn calls_come_to_an_end_whatever_is_replied() {
    for cut_at in 0..MAX_CALLS {
        let mut asked = asked();
        let mut calls = 0;
        loop {
            calls += 1;
            assert!(calls <= MAX_CALLS, "one more than promised");
            let finish = if calls == cut_at + 1 {
                Finish::MaxTokens
            } else {
                Finish::Stop
            };
            if !matches!(asked.take(&reply("[]", finish)), Progress::Ask) {
                break;
            }
        }
    }
}

#[test]
fn the_same_replies_lead_to_the_same_requests() {
    let (mut one, mut two) = (asked(), asked());
    for text in ["{}", "nonsense"] {
        assert!(matches!(one.take(&whole(text)), Progress::Ask));
        assert!(matches!(two.take(&whole(text)), Progress::Ask));
        assert_eq!(one.request(), two.request());
    }
}

#[test]
fn a_long_list_of_problems_is_told_in_part() {
    #[derive(Debug, Deserialize, JsonSchema)]
    struct List {
        #[expect(dead_code, reason = "only checked for its presence")]
        items: Vec<String>,
    }
    let mut request = asked().request().clone();
    request.schema = None;
    let mut asked = Structured::<List>::new(request, |_| {
        (0..100)
            .map(|at| Finding::new(format!("/items/{at}"), "is odd"))
            .collect()
    });
    assert!(matches!(
        asked.take(&whole(r#"{"items": []}"#)),
        Progress::Ask
    ));
    let words = &asked.request().turns[2].text;
    assert!(words.contains("/items/29: is odd"));
    assert!(words.contains("- and 70 more"));
}
