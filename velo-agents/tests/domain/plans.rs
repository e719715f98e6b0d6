use serde_json::json;
use velo_agents::domain::task::{self, NewTask, Priority, TaskStatus};
use velo_agents::domain::{LOCAL_TENANT, PageRequest, TaskId};

use crate::support::{migrated, other_tenant, project};

fn task(position: i32) -> NewTask {
    NewTask {
        id: TaskId::new(),
        key: format!("T-{position:03}"),
        title: "Build it".to_owned(),
        description: String::new(),
        kind: "code".to_owned(),
        priority: Priority::High,
        assigned_agent: Some("Neuron".to_owned()),
        depends_on: vec!["T-000".to_owned(), "with, comma \"and\" {brace}".to_owned()],
        requirement_ids: vec!["FR-1".to_owned()],
        acceptance: json!([{"id": "AC-1", "text": "it runs"}]),
        estimate: None,
        position,
    }
}

#[tokio::test]
async fn a_plan_is_stored_as_it_was_written() {
    let pool = migrated().await;
    let mut conn = pool.acquire().await.unwrap();
    let project = project(&mut conn).await.id;
    let new = NewTask {
        estimate: Some(json!({"points": 3})),
        ..task(1)
    };
    let stored = task::add_all(&mut conn, LOCAL_TENANT, project, std::slice::from_ref(&new))
        .await
        .unwrap();
    let [stored] = &stored[..] else {
        panic!("one task was planned: {stored:?}")
    };
    assert_eq!(
        (stored.id, &stored.key, stored.status),
        (new.id, &new.key, TaskStatus::Pending)
    );
    assert_eq!(
        (&stored.depends_on, &stored.requirement_ids),
        (&new.depends_on, &new.requirement_ids)
    );
    assert_eq!(
        (&stored.acceptance, &stored.estimate),
        (&new.acceptance, &new.estimate)
    );
    assert_eq!((stored.priority, stored.position), (Priority::High, 1));
}

#[tokio::test]
async fn a_plan_that_is_written_twice_makes_its_tasks_once() {
    let pool = migrated().await;
    let mut conn = pool.acquire().await.unwrap();
    let project = project(&mut conn).await.id;
    let first = task::add_all(&mut conn, LOCAL_TENANT, project, &[task(2), task(1)])
        .await
        .unwrap();
    let second = task::add_all(
        &mut conn,
        LOCAL_TENANT,
        project,
        &[task(1), task(2), task(3)],
    )
    .await
    .unwrap();
    assert_eq!(
        second[..2],
        first[..],
        "those that were there stay, in the plan's order"
    );
    let all = task::list(&pool, LOCAL_TENANT, project, PageRequest::default())
        .await
        .unwrap()
        .items;
    assert_eq!(all, second);
}

#[tokio::test]
async fn an_empty_plan_is_no_error() {
    let pool = migrated().await;
    let mut conn = pool.acquire().await.unwrap();
    let project = project(&mut conn).await.id;
    assert_eq!(
        task::add_all(&mut conn, LOCAL_TENANT, project, &[])
            .await
            .unwrap(),
        []
    );
}

#[tokio::test]
async fn tasks_cannot_be_added_to_another_tenants_project() {
    let pool = migrated().await;
    let mut conn = pool.acquire().await.unwrap();
    let project = project(&mut conn).await.id;
    let (other, _) = other_tenant(&pool).await;
    let error = task::add_all(&mut conn, other, project, &[task(1)])
        .await
        .unwrap_err();
    assert!(!error.is_transient());
    assert!(
        task::list(&pool, LOCAL_TENANT, project, PageRequest::default())
            .await
            .unwrap()
            .items
            .is_empty()
    );
}

#[tokio::test]
async fn pages_follow_the_plans_order_also_among_equal_positions() {
    let pool = migrated().await;
    let mut conn = pool.acquire().await.unwrap();
    let project = project(&mut conn).await.id;
    let mut plan: Vec<NewTask> = (0..5).map(task).collect();
    for task in &mut plan {
        task.position /= 3;
    }
    let stored = task::add_all(&mut conn, LOCAL_TENANT, project, &plan)
        .await
        .unwrap();
    let (mut seen, mut after) = (Vec::new(), None);
    for _ in 0..3 {
        let page = task::list(
            &pool,
            LOCAL_TENANT,
            project,
            PageRequest::new(Some(2), after),
        )
        .await
        .unwrap();
        seen.extend(page.items);
        after = page.next_cursor;
    }
    assert_eq!((seen, after), (stored, None));
}

#[tokio::test]
async fn a_tasks_status_can_be_set_to_each_of_its_values() {
    let pool = migrated().await;
    let mut conn = pool.acquire().await.unwrap();
    let project = project(&mut conn).await.id;
    let id = task::add_all(&mut conn, LOCAL_TENANT, project, &[task(1)])
        .await
        .unwrap()[0]
        .id;
    for status in [
        TaskStatus::InProgress,
        TaskStatus::PendingReview,
        TaskStatus::Blocked,
        TaskStatus::Failed,
        TaskStatus::Cancelled,
        TaskStatus::Completed,
        TaskStatus::Pending,
    ] {
        let task = task::set_status(&mut conn, LOCAL_TENANT, id, status)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(task.status, status);
    }
    let (other, _) = other_tenant(&pool).await;
    assert_eq!(
        task::set_status(&mut conn, other, id, TaskStatus::Failed)
            .await
            .unwrap(),
        None
    );
    assert_eq!(
        task::get(&pool, LOCAL_TENANT, id)
            .await
            .unwrap()
            .unwrap()
            .status,
        TaskStatus::Pending
    );
}
