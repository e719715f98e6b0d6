//! What cannot be used is refused at once: nothing is opened, made or left behind.

use std::fs;

use crate::house::{House, ended, fed, velo};

#[tokio::test]
async fn a_brief_that_cannot_be_used_is_refused_before_anything_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &[u8]| fs::write(folder.path().join(name), content).unwrap();
    file("blank", b" \n\t ");
    file("big", &b"a shop ".repeat(150_000));
    file("nul", b"a\0shop");
    file("latin1", b"caf\xe9 with tea");
    fs::create_dir(folder.path().join("folder")).unwrap();
    let before = fs::read_dir(folder.path()).unwrap().count();
    let cases: [(&[&str], &[&str]); 13] = [
        (&[""], &["the brief is empty", "say what is to be built"]),
        (&["  \n "], &["the brief is empty"]),
        (&["--file", "blank"], &["the brief is empty"]),
        (&["--file", "big"], &["100000 bytes", "shorten it"]),
        (&["--file", "nul"], &["NUL character at byte 1"]),
        (
            &["--file", "latin1"],
            &["latin1", "byte 3 is no UTF-8", "save it as UTF-8"],
        ),
        (
            &["--file", "missing"],
            &["could not read the brief from missing", "No such file"],
        ),
        (
            &["--file", "folder"],
            &["could not read the brief from folder", "directory"],
        ),
        (&[], &["give a brief", "--file", "--resume"]),
        (&["--resume", "habit"], &["could not resume", "`habit`"]),
        (&["--resume", "1", "a shop"], &["cannot be used with"]),
        (
            &["a shop", "--name", "a\nb"],
            &["control character", "one line"],
        ),
        (&["a shop", "--file", "-"], &["cannot be used with"]),
    ];
    for (args, words) in cases {
        let args = ["run"].iter().chain(args).copied();
        ended(velo(folder.path(), args)).await.refused(2, words);
    }
    let after = fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(after, before, "nothing was made");
}

#[tokio::test]
async fn a_brief_comes_from_a_file_or_from_standard_input() {
    let house = House::new().await;
    fs::write(house.path().join("brief.txt"), "Ein Laden für Tee\n").unwrap();
    let from_file = house.run(["run", "--file", "brief.txt", "--json"]).await;
    assert_eq!(from_file.code, Some(0), "{from_file:?}");
    let name = "Ein Laden für Tee";
    from_file.says(&[name]);
    let piped = fed(
        house.velo(["run", "--file", "-", "--name", "Tee"]),
        b"A blog about tea",
    )
    .await;
    assert_eq!(piped.code, Some(0), "{piped:?}");
    piped.says(&["project Tee"]);
    let blank = fed(house.velo(["run", "--file", "-"]), b"  \n").await;
    blank.refused(2, &["the brief is empty"]);
}

#[tokio::test]
async fn an_id_that_nobody_knows_is_refused() {
    let house = House::new().await;
    let nothing = house.run(["run", "--resume"]).await;
    nothing.refused(2, &["no run is unfinished", "give a brief"]);
    house
        .run(["run", "--resume", "999"])
        .await
        .refused(2, &["there is no run 999"]);
    let id = "019ac000-0000-7000-8000-000000000000";
    house
        .run(["run", "--resume", id])
        .await
        .refused(2, &["there is no project", id]);
}

#[tokio::test]
async fn documents_that_cannot_be_delivered_are_noticed_before_anything_is_paid_for() {
    let house = House::new().await;
    fs::write(house.path().join("taken"), "").unwrap();
    let refused = house.run(["run", "a shop", "--out", "taken"]).await;
    refused.refused(4, &["could not write into taken", "--out"]);
    let refused = house.run(["run", "a shop", "--data", "taken"]).await;
    refused.refused(4, &["taken"]);
    assert!(house.fake.requests().is_empty());
}

#[tokio::test]
async fn a_variable_that_cannot_be_used_is_named() {
    let house = House::new().await;
    for (name, value, words) in [
        ("VELO_MODEL_ATTEMPTS", "many", "from 1 to 20"),
        ("GOOGLE_GENAI_USE_VERTEXAI", "maybe", "true or false"),
    ] {
        let mut velo = house.velo(["run", "a shop"]);
        velo.env(name, value);
        ended(velo).await.refused(4, &[name, words]);
    }
}
