//! `velo fake-gemini`: a local server that speaks Gemini's API.

use std::sync::Arc;

use velo_agents::fake_gemini::{DEFAULT_KEY, FakeGemini, FromModel};
use velo_agents::model::offline::OfflineModel;

use crate::args::FakeGeminiArgs;
use crate::exit::{Exit, Failure};
use crate::stop::Stop;

pub(crate) async fn serve(args: FakeGeminiArgs) -> Result<Exit, Failure> {
    let fake = FakeGemini::serve_on(args.listen, FromModel(Arc::new(OfflineModel)))
        .await
        .map_err(|error| {
            Failure::environment(format!(
                "could not serve on {}: {error}; choose another address with --listen",
                args.listen
            ))
        })?;
    println!("a fake Gemini answers with the offline model; use it with");
    println!(
        "  GEMINI_BASE_URL={} GEMINI_API_KEY={DEFAULT_KEY}",
        fake.base_url()
    );
    let stop = Stop::listen();
    tokio::select! {
        () = stop.gently.cancelled() => (),
        ended = fake.until_stopped() => ended.map_err(|error| Failure::new("the server broke", error))?,
    }
    Ok(Exit::Done)
}
