//! Colours, where there is somebody to see them.

use std::io::IsTerminal;

/// What a piece of text means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    Good,
    Bad,
    Attention,
    Quiet,
    Strong,
}

/// Whether standard error is a terminal that shows colours.
pub(crate) fn err_has_colour() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none()
}

/// Whether somebody reads standard output on a terminal.
pub(crate) fn out_is_terminal() -> bool {
    std::io::stdout().is_terminal()
}

/// Whether standard output is a terminal that shows colours.
pub(crate) fn out_has_colour() -> bool {
    out_is_terminal() && std::env::var_os("NO_COLOR").is_none()
}

/// The text for standard error.
pub(crate) fn err(text: &str, tone: Tone) -> String {
    paint(text, tone, err_has_colour())
}

/// The text for standard output.
pub(crate) fn out(text: &str, tone: Tone) -> String {
    paint(text, tone, out_has_colour())
}

fn paint(text: &str, tone: Tone, has_colour: bool) -> String {
    if !has_colour {
        return text.to_owned();
    }
    let code = match tone {
        Tone::Good => "32",
        Tone::Bad => "31;1",
        Tone::Attention => "33",
        Tone::Quiet => "2",
        Tone::Strong => "1",
    };
    format!("\x1b[{code}m{text}\x1b[0m")
}
