//! What a benchmark reports: one value a line.

use std::io::Write as _;

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use serde::Serialize;

/// A measured value, beside what bounds it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Line {
    workload: String,
    metric: String,
    value: f64,
    unit: &'static str,
    /// Repetitions, or samples of a percentile.
    n: usize,
    floor_name: Option<&'static str>,
    floor: Option<f64>,
    ratio: Option<f64>,
}

impl Line {
    pub(crate) fn new(
        workload: impl Into<String>,
        metric: impl Into<String>,
        value: f64,
        unit: &'static str,
        n: usize,
    ) -> Self {
        Self {
            workload: workload.into(),
            metric: metric.into(),
            value,
            unit,
            n,
            floor_name: None,
            floor: None,
            ratio: None,
        }
    }

    /// Beside a floor of the same run; `ratio` is the median of the repetitions' ratios.
    pub(crate) fn against(mut self, name: &'static str, floor: f64, ratio: f64) -> Self {
        (self.floor_name, self.floor, self.ratio) = (Some(name), Some(floor), Some(ratio));
        self
    }
}

/// Prints lines as they come, or all of them at the end as a table.
#[derive(Debug)]
pub(crate) struct Lines {
    as_json: bool,
    kept: Vec<Line>,
}

impl Lines {
    pub(crate) fn new(as_json: bool) -> Self {
        Self {
            as_json,
            kept: Vec::new(),
        }
    }

    pub(crate) fn push(&mut self, line: Line) {
        if self.as_json {
            let json = serde_json::to_string(&line).expect("names and numbers are always JSON");
            // A reader that has gone wants no more lines.
            let _ = writeln!(std::io::stdout(), "{json}");
        } else {
            self.kept.push(line);
        }
    }

    pub(crate) fn finish(&self) {
        if self.kept.is_empty() {
            return;
        }
        let mut table = Table::new();
        table
            .load_style(presets::ASCII_MARKDOWN)
            .set_content_arrangement(ContentArrangement::Disabled)
            .set_header([
                "workload", "metric", "value", "unit", "n", "floor", "of it", "ratio",
            ]);
        for line in &self.kept {
            table.add_row([
                line.workload.clone(),
                line.metric.clone(),
                readable(line.value),
                line.unit.to_owned(),
                line.n.to_string(),
                line.floor_name.unwrap_or_default().to_owned(),
                line.floor.map(readable).unwrap_or_default(),
                line.ratio
                    .map(|ratio| format!("{ratio:.2}"))
                    .unwrap_or_default(),
            ]);
        }
        for column in [2, 4, 6, 7] {
            if let Some(column) = table.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        println!("{table}");
    }
}

/// Three digits that count, with thousands set apart.
fn readable(value: f64) -> String {
    match value.abs() {
        size if size >= 1000.0 => {
            let digits = format!("{value:.0}");
            let mut text = String::new();
            for (place, digit) in digits.chars().enumerate() {
                if place > 0 && digit.is_ascii_digit() && (digits.len() - place) % 3 == 0 {
                    text.push(',');
                }
                text.push(digit);
            }
            text
        }
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_values_are_set_apart_and_small_ones_keep_three_digits() {
        assert_eq!(readable(1_234_567.4), "1,234,567");
        assert_eq!(readable(12_345.0), "12,345");
        assert_eq!(readable(123.4), "123");
        assert_eq!(readable(12.34), "12.3");
        assert_eq!(readable(0.123), "0.12");
    }

    #[test]
    fn a_line_has_all_keys_even_without_a_floor() {
        let json = serde_json::to_value(Line::new("chain", "rate", 1.0, "steps/s", 5)).unwrap();
        let keys: Vec<&String> = json.as_object().unwrap().keys().collect();
        let all = [
            "workload",
            "metric",
            "value",
            "unit",
            "n",
            "floor_name",
            "floor",
            "ratio",
        ];
        assert_eq!(keys, all);
    }
}
