//! `--format` of lists: a table, JSON, or a Go template, each for one row.

use gotemplate::{Template, TemplateError};
use serde_json::Value;

use crate::render::{CommandError, table};

/// A template of `--format` that is wrong, or names a missing field.
#[derive(Debug, thiserror::Error)]
#[error("`--format`: {0}")]
pub struct FormatError(#[from] TemplateError);

impl CommandError for FormatError {}

/// The form in which the rows of a list are printed.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum RowFormat {
    /// The command's own columns.
    #[default]
    Table,
    /// A JSON object per line.
    Json,
    /// A template per line.
    Template(Template),
    /// Columns of templates, with headings (`table {{.A}}\t{{.B}}`).
    Columns(Vec<(String, Template)>),
}

impl RowFormat {
    /// Reads `--format`.
    ///
    /// # Errors
    /// If a template is wrong.
    pub fn read(text: Option<&str>) -> Result<Self, FormatError> {
        match text {
            None | Some("" | "table") => Ok(Self::Table),
            Some("json" | "{{json .}}") => Ok(Self::Json),
            Some(text) => match text.strip_prefix("table ") {
                None => Ok(Self::Template(Template::parse(text)?)),
                Some(columns) => {
                    let columns = columns.replace("\\t", "\t");
                    let column = |text: &str| Ok((heading(text), Template::parse(text.trim())?));
                    let columns: Result<_, FormatError> = columns.split('\t').map(column).collect();
                    Ok(Self::Columns(columns?))
                }
            },
        }
    }

    /// The text of rows; none if the command prints its own table.
    ///
    /// # Errors
    /// If a template names a missing field.
    pub fn lines(&self, rows: &[Value]) -> Result<Option<String>, FormatError> {
        Ok(Some(match self {
            Self::Table => return Ok(None),
            Self::Json => super::json_lines(rows.iter().cloned()),
            Self::Template(template) => {
                let mut text = String::new();
                for row in rows {
                    text.push_str(&template.render(row)?);
                    text.push('\n');
                }
                text
            }
            Self::Columns(columns) => {
                let headings: Vec<String> = columns.iter().map(|(name, _)| name.clone()).collect();
                let mut lines = vec![headings];
                for row in rows {
                    let cells = columns.iter().map(|(_, template)| template.render(row));
                    lines.push(cells.collect::<Result<_, _>>()?);
                }
                aligned(&lines)
            }
        }))
    }
}

/// The heading of a column: the last word of its template, as docker calls it.
fn heading(template: &str) -> String {
    let word = template.rsplit('.').next().unwrap_or_default();
    let word = word.trim_matches(|c: char| !c.is_alphanumeric());
    match word {
        "ID" => "IMAGE ID".into(),
        "CreatedSince" => "CREATED".into(),
        "CreatedAt" => "CREATED AT".into(),
        "CreatedBy" => "CREATED BY".into(),
        word => word.to_uppercase(),
    }
}

/// Aligned rows of any number of cells; the first row has the headings.
fn aligned(lines: &[Vec<String>]) -> String {
    let columns = lines.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        lines.iter().filter_map(|line| line.get(column)).map(|cell| cell.chars().count()).max()
    };
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for line in lines {
        let cells = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        let joined = cells.collect::<Vec<_>>().join("   ");
        // Through `table`, which removes control characters: foreign text must not move the cursor.
        text.push_str(table([joined.trim_end()], &[]).trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn rows_as_docker_formats_them() {
        let rows =
            [json!({"Repository": "app", "Tag": "1"}), json!({"Repository": "b", "Tag": "22"})];
        let lines = |format: &str| RowFormat::read(Some(format)).unwrap().lines(&rows).unwrap();
        assert_eq!(lines("table"), None);
        assert_eq!(lines("{{.Repository}}:{{.Tag}}").unwrap(), "app:1\nb:22\n");
        assert_eq!(
            lines("table {{.Repository}}\\t{{.Tag}}").unwrap(),
            "REPOSITORY   TAG\napp          1\nb            22\n"
        );
        assert_eq!(lines("json").unwrap().lines().count(), 2);
        assert!(RowFormat::read(Some("{{.X")).is_err());
        let wrong = RowFormat::read(Some("{{.X}}")).unwrap().lines(&rows).unwrap_err().to_string();
        assert!(wrong.starts_with("`--format`: there is no `.X`"), "{wrong}");
    }
}
