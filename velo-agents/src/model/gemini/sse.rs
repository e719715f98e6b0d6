//! Server-sent events, as the model API writes them.
//!
//! Events end with an empty line (CRLF or LF), carry only `data:` lines and have no end marker.
//! An error may arrive in the middle as bare, pretty-printed JSON instead of an event. Bytes
//! arrive cut anywhere, also inside a UTF-8 character.

/// Longest event, in bytes; a reply piece is a few kilobytes.
pub(super) const MAX_EVENT_BYTES: usize = 8 * 1024 * 1024;

/// Collects bytes and gives back the JSON texts in them.
#[derive(Debug, Default)]
pub(super) struct EventReader {
    bytes: Vec<u8>,
    /// No line break is in `bytes` before here.
    searched: usize,
    data: Option<String>,
    bare: Option<BareJson>,
}

/// Why a stream cannot be read on.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(super) enum SseError {
    #[error("an event is longer than {MAX_EVENT_BYTES} bytes")]
    TooLong,
    #[error("the stream is not UTF-8")]
    NotUtf8,
    #[error("the stream is not made of events: {0:?}")]
    NotAnEvent(String),
    #[error("the stream ended inside an event")]
    Unfinished,
}

impl EventReader {
    /// Takes the next bytes and returns the JSON texts that are complete now.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<Vec<String>, SseError> {
        self.bytes.extend_from_slice(bytes);
        let mut events = Vec::new();
        let mut line_start = 0;
        while let Some(length) = self.bytes[self.searched..].iter().position(|b| *b == b'\n') {
            let end = self.searched + length;
            let line = line_of(&self.bytes[line_start..end])?.to_owned();
            events.extend(self.line(&line)?);
            line_start = end + 1;
            self.searched = line_start;
        }
        self.bytes.drain(..line_start);
        self.searched = self.bytes.len();
        if self.pending() > MAX_EVENT_BYTES {
            return Err(SseError::TooLong);
        }
        Ok(events)
    }

    /// Says that no more bytes come. A bare JSON text may end without a line break; anything else
    /// that is left over is an error.
    pub(super) fn end(mut self) -> Result<Option<String>, SseError> {
        let rest = std::mem::take(&mut self.bytes);
        let rest = line_of(&rest)?;
        let is_bare = self.bare.is_some() || begins_json(rest);
        let last = if is_bare { self.line(rest)? } else { None };
        let is_whole = self.data.is_none() && self.bare.is_none();
        if !is_whole || !(is_bare || rest.trim().is_empty()) {
            return Err(SseError::Unfinished);
        }
        Ok(last)
    }

    fn pending(&self) -> usize {
        let data = self.data.as_ref().map_or(0, String::len);
        let bare = self.bare.as_ref().map_or(0, |bare| bare.text.len());
        self.bytes.len() + data + bare
    }

    fn line(&mut self, line: &str) -> Result<Option<String>, SseError> {
        if let Some(bare) = &mut self.bare {
            return Ok(bare
                .push(line)
                .then(|| self.bare.take().expect("matched above").text));
        }
        if line.is_empty() {
            return Ok(self.data.take());
        }
        if let Some(data) = line.strip_prefix("data:") {
            let data = data.strip_prefix(' ').unwrap_or(data);
            match &mut self.data {
                Some(sum) => {
                    sum.push('\n');
                    sum.push_str(data);
                }
                None => self.data = Some(data.to_owned()),
            }
            return Ok(None);
        }
        if [":", "event:", "id:", "retry:"]
            .iter()
            .any(|field| line.starts_with(field))
        {
            return Ok(None);
        }
        if begins_json(line) {
            let mut bare = BareJson::default();
            if bare.push(line) {
                return Ok(Some(bare.text));
            }
            self.bare = Some(bare);
            return Ok(None);
        }
        Err(SseError::NotAnEvent(line.chars().take(80).collect()))
    }
}

fn begins_json(line: &str) -> bool {
    line.trim_start().starts_with(['{', '['])
}

fn line_of(bytes: &[u8]) -> Result<&str, SseError> {
    let text = std::str::from_utf8(bytes).map_err(|_| SseError::NotUtf8)?;
    Ok(text.strip_suffix('\r').unwrap_or(text))
}

/// JSON over several lines, counted until its brackets balance.
#[derive(Debug, Default)]
struct BareJson {
    text: String,
    depth: usize,
    in_string: bool,
    is_escaped: bool,
}

impl BareJson {
    /// Adds a line; true when the text is complete.
    fn push(&mut self, line: &str) -> bool {
        for byte in line.bytes() {
            match byte {
                _ if self.is_escaped => self.is_escaped = false,
                b'\\' if self.in_string => self.is_escaped = true,
                b'"' => self.in_string = !self.in_string,
                b'{' | b'[' if !self.in_string => self.depth += 1,
                b'}' | b']' if !self.in_string => self.depth = self.depth.saturating_sub(1),
                _ => {}
            }
        }
        self.text.push_str(line);
        self.text.push('\n');
        self.depth == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pieces: &[&[u8]]) -> Result<Vec<String>, SseError> {
        let mut reader = EventReader::default();
        let mut events = Vec::new();
        for piece in pieces {
            events.extend(reader.push(piece)?);
        }
        events.extend(reader.end()?);
        Ok(events)
    }

    #[test]
    fn both_line_ends_are_read() {
        for text in [
            "data: {\"a\":1}\r\n\r\ndata: 2\r\n\r\n",
            "data: {\"a\":1}\n\ndata:2\n\n",
        ] {
            assert_eq!(read(&[text.as_bytes()]).unwrap(), ["{\"a\":1}", "2"]);
        }
    }

    #[test]
    fn every_cut_gives_the_same_events() {
        let text = "data: {\"t\":\"héllo 🦀\"}\r\n\r\n: note\r\ndata: {\"t\":\r\ndata: 2}\r\n\r\n";
        let whole = read(&[text.as_bytes()]).unwrap();
        assert_eq!(whole, ["{\"t\":\"héllo 🦀\"}", "{\"t\":\n2}"]);
        for cut in 0..=text.len() {
            let (left, right) = text.as_bytes().split_at(cut);
            assert_eq!(read(&[left, right]).unwrap(), whole, "cut at {cut}");
        }
        let single: Vec<&[u8]> = text.as_bytes().chunks(1).collect();
        assert_eq!(read(&single).unwrap(), whole);
    }

    #[test]
    fn a_bare_error_in_the_middle_is_one_event() {
        let error = "{\n  \"error\": {\n    \"message\": \"a } in \\\" text\"\n\n  }\n}";
        let text = format!("data: 1\r\n\r\n{error}");
        for tail in ["", "\n", "\r\n\r\n"] {
            let events = read(&[text.as_bytes(), tail.as_bytes()]).unwrap();
            assert_eq!(events.len(), 2, "{tail:?}");
            let value: serde_json::Value = serde_json::from_str(&events[1]).unwrap();
            assert_eq!(value["error"]["message"], "a } in \" text");
        }
    }

    #[test]
    fn leftover_bytes_are_an_error() {
        for text in [
            "data: {\"a\":1}",
            "data: 1\n",
            "data: 1\r\n\r\nda",
            "{\"error\":",
        ] {
            assert_eq!(
                read(&[text.as_bytes()]),
                Err(SseError::Unfinished),
                "{text:?}"
            );
        }
    }

    #[test]
    fn what_is_not_an_event_stream_is_refused() {
        assert!(matches!(read(&[b"<html>\n"]), Err(SseError::NotAnEvent(_))));
        assert_eq!(read(&[b"data: \xff\n\n"]), Err(SseError::NotUtf8));
    }

    #[test]
    fn an_endless_event_is_refused_at_the_limit() {
        let mut reader = EventReader::default();
        reader.push(b"data: ").unwrap();
        let block = vec![b'x'; MAX_EVENT_BYTES / 4];
        let pushed: Result<Vec<_>, _> = (0..5).map(|_| reader.push(&block)).collect();
        assert_eq!(pushed.unwrap_err(), SseError::TooLong);
    }
}
