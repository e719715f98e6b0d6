use velo_agents::domain::activity::{self, ActivityStatus, NewActivity};
use velo_agents::domain::usage::{self, NewUsage, UsageTotal};
use velo_agents::domain::{ActivityId, LOCAL_TENANT, LOCAL_USER, PageRequest, ProjectId};

use crate::support::{migrated, other_tenant, project};

fn activity(project: ProjectId, action: &str, status: ActivityStatus) -> NewActivity {
    NewActivity {
        id: ActivityId::named(project.0, action),
        project,
        task: None,
        agent_name: "Oracle".to_owned(),
        agent_division: "Project Management".to_owned(),
        action: action.to_owned(),
        status,
        error_message: None,
        run_id: Some(7),
        duration_ms: None,
    }
}

#[tokio::test]
async fn an_activity_is_one_entry_from_its_start_to_its_end_also_when_its_step_runs_again() {
    let pool = migrated().await;
    let mut conn = pool.acquire().await.unwrap();
    let project = project(&mut conn).await.id;
    let started = activity(project, "Generating PRD", ActivityStatus::Started);
    let ended = NewActivity {
        status: ActivityStatus::Completed,
        duration_ms: Some(1_234),
        ..started.clone()
    };
    assert!(
        activity::record(&mut conn, LOCAL_TENANT, &started)
            .await
            .unwrap()
    );
    assert!(
        !activity::record(&mut conn, LOCAL_TENANT, &started)
            .await
            .unwrap()
    );
    assert!(
        activity::record(&mut conn, LOCAL_TENANT, &ended)
            .await
            .unwrap()
    );
    assert!(
        !activity::record(&mut conn, LOCAL_TENANT, &started)
            .await
            .unwrap(),
        "what has ended stays so"
    );
    let log = activity::list(&pool, LOCAL_TENANT, project, PageRequest::default())
        .await
        .unwrap()
        .items;
    let [entry] = &log[..] else {
        panic!("one activity, one entry: {log:?}")
    };
    assert_eq!(
        (entry.status, entry.duration_ms),
        (ActivityStatus::Completed, Some(1_234))
    );
}

#[tokio::test]
async fn activities_of_one_transaction_are_told_in_their_order() {
    let pool = migrated().await;
    let mut tx = pool.begin().await.unwrap();
    let project = project(&mut tx).await.id;
    let actions: Vec<String> = (0..6).map(|number| format!("action {number}")).collect();
    for action in &actions {
        let new = activity(project, action, ActivityStatus::Completed);
        activity::record(&mut tx, LOCAL_TENANT, &new).await.unwrap();
    }
    tx.commit().await.unwrap();
    let (mut seen, mut after) = (Vec::new(), None);
    for _ in 0..2 {
        let page = activity::list(
            &pool,
            LOCAL_TENANT,
            project,
            PageRequest::new(Some(3), after),
        )
        .await
        .unwrap();
        seen.extend(page.items.into_iter().map(|entry| entry.action));
        after = page.next_cursor;
    }
    seen.reverse();
    assert_eq!((seen, after), (actions, None));
}

#[tokio::test]
async fn another_tenants_log_can_be_neither_read_nor_written() {
    let pool = migrated().await;
    let mut conn = pool.acquire().await.unwrap();
    let project = project(&mut conn).await.id;
    let (other, _) = other_tenant(&pool).await;
    let started = activity(project, "Generating PRD", ActivityStatus::Started);
    activity::record(&mut conn, LOCAL_TENANT, &started)
        .await
        .unwrap();
    let failed = NewActivity {
        status: ActivityStatus::Failed,
        ..started
    };
    assert!(!activity::record(&mut conn, other, &failed).await.unwrap());
    assert!(
        activity::list(&pool, other, project, PageRequest::default())
            .await
            .unwrap()
            .items
            .is_empty()
    );
}

fn call(project: ProjectId, call_key: &str) -> NewUsage {
    NewUsage {
        call_key: call_key.to_owned(),
        project: Some(project),
        user: Some(LOCAL_USER),
        agent_name: "Oracle".to_owned(),
        action_type: "draft_prd".to_owned(),
        input_tokens: 1_000,
        output_tokens: 200,
        cost_usd: 0.1,
        model: "gemini".to_owned(),
        offline: false,
        run_id: Some(7),
    }
}

#[tokio::test]
async fn a_call_that_is_recorded_twice_is_counted_once() {
    let pool = migrated().await;
    let mut conn = pool.acquire().await.unwrap();
    let project = project(&mut conn).await.id;
    assert!(
        usage::record(&mut conn, LOCAL_TENANT, &call(project, "7/prd/1"))
            .await
            .unwrap()
    );
    assert!(
        !usage::record(&mut conn, LOCAL_TENANT, &call(project, "7/prd/1"))
            .await
            .unwrap()
    );
    assert_eq!(
        usage::total(&pool, LOCAL_TENANT, project)
            .await
            .unwrap()
            .calls,
        1
    );
}

#[tokio::test]
async fn prices_are_added_up_exactly_and_tokens_are_the_sum_of_both_kinds() {
    let pool = migrated().await;
    let mut conn = pool.acquire().await.unwrap();
    let project = project(&mut conn).await.id;
    assert_eq!(
        usage::total(&pool, LOCAL_TENANT, project).await.unwrap(),
        UsageTotal::default()
    );
    for number in 0..10 {
        let new = NewUsage {
            offline: number == 0,
            ..call(project, &format!("7/prd/{number}"))
        };
        usage::record(&mut conn, LOCAL_TENANT, &new).await.unwrap();
    }
    let total = usage::total(&pool, LOCAL_TENANT, project).await.unwrap();
    assert_eq!(
        (total.calls, total.offline_calls, total.tokens_used),
        (10, 1, 12_000)
    );
    // Ten times 0.1 in floating point is 0.9999999999999999.
    assert_eq!(total.cost_usd, 1.0);
}

#[tokio::test]
async fn one_tenant_cannot_occupy_the_call_key_of_another() {
    let pool = migrated().await;
    let mut conn = pool.acquire().await.unwrap();
    let project = project(&mut conn).await.id;
    let (other, user) = other_tenant(&pool).await;
    let theirs = NewUsage {
        project: None,
        user: Some(user),
        ..call(project, "7/prd/1")
    };
    assert!(usage::record(&mut conn, other, &theirs).await.unwrap());
    assert!(
        usage::record(&mut conn, LOCAL_TENANT, &call(project, "7/prd/1"))
            .await
            .unwrap()
    );
    assert_eq!(usage::total(&pool, other, project).await.unwrap().calls, 0);
    assert!(
        usage::record(&mut conn, other, &call(project, "7/prd/2"))
            .await
            .is_err(),
        "not their project"
    );
}

#[tokio::test]
async fn a_price_that_is_no_number_or_negative_is_refused() {
    let pool = migrated().await;
    let mut conn = pool.acquire().await.unwrap();
    let project = project(&mut conn).await.id;
    for cost_usd in [f64::NAN, f64::INFINITY, -0.01] {
        let new = NewUsage {
            cost_usd,
            ..call(project, "7/prd/1")
        };
        assert!(
            usage::record(&mut conn, LOCAL_TENANT, &new).await.is_err(),
            "{cost_usd}"
        );
    }
}
