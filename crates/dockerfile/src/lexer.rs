//! From text to statements: lines, comments, continuations, directives, here-documents.

use graph::LineRange;

use crate::directives::Reader;
use crate::error::Error;
use crate::heredoc::{self, Heredoc};
use crate::words;

/// Longest line in bytes, without its end.
const LONGEST_LINE: usize = 65_535;

/// One instruction as it is written.
#[derive(Clone, Debug)]
pub(crate) struct Statement {
    /// The first word.
    pub keyword: String,
    /// Leading `--flag` words.
    pub flags: Vec<String>,
    /// The text after the flags, trimmed.
    pub rest: String,
    /// The whole text with continuations joined, trimmed.
    pub text: String,
    /// Its lines, here-documents included.
    pub lines: LineRange,
    /// Here-documents in order.
    pub heredocs: Vec<Heredoc>,
    /// Comments directly above it.
    pub comments: Vec<String>,
}

/// A text in statements.
#[derive(Debug)]
pub(crate) struct Lexed {
    pub statements: Vec<Statement>,
    pub escape: char,
    /// The ends of statements that continue over blank lines.
    pub empty_continuations: Vec<LineRange>,
}

/// Cuts a text into statements.
pub(crate) fn lex(text: &str) -> Result<Lexed, Error> {
    let mut lexer = Lexer {
        lines: text.strip_prefix('\u{feff}').unwrap_or(text).split_inclusive('\n'),
        number: 0,
        directives: Reader::new("#"),
        escape: '\\',
        empty_continuations: Vec::new(),
        comments: Vec::new(),
    };
    let mut statements = Vec::new();
    while let Some(statement) = lexer.statement()? {
        statements.push(statement);
    }
    if statements.is_empty() {
        return Err(Error::new("file with no instructions")
            .hint("a Dockerfile begins with FROM, as in `FROM scratch`"));
    }
    Ok(Lexed { statements, escape: lexer.escape, empty_continuations: lexer.empty_continuations })
}

struct Lexer<'a> {
    lines: std::str::SplitInclusive<'a, char>,
    number: u32,
    directives: Reader,
    escape: char,
    empty_continuations: Vec<LineRange>,
    comments: Vec<String>,
}

impl<'a> Lexer<'a> {
    /// The next line with its end.
    fn line(&mut self) -> Result<Option<&'a str>, Error> {
        let Some(line) = self.lines.next() else { return Ok(None) };
        self.number += 1;
        if line.trim_end_matches('\n').len() > LONGEST_LINE {
            return Err(Error::new(format!(
                "dockerfile line greater than max allowed size of {LONGEST_LINE}"
            ))
            .at(self.here())
            .hint("break it with the escape character, or put what is in it into a file"));
        }
        Ok(Some(line))
    }

    fn here(&self) -> LineRange {
        LineRange { first: self.number, last: self.number }
    }

    /// Looks for a directive in a line, which is one only before everything else.
    fn directive(&mut self, line: &str) -> Result<bool, Error> {
        match self.directives.line(line, self.number)? {
            None => Ok(false),
            Some("escape") => {
                self.escape = match self.directives.get("escape") {
                    Some("\\") => '\\',
                    Some("`") => '`',
                    other => {
                        let token = other.unwrap_or_default();
                        return Err(Error::new(format!(
                            "invalid escape token '{token}' does not match ` or \\"
                        ))
                        .at(self.here())
                        .word(token)
                        .hint("write `# escape=\\` or `# escape=``, or leave the line out"));
                    }
                };
                Ok(true)
            }
            Some(_) => Ok(true),
        }
    }

    /// The line without the mark that says that it goes on, and whether it does.
    fn continuation<'l>(&self, line: &'l str) -> (&'l str, bool) {
        let trimmed = line.trim_end_matches([' ', '\t']);
        match trimmed.strip_suffix(self.escape) {
            Some(rest) if !rest.ends_with(self.escape) => (rest, true),
            _ => (line, false),
        }
    }

    fn statement(&mut self) -> Result<Option<Statement>, Error> {
        loop {
            let Some(line) = self.line()? else { return Ok(None) };
            let line = line.trim_end_matches(['\r', '\n']).trim_start();
            let directive = self.directive(line)?;
            if let Some(comment) = line.strip_prefix('#') {
                match comment.trim() {
                    "" => self.comments.clear(),
                    _ if directive => {}
                    comment => self.comments.push(comment.into()),
                }
                continue;
            }
            let (part, goes_on) = self.continuation(line);
            if part.is_empty() && !goes_on {
                continue;
            }
            let first = self.number;
            let mut text = part.to_owned();
            if goes_on {
                self.continued(&mut text)?;
            }
            return self.finish(text, first).map(Some);
        }
    }

    /// Adds the lines that a statement goes on with. Comments and blank lines do not end it.
    fn continued(&mut self, text: &mut String) -> Result<(), Error> {
        let mut blank = false;
        while let Some(line) = self.line()? {
            let line = line.trim_end_matches(['\r', '\n']);
            self.directive(line)?;
            let trimmed = line.trim_start();
            if trimmed.starts_with('#') {
                continue;
            }
            if trimmed.is_empty() {
                blank = true;
                continue;
            }
            let (part, goes_on) = self.continuation(line);
            text.push_str(part);
            if !goes_on {
                break;
            }
        }
        if blank {
            self.empty_continuations.push(self.here());
        }
        Ok(())
    }

    fn finish(&mut self, text: String, first: u32) -> Result<Statement, Error> {
        let range = |last| LineRange { first, last };
        let at = |error: Error, last| error.at(range(last));
        let text = text.trim().to_owned();
        let mut statement = split(&text, self.escape);
        statement.comments = std::mem::take(&mut self.comments);
        let asked = match takes_heredocs(&statement, self.escape) {
            Ok(true) => heredoc::from_line(&text),
            Ok(false) => Ok(Vec::new()),
            Err(error) => Err(error),
        };
        for mut heredoc in asked.map_err(|error| at(error, self.number))? {
            if !self.body(&mut heredoc)? {
                return Err(at("unterminated heredoc".into(), self.number)
                    .hint(format!("no line is `{}` alone", heredoc.name))
                    .word(heredoc.name.clone()));
            }
            statement.heredocs.push(heredoc);
        }
        statement.lines = range(self.number);
        Ok(statement)
    }

    /// Reads a here-document's body; whether its end was found.
    fn body(&mut self, heredoc: &mut Heredoc) -> Result<bool, Error> {
        while let Some(line) = self.line()? {
            let bare = line.trim_end_matches(['\r', '\n']);
            let bare = if heredoc.chomp { bare.trim_start_matches('\t') } else { bare };
            if bare == heredoc.name {
                return Ok(true);
            }
            heredoc.content.push_str(line);
        }
        Ok(false)
    }
}

/// Cuts a statement's text into keyword, flags and rest.
pub(crate) fn split(text: &str, escape: char) -> Statement {
    let (keyword, arguments) = words::cut(text).unwrap_or((text, ""));
    let (flags, rest) = words::flags(arguments, escape);
    Statement {
        keyword: keyword.into(),
        flags,
        rest: rest.trim().into(),
        text: text.into(),
        lines: LineRange { first: 0, last: 0 },
        heredocs: Vec::new(),
        comments: Vec::new(),
    }
}

fn takes_heredocs(statement: &Statement, escape: char) -> Result<bool, Error> {
    match statement.keyword.to_ascii_lowercase().as_str() {
        "onbuild" if !statement.rest.is_empty() => {
            let inner = split(&statement.rest, escape);
            Ok(!inner.keyword.eq_ignore_ascii_case("onbuild") && takes_heredocs(&inner, escape)?)
        }
        "add" | "copy" | "run" => Ok(words::json_array(&statement.rest)?.is_none()),
        _ => Ok(false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(text: &str) -> Vec<(String, u32, u32)> {
        let lexed = lex(text).unwrap();
        lexed.statements.into_iter().map(|s| (s.text, s.lines.first, s.lines.last)).collect()
    }

    #[test]
    fn continuations_join_lines() {
        assert_eq!(
            texts("FROM x\n\nRUN a \\\n # comment\n\n  b \\  \n c\n# end\nCMD d \\"),
            [("FROM x".into(), 1, 1), ("RUN a   b  c".into(), 3, 7), ("CMD d".into(), 9, 9)]
        );
        assert_eq!(lex("RUN a \\\n\n b").unwrap().empty_continuations.len(), 1);
        assert_eq!(texts("RUN a \\\\\nCMD b").len(), 2);
        assert_eq!(texts("RUN a\\\r\n b\r\n"), [("RUN a b".into(), 1, 2)]);
    }

    #[test]
    fn the_escape_character_can_be_chosen() {
        assert_eq!(texts("# Escape = `\nRUN a `\n b"), [("RUN a  b".into(), 2, 3)]);
        assert_eq!(texts("# x\n# escape=`\nRUN a \\\n b"), [("RUN a  b".into(), 3, 4)]);
        for text in ["# escape=x\nRUN a", "# escape=`\n# escape=`\nRUN a"] {
            assert!(lex(text).is_err());
        }
    }

    #[test]
    fn heredocs_belong_to_their_statement() {
        let lexed = lex("RUN <<A cat <<B\na\nA\nb\nB\nCOPY [\"<<X\", \"/\"]\nCMD x").unwrap();
        assert_eq!(lexed.statements[0].heredocs[1].content, "b\n");
        assert_eq!(lexed.statements[0].lines, LineRange { first: 1, last: 5 });
        assert_eq!(lexed.statements[1].heredocs, []);
        let error = lex("FROM x\nRUN <<A\nb\n").unwrap_err();
        assert_eq!(error.lines, Some(LineRange { first: 2, last: 3 }));
    }

    #[test]
    fn comments_above_are_kept() {
        let lexed = lex("# syntax=x\n# old\n#\n# one\n# two\nFROM x\nRUN y").unwrap();
        assert_eq!(lexed.statements[0].comments, ["one", "two"]);
        assert!(lexed.statements[1].comments.is_empty());
    }

    #[test]
    fn long_lines_are_refused() {
        assert!(lex(&format!("RUN {}", "x".repeat(65_531))).is_ok());
        let error = lex(&format!("FROM x\nRUN {}", "x".repeat(65_532))).unwrap_err();
        assert_eq!(error.lines.unwrap().first, 2);
    }
}
