use velo_agents::domain::project::{self, NewProject, ProjectStatus};
use velo_agents::domain::{LOCAL_TENANT, PageRequest, ProjectId};

use crate::support::{migrated, new_project, other_tenant, project};

#[tokio::test]
async fn a_new_project_is_being_planned_and_keeps_its_brief_word_for_word() {
    let pool = migrated().await;
    let mut conn = pool.acquire().await.unwrap();
    let new = new_project("Tea shop");
    let made = project::create(&mut conn, &new).await.unwrap();
    assert_eq!(
        (made.id, made.status, made.run_id),
        (new.id, ProjectStatus::Planning, Some(7))
    );
    assert_eq!(
        project::brief(&mut *conn, LOCAL_TENANT, made.id)
            .await
            .unwrap(),
        Some(new.brief)
    );
    let json = serde_json::to_value(&made).unwrap();
    assert_eq!(json["run_id"], "7");
    assert_eq!(json["status"], "planning");
}

#[tokio::test]
async fn creating_a_project_again_makes_no_second_one_and_changes_nothing() {
    let pool = migrated().await;
    let mut conn = pool.acquire().await.unwrap();
    let new = new_project("Tea shop");
    let first = project::create(&mut conn, &new).await.unwrap();
    let again = NewProject {
        name: "Coffee shop".to_owned(),
        ..new
    };
    assert_eq!(project::create(&mut conn, &again).await.unwrap(), first);
}

#[tokio::test]
async fn a_project_is_invisible_and_untouchable_for_another_tenant() {
    let pool = migrated().await;
    let mut conn = pool.acquire().await.unwrap();
    let ours = project(&mut conn).await;
    let (other, user) = other_tenant(&pool).await;
    assert_eq!(project::get(&pool, other, ours.id).await.unwrap(), None);
    assert_eq!(project::brief(&pool, other, ours.id).await.unwrap(), None);
    assert!(
        project::list(&pool, other, PageRequest::default())
            .await
            .unwrap()
            .items
            .is_empty()
    );
    let moved = project::move_to(&mut conn, other, ours.id, ProjectStatus::Archived, None).await;
    assert!(!moved.unwrap_err().is_transient());
    let taken = NewProject {
        tenant: other,
        user,
        id: ours.id,
        ..new_project("Mine")
    };
    assert!(project::create(&mut conn, &taken).await.is_err());
    let foreign_user = NewProject {
        tenant: other,
        ..new_project("Mine")
    };
    assert!(project::create(&mut conn, &foreign_user).await.is_err());
    assert_eq!(
        project::get(&pool, LOCAL_TENANT, ours.id).await.unwrap(),
        Some(ours)
    );
}

#[tokio::test]
async fn a_status_moves_only_along_the_allowed_ways() {
    let pool = migrated().await;
    let mut conn = pool.acquire().await.unwrap();
    let id = project(&mut conn).await.id;
    let failed = project::move_to(
        &mut conn,
        LOCAL_TENANT,
        id,
        ProjectStatus::Failed,
        Some("no model"),
    )
    .await
    .unwrap();
    assert_eq!(
        (failed.status, failed.status_message.as_deref()),
        (ProjectStatus::Failed, Some("no model"))
    );
    let again = project::move_to(
        &mut conn,
        LOCAL_TENANT,
        id,
        ProjectStatus::Failed,
        Some("no model"),
    )
    .await
    .unwrap();
    assert_eq!(
        again.updated_at, failed.updated_at,
        "the same move again writes nothing"
    );
    let refused = project::move_to(&mut conn, LOCAL_TENANT, id, ProjectStatus::Completed, None)
        .await
        .unwrap();
    assert_eq!(refused, failed);
    project::move_to(&mut conn, LOCAL_TENANT, id, ProjectStatus::Archived, None)
        .await
        .unwrap();
    let refused = project::move_to(&mut conn, LOCAL_TENANT, id, ProjectStatus::Planning, None)
        .await
        .unwrap();
    assert_eq!(refused.status, ProjectStatus::Archived);
}

#[tokio::test]
async fn a_project_keeps_the_first_run_that_it_was_given() {
    let pool = migrated().await;
    let mut conn = pool.acquire().await.unwrap();
    let new = NewProject {
        run_id: None,
        ..new_project("Tea shop")
    };
    project::create(&mut conn, &new).await.unwrap();
    assert!(
        project::attach_run(&mut conn, LOCAL_TENANT, new.id, 8)
            .await
            .unwrap()
    );
    assert!(
        !project::attach_run(&mut conn, LOCAL_TENANT, new.id, 9)
            .await
            .unwrap()
    );
    assert_eq!(
        project::get(&pool, LOCAL_TENANT, new.id)
            .await
            .unwrap()
            .unwrap()
            .run_id,
        Some(8)
    );
}

#[tokio::test]
async fn pages_show_every_project_once_newest_first_while_others_are_added() {
    let pool = migrated().await;
    let mut conn = pool.acquire().await.unwrap();
    let mut made = Vec::new();
    // Three of five share one moment, as projects made in one transaction do.
    for number in 0..5 {
        let id = project::create(&mut conn, &new_project(&format!("p{number}")))
            .await
            .unwrap()
            .id;
        sqlx::query("update velo.projects set created_at = to_timestamp($2) where id = $1")
            .bind(id)
            .bind(f64::from(number / 3))
            .execute(&mut *conn)
            .await
            .unwrap();
        made.push((number / 3, id));
    }
    made.sort_unstable();
    made.reverse();

    let mut seen: Vec<ProjectId> = Vec::new();
    let mut after = None;
    for _ in 0..3 {
        let page = project::list(&pool, LOCAL_TENANT, PageRequest::new(Some(2), after))
            .await
            .unwrap();
        seen.extend(page.items.iter().map(|project| project.id));
        after = page.next_cursor;
        project::create(&mut conn, &new_project("later"))
            .await
            .unwrap();
    }
    assert_eq!(after, None);
    assert_eq!(seen, made.into_iter().map(|(_, id)| id).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_list_shows_the_beginning_of_a_long_description_and_the_project_all_of_it() {
    let pool = migrated().await;
    let mut conn = pool.acquire().await.unwrap();
    let new = NewProject {
        description: "é".repeat(2_000),
        ..new_project("Long")
    };
    let whole = project::create(&mut conn, &new).await.unwrap();
    assert_eq!(whole.description, new.description);
    let page = project::list(&pool, LOCAL_TENANT, PageRequest::default())
        .await
        .unwrap();
    assert_eq!(page.items[0].description, "é".repeat(1_000));
}
