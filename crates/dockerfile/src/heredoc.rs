//! Here-documents: `<<EOF` in an instruction, the body on the lines behind it.

use crate::error::Error;
use crate::expand::{Lex, Nothing};

/// A here-document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heredoc {
    /// The delimiter, which is also the name of the file that COPY makes of it.
    pub name: String,
    /// True if variables in the body are resolved: the delimiter was not quoted.
    pub expand: bool,
    /// True if leading tabs are removed (`<<-`).
    pub chomp: bool,
    /// The lines of the body as they are in the file.
    pub content: String,
}

impl Heredoc {
    /// The body without leading tabs, where `<<-` asks for that.
    pub(crate) fn text(&self) -> String {
        match self.chomp {
            false => self.content.clone(),
            true => self
                .content
                .split_inclusive('\n')
                .map(|line| line.trim_start_matches('\t'))
                .collect(),
        }
    }
}

/// The here-document that a word asks for, if it does: `[fd]<<[-]name`.
pub(crate) fn from_word(word: &str) -> Result<Option<Heredoc>, Error> {
    let rest = word.trim_start_matches(|c: char| c.is_ascii_digit());
    let Some(rest) = rest.strip_prefix("<<") else { return Ok(None) };
    let (chomp, rest) = match rest.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, rest),
    };
    let rest = rest.trim_start_matches(|c: char| c.is_ascii_whitespace());
    if rest.is_empty() || rest.contains('<') {
        return Ok(None);
    }
    let lex = Lex { keep_unset: true, ..Lex::new('\\') };
    let mut words = lex.words(rest, &Nothing)?;
    let raw = Lex { raw_quotes: true, ..lex }.words(rest, &Nothing)?;
    let quotes = |text: &str| text.matches(['\'', '"']).count();
    let Some(name) = words.pop().filter(|_| words.is_empty()) else { return Ok(None) };
    // A quote that resolving takes away means that the body stays as it is.
    let expand = raw.len() == 1 && quotes(&name) == quotes(&raw[0]);
    Ok(Some(Heredoc { name, expand, chomp, content: String::new() }))
}

/// All here-documents that an instruction asks for, without their bodies.
pub(crate) fn from_line(line: &str) -> Result<Vec<Heredoc>, Error> {
    if !line.contains("<<") {
        return Ok(Vec::new());
    }
    let lex = Lex { raw_quotes: true, raw_escapes: true, keep_unset: true, ..Lex::new('\\') };
    // A line that is no shell words asks for none: what it means is the shell's to say.
    let words = lex.words(line, &Nothing).unwrap_or_default();
    words.iter().filter_map(|word| from_word(word).transpose()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(line: &str) -> Vec<(String, bool, bool)> {
        let docs = from_line(line).unwrap();
        docs.into_iter().map(|doc| (doc.name, doc.expand, doc.chomp)).collect()
    }

    #[test]
    fn words_that_ask_for_bodies() {
        assert_eq!(names("RUN <<EOF"), [("EOF".into(), true, false)]);
        assert_eq!(names("RUN << EOF"), [("EOF".into(), true, false)]);
        assert_eq!(
            names("RUN cat <<-'A' 3<<\"B\""),
            [("A".into(), false, true), ("B".into(), false, false)]
        );
        assert_eq!(names("RUN cat <<<word"), []);
        assert_eq!(names("RUN echo \"<<EOF\""), []);
        assert_eq!(names("RUN echo $((1<<2))"), []);
    }

    #[test]
    fn tabs_are_removed_where_asked() {
        let mut doc = from_word("<<-E").unwrap().unwrap();
        doc.content = "\t\ta\n\tb\tc\n".into();
        assert_eq!(doc.text(), "a\nb\tc\n");
    }
}
