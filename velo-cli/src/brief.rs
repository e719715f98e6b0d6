//! The brief, as it comes from the command line, a file or standard input.

use std::io::Read;
use std::path::Path;

use velo_agents::agency::MAX_BRIEF;

use crate::exit::Failure;

/// Reads the brief: no more of it than one byte over the limit, which is then refused.
pub(crate) fn read(path: &Path) -> Result<String, Failure> {
    let limit = u64::try_from(MAX_BRIEF + 1).expect("a small number");
    let mut bytes = Vec::new();
    let read = if path == Path::new("-") {
        std::io::stdin().lock().take(limit).read_to_end(&mut bytes)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(limit).read_to_end(&mut bytes))
    };
    let shown = path.display();
    read.map_err(|error| {
        Failure::unusable(format!("could not read the brief from {shown}: {error}"))
    })?;
    if bytes.len() > MAX_BRIEF {
        return Err(Failure::unusable(format!(
            "could not use the brief in {shown}: it has more than {MAX_BRIEF} bytes; shorten it"
        )));
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        Failure::unusable(format!(
            "could not use the brief in {shown}: byte {at} is no UTF-8 text; save it as UTF-8"
        ))
    })
}
