use serde_json::{Value, json};
use velo_agents::agency::NewBrief;
use velo_agents::domain::activity::{self, ActivityStatus, NewActivity};
use velo_agents::domain::artifact::{self, Artifact, NewVersion};
use velo_agents::domain::project::Project;
use velo_agents::domain::{ActivityId, LOCAL_TENANT, ProjectId, TenantId, UserId};

use crate::support::Server;

/// An artifact of the project, and of the project's tenant.
async fn artifact(server: &Server, project: &Project, file_name: &str, content: &str) -> Artifact {
    let tenant = project.tenant_id;
    let blobs = server.agency.blobs();
    let new = NewVersion {
        project: project.id,
        task: None,
        agent_name: "Oracle".to_owned(),
        agent_division: "Product".to_owned(),
        file_name: file_name.to_owned(),
        file_type: "prd".to_owned(),
        media_type: "text/markdown".to_owned(),
        blob: blobs.put(tenant, content.into()).await.unwrap(),
        created_by: None,
        produced_by: None,
    };
    let mut conn = server.pool().acquire().await.unwrap();
    artifact::save(&mut conn, tenant, &new).await.unwrap()
}

#[tokio::test]
async fn an_artifact_is_downloaded_byte_for_byte_under_its_name_and_type() {
    let server = Server::start().await;
    let project = server.project().await;
    let content = "# Tea\n".repeat(50_000);
    let made = artifact(&server, &project, "docs/PRD été.md", &content).await;
    let (status, shown) = server.get(&format!("/api/artifact/{}", made.id)).await;
    assert_eq!(
        (status, &shown),
        (200, &serde_json::to_value(&made).unwrap())
    );
    let url = server.url(&format!("/api/artifact/{}/download", made.id));
    let response = server.http.get(url).send().await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.content_length(), Some(content.len() as u64));
    let headers = response.headers();
    assert_eq!(headers["content-type"], "text/markdown");
    assert_eq!(
        headers["content-disposition"],
        "attachment; filename=\"PRD _t_.md\"; filename*=UTF-8''PRD%20%C3%A9t%C3%A9.md"
    );
    assert_eq!(headers["x-content-type-options"], "nosniff");
    assert_eq!(response.text().await.unwrap(), content);
}

#[tokio::test]
async fn a_damaged_artifact_is_a_failure_and_never_a_download() {
    let server = Server::start().await;
    let project = server.project().await;
    let made = artifact(&server, &project, "PRD.md", "# Tea").await;
    std::fs::write(server.folder.path().join(&made.gcs_path), "# Tee").unwrap();
    let (status, problem) = server
        .get(&format!("/api/artifact/{}/download", made.id))
        .await;
    assert_eq!(status, 500);
    assert!(!problem.to_string().contains(&made.gcs_path), "{problem}");
}

#[tokio::test]
async fn artifacts_and_activities_of_a_project_are_listed_page_by_page() {
    let server = Server::start().await;
    let (project, other) = (server.project().await, server.project().await);
    artifact(&server, &other, "other.md", "x").await;
    let mut conn = server.pool().acquire().await.unwrap();
    for number in 0..5 {
        artifact(&server, &project, &format!("{number}.md"), "x").await;
        let new = NewActivity {
            id: ActivityId::new(),
            project: project.id,
            task: None,
            agent_name: "Oracle".to_owned(),
            agent_division: "Product".to_owned(),
            action: format!("{number}"),
            status: ActivityStatus::Started,
            error_message: None,
            run_id: None,
            duration_ms: None,
        };
        activity::record(&mut conn, LOCAL_TENANT, &new)
            .await
            .unwrap();
    }
    let path = format!("/api/project/{}", project.id);
    let files = pages(&server, &format!("{path}/artifacts"), "file_name").await;
    assert_eq!(files, ["0.md", "1.md", "2.md", "3.md", "4.md"]);
    let actions = pages(&server, &format!("{path}/activity"), "action").await;
    assert_eq!(actions, ["4", "3", "2", "1", "0"]);
}

/// A field of every row of a list, read two at a time.
async fn pages(server: &Server, path: &str, field: &str) -> Vec<Value> {
    let mut seen = Vec::new();
    let mut query = "?limit=2".to_owned();
    loop {
        let (status, page) = server.get(&format!("{path}{query}")).await;
        assert_eq!(status, 200, "{page}");
        let items = page["items"].as_array().unwrap();
        assert!(items.len() <= 2);
        seen.extend(items.iter().map(|item| item[field].clone()));
        match page["next_cursor"].as_str() {
            Some(cursor) => query = format!("?limit=2&after={cursor}"),
            None => return seen,
        }
    }
}

#[tokio::test]
async fn a_project_without_tasks_has_an_empty_list_of_them() {
    let server = Server::start().await;
    let project = server.project().await;
    let (status, tasks) = server
        .get(&format!("/api/project/{}/tasks", project.id))
        .await;
    assert_eq!(
        (status, tasks),
        (200, json!({ "items": [], "next_cursor": null }))
    );
}

#[tokio::test]
async fn unknown_ids_are_not_found_and_malformed_ones_are_said_to_be_malformed() {
    let server = Server::start().await;
    let unknown = ProjectId::new();
    for (before, after) in [
        ("/api/project/", ""),
        ("/api/project/", "/tasks"),
        ("/api/project/", "/artifacts"),
        ("/api/project/", "/activity"),
        ("/api/artifact/", ""),
        ("/api/artifact/", "/download"),
    ] {
        for (id, expected) in [
            (unknown.to_string().as_str(), 404),
            ("7", 400),
            ("%ff", 400),
        ] {
            let path = format!("{before}{id}{after}");
            assert_eq!(server.get(&path).await.0, expected, "{path}");
        }
    }
}

#[tokio::test]
async fn what_is_another_tenants_is_not_there() {
    let server = Server::start().await;
    let (tenant, user) = (TenantId::new(), UserId::new());
    sqlx::query(
        "with tenant as (
           insert into velo.tenants (id, company_name, subdomain) values ($1, 'Other', 'other')
         )
         insert into velo.users (id, tenant_id, email) values ($2, $1, 'a@other.example')",
    )
    .bind(tenant)
    .bind(user)
    .execute(server.pool())
    .await
    .unwrap();
    let brief = NewBrief::new("Their secret");
    let made = server.agency.create_project(tenant, user, &brief, None);
    let project = made.await.unwrap();
    let made = artifact(&server, &project, "PRD.md", "# Tea").await;
    let (_, list) = server.get("/api/project/list").await;
    assert_eq!(list["items"], json!([]));
    for path in [
        format!("/api/project/{}", project.id),
        format!("/api/project/{}/artifacts", project.id),
        format!("/api/artifact/{}", made.id),
        format!("/api/artifact/{}/download", made.id),
    ] {
        assert_eq!(server.get(&path).await.0, 404, "{path}");
    }
    let mut socket = server.connect().await;
    socket
        .say(&json!({ "type": "subscribe", "project_id": project.id }))
        .await;
    assert_eq!(socket.next().await["code"], "unknown_project");
}

#[tokio::test]
async fn a_part_of_a_list_that_cannot_be_is_malformed() {
    let server = Server::start().await;
    for query in ["?after=x", "?limit=x", "?limit=-1", "?after=1.x"] {
        let (status, problem) = server.get(&format!("/api/project/list{query}")).await;
        assert_eq!(status, 400, "{query}: {problem}");
    }
    for query in ["?limit=0", "?limit=4294967295", "?other=1"] {
        assert_eq!(
            server.get(&format!("/api/project/list{query}")).await.0,
            200
        );
    }
}

#[tokio::test]
async fn agents_are_listed_and_found_by_id_or_name() {
    let server = Server::start().await;
    let (_, agents) = server.get("/api/agents").await;
    assert_eq!(agents["items"].as_array().unwrap().len(), 51);
    let (status, neuron) = server.get("/api/agents/neuron").await;
    assert_eq!((status, &neuron["division"]), (200, &json!("engineering")));
    assert_eq!(server.get("/api/agents/Neuron").await, (200, neuron));
    assert_eq!(server.get("/api/agents/nobody").await.0, 404);
}
