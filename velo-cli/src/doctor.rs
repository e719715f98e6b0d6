//! `velo doctor`: whether the database is safe to run on.

use velo_engine::{Grade, examine};

use crate::args::{HouseArgs, ListArgs};
use crate::exit::{Exit, Failure};
use crate::house::House;
use crate::paint::{self, Tone};
use crate::runs::print_json;
use crate::serve::say;

/// Columns of a check's name.
const NAMES: usize = 15;

pub(crate) async fn doctor(args: &HouseArgs, list: ListArgs) -> Result<Exit, Failure> {
    let findings = House::look(args, say, examine).await?;
    let is_unsafe = findings.iter().any(|it| it.grade == Grade::Unsafe);
    if list.json {
        print_json(&findings);
    } else {
        for finding in &findings {
            let (word, tone) = match finding.grade {
                Grade::Fine => ("fine  ", Tone::Good),
                Grade::Notable => ("look  ", Tone::Attention),
                Grade::Unsafe => ("unsafe", Tone::Bad),
            };
            let (check, found) = (finding.check, &finding.found);
            println!("{}  {check:NAMES$} {found}", paint::out(word, tone));
            if let Some(advice) = finding.advice {
                println!("{:width$}{advice}", "", width = NAMES + 9);
            }
        }
        if is_unsafe {
            println!("\nnot safe to run on");
        }
    }
    Ok(if is_unsafe { Exit::Paused } else { Exit::Done })
}
