//! Marks in a Dockerfile after which a layer of the image ends.

use std::sync::Arc;

use graph::SourceFile;

/// The mark after an instruction that ends a layer, in letters of either case (Makisu's `#!COMMIT`).
const MARK: &str = "#!commit";

/// Lines of a Dockerfile that end with the mark, counted from 1, and the file without marks.
pub(crate) fn take_marks(file: &SourceFile) -> (SourceFile, Vec<u32>) {
    let mut marked = Vec::new();
    let mut text = String::with_capacity(file.text.len());
    for (number, line) in (1..).zip(file.text.split_inclusive('\n')) {
        let words = line.trim_end();
        let start = words.len().checked_sub(MARK.len()).filter(|at| words.is_char_boundary(*at));
        let is_marked = |at: &usize| {
            let (before, mark) = words.split_at(*at);
            let is_apart = before.ends_with([' ', '\t']) && !before.trim_start().starts_with('#');
            is_apart && mark.eq_ignore_ascii_case(MARK)
        };
        match start.filter(is_marked) {
            Some(at) => {
                marked.push(number);
                text.push_str(words[..at].trim_end());
                text.push_str(&line[words.len()..]);
            }
            None => text.push_str(line),
        }
    }
    (SourceFile { name: file.name.clone(), text: Arc::from(text) }, marked)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marks(text: &str) -> (String, Vec<u32>) {
        let file = SourceFile { name: "Dockerfile".into(), text: text.into() };
        let (file, marked) = take_marks(&file);
        (file.text.to_string(), marked)
    }

    #[test]
    fn marks_end_lines_and_are_taken_out() {
        let text = "FROM a\nCOPY a b #!COMMIT\r\n# no #!COMMIT\nRUN a \\\n  && b  #!Commit\nRUN echo a#!COMMIT\nRUN é\nRUN c #!commit";
        let taken =
            "FROM a\nCOPY a b\r\n# no #!COMMIT\nRUN a \\\n  && b\nRUN echo a#!COMMIT\nRUN é\nRUN c";
        assert_eq!(marks(text), (taken.to_owned(), vec![2, 5, 8]));
        assert_eq!(marks(""), (String::new(), Vec::new()));
    }
}
