use velo_agents::blob::Blob;
use velo_agents::domain::artifact::{self, NewVersion, Provenance};
use velo_agents::domain::{LOCAL_TENANT, PageRequest, ProjectId};

use crate::support::{migrated, other_tenant, project};

fn version(project: ProjectId, file_name: &str, content: &str) -> NewVersion {
    NewVersion {
        project,
        task: None,
        agent_name: "Oracle".to_owned(),
        agent_division: "Project Management".to_owned(),
        file_name: file_name.to_owned(),
        file_type: "prd".to_owned(),
        media_type: "text/markdown".to_owned(),
        blob: Blob::describe(LOCAL_TENANT, content.as_bytes()),
        created_by: None,
        produced_by: Some(Provenance {
            model: "offline".to_owned(),
            offline: true,
            prompt_sha256: "00".repeat(32),
            run_id: Some("7".to_owned()),
        }),
    }
}

#[tokio::test]
async fn a_second_document_of_a_name_is_a_new_version_and_both_are_kept() {
    let pool = migrated().await;
    let mut conn = pool.acquire().await.unwrap();
    let project = project(&mut conn).await.id;
    let first = artifact::save(&mut conn, LOCAL_TENANT, &version(project, "PRD.md", "one"))
        .await
        .unwrap();
    let second = artifact::save(&mut conn, LOCAL_TENANT, &version(project, "PRD.md", "two"))
        .await
        .unwrap();
    assert_eq!((first.id, first.version, second.version), (second.id, 1, 2));
    let versions = artifact::versions(&pool, LOCAL_TENANT, first.id, PageRequest::default())
        .await
        .unwrap()
        .items;
    let numbers: Vec<_> = versions
        .iter()
        .map(|version| (version.version_number, version.sha256.as_str()))
        .collect();
    assert_eq!(
        numbers,
        [(1, first.sha256.as_str()), (2, second.sha256.as_str())]
    );
    let provenance = versions[1].produced_by.as_ref().expect("an agent made it");
    assert!(provenance.offline && provenance.model == "offline");
    assert_eq!(
        artifact::get(&pool, LOCAL_TENANT, first.id).await.unwrap(),
        Some(second)
    );
}

#[tokio::test]
async fn saving_the_same_content_again_makes_no_version() {
    let pool = migrated().await;
    let mut conn = pool.acquire().await.unwrap();
    let project = project(&mut conn).await.id;
    let new = version(project, "PRD.md", "one");
    let first = artifact::save(&mut conn, LOCAL_TENANT, &new).await.unwrap();
    assert_eq!(
        artifact::save(&mut conn, LOCAL_TENANT, &new).await.unwrap(),
        first
    );
    let versions = artifact::versions(&pool, LOCAL_TENANT, first.id, PageRequest::default())
        .await
        .unwrap();
    assert_eq!(versions.items.len(), 1);
}

#[tokio::test]
async fn writers_of_one_file_number_their_versions_without_gap_or_clash() {
    let pool = migrated().await;
    let mut conn = pool.acquire().await.unwrap();
    let project = project(&mut conn).await.id;
    let writers = (0..8).map(|writer| {
        let pool = pool.clone();
        tokio::spawn(async move {
            let mut tx = pool.begin().await.unwrap();
            let new = version(project, "PRD.md", &format!("by writer {writer}"));
            artifact::save(&mut tx, LOCAL_TENANT, &new).await.unwrap();
            tx.commit().await.unwrap();
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    let current = artifact::by_name(&pool, LOCAL_TENANT, project, "PRD.md")
        .await
        .unwrap()
        .unwrap();
    let versions = artifact::versions(&pool, LOCAL_TENANT, current.id, PageRequest::default())
        .await
        .unwrap()
        .items;
    let numbers: Vec<i32> = versions
        .iter()
        .map(|version| version.version_number)
        .collect();
    assert_eq!(numbers, (1..=8).collect::<Vec<_>>());
    assert_eq!((current.version, &current.sha256), (8, &versions[7].sha256));
}

#[tokio::test]
async fn a_rolled_back_save_leaves_nothing() {
    let pool = migrated().await;
    let mut tx = pool.begin().await.unwrap();
    let project = project(&mut tx).await.id;
    artifact::save(&mut tx, LOCAL_TENANT, &version(project, "PRD.md", "one"))
        .await
        .unwrap();
    tx.rollback().await.unwrap();
    assert_eq!(
        artifact::by_name(&pool, LOCAL_TENANT, project, "PRD.md")
            .await
            .unwrap(),
        None
    );
}

#[tokio::test]
async fn a_file_name_cannot_leave_the_project() {
    let pool = migrated().await;
    let mut conn = pool.acquire().await.unwrap();
    let project = project(&mut conn).await.id;
    for name in [
        "",
        "/etc/passwd",
        "..",
        "../x",
        "a/../../x",
        "a/..",
        "./x",
        "a\\b",
        "a\nb",
        &"x".repeat(513),
    ] {
        let saved = artifact::save(&mut conn, LOCAL_TENANT, &version(project, name, "one")).await;
        assert!(saved.is_err(), "{name:?} was accepted");
    }
    for name in [
        "a",
        "src/main.rs",
        "docs/..hidden",
        "été/plan v2.md",
        &"x".repeat(512),
    ] {
        artifact::save(&mut conn, LOCAL_TENANT, &version(project, name, "one"))
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn another_tenant_can_neither_read_nor_overwrite_an_artifact() {
    let pool = migrated().await;
    let mut conn = pool.acquire().await.unwrap();
    let project = project(&mut conn).await.id;
    let ours = artifact::save(&mut conn, LOCAL_TENANT, &version(project, "PRD.md", "one"))
        .await
        .unwrap();
    let (other, _) = other_tenant(&pool).await;
    assert_eq!(artifact::get(&pool, other, ours.id).await.unwrap(), None);
    assert!(
        artifact::versions(&pool, other, ours.id, PageRequest::default())
            .await
            .unwrap()
            .items
            .is_empty()
    );
    assert!(
        artifact::list(&pool, other, project, PageRequest::default())
            .await
            .unwrap()
            .items
            .is_empty()
    );
    for name in ["PRD.md", "new.md"] {
        let error = artifact::save(&mut conn, other, &version(project, name, "theirs"))
            .await
            .unwrap_err();
        assert!(!error.is_transient(), "{name}");
    }
    let all = artifact::list(&pool, LOCAL_TENANT, project, PageRequest::default())
        .await
        .unwrap();
    assert_eq!(all.items, [ours]);
}
