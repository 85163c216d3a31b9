//! List files: one image in each line, with or without its class.

use std::path::Path;

use explainer_zoo::image::EXTENSIONS;

use super::DataError;

/// The class column of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// An index into the classifier's classes.
    Index(usize),
    /// A name.
    Name(String),
}

/// One image of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    /// The path as written in the list.
    pub file: String,
    /// Its class, if the line has one.
    pub class: Option<Class>,
}

/// Header names of the file's column and of the class's column. The first one that is present is used.
const FILE_COLUMNS: [&str; 4] = ["file", "path", "filename", "image"];
const CLASS_COLUMNS: [&str; 4] = ["class_index", "class", "label", "target"];

/// Parses a list; `path` is for messages.
///
/// A line is `path`, `path,class` or `path class`. In the last form the class must not have the extension of an image.
/// Fields with a comma are in double quotes. A first line that starts with `file`, `path`, `filename` or
/// `image` is a CSV header, and the column `class_index`, `class`, `label` or `target`, if any, is the class.
/// Blank lines and lines that start with `#` are skipped. Classes are all integers or all names.
pub(super) fn parse(text: &str, path: &Path) -> Result<Vec<Row>, DataError> {
    let mut rows: Vec<Row> = Vec::new();
    let mut columns: Option<(usize, Option<usize>)> = None; // of the file and the class, from a header
    let mut first = true;
    for (number, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let wrong = |problem: String| DataError::List { path: path.into(), line: number + 1, problem };
        let fields = fields(line).ok_or_else(|| wrong(format!("a quote is not closed in `{line}`")))?;
        if std::mem::take(&mut first) && fields.len() > 1 && FILE_COLUMNS.contains(&fields[0].to_lowercase().as_str()) {
            let class = CLASS_COLUMNS.iter().find_map(|name| fields.iter().position(|field| field == name));
            columns = Some((0, class));
            continue;
        }
        let (file, class) = match (columns, fields.as_slice()) {
            (Some((file, class)), fields) => (fields.get(file), class.and_then(|column| fields.get(column))),
            (None, [file]) if line.starts_with('"') => (Some(file), None),
            (None, [both]) => {
                let (file, class) = split_at_blank(both);
                rows.push(row(file, class, &rows).map_err(wrong)?);
                continue;
            }
            (None, [file, class]) => (Some(file), Some(class)),
            (None, _) => {
                let problem = format!("{} fields in `{line}`, expected `path` or `path,class`", fields.len());
                return Err(wrong(problem + "; put a path that has a comma in double quotes"));
            }
        };
        rows.push(row(file.map_or("", |file| file), class.map(String::as_str), &rows).map_err(wrong)?);
    }
    Ok(rows)
}

/// A row whose class is an index or a name as in the rows before.
fn row(file: &str, class: Option<&str>, before: &[Row]) -> Result<Row, String> {
    if file.is_empty() {
        return Err("no path on this line, expected `path` or `path,class`".into());
    }
    let class = class.filter(|class| !class.is_empty()).map(|class| match class.parse() {
        Ok(index) => Class::Index(index),
        Err(_) => Class::Name(class.into()),
    });
    let kind = before.iter().find_map(|row| row.class.as_ref());
    match (kind, &class) {
        (Some(Class::Index(_)), Some(Class::Name(name))) => {
            Err(format!("the class is the name `{name}`, but the lines above have integers; use one or the other"))
        }
        (Some(Class::Name(_)), Some(Class::Index(index))) => {
            Err(format!("the class is the integer {index}, but the lines above have names; use one or the other"))
        }
        _ => Ok(Row { file: file.into(), class }),
    }
}

/// Splits `path class`, but not a `path` with blanks.
fn split_at_blank(line: &str) -> (&str, Option<&str>) {
    match line.rsplit_once(char::is_whitespace) {
        Some((file, class)) if !is_image(Path::new(class)) => (file.trim_end(), Some(class)),
        _ => (line, None),
    }
}

/// Whether a path has the extension of a supported image format.
pub(super) fn is_image(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    EXTENSIONS.iter().any(|known| extension.eq_ignore_ascii_case(known))
}

/// The trimmed fields of a CSV line; `None` if a quote is not closed. A doubled quote within quotes is one quote.
fn fields(line: &str) -> Option<Vec<String>> {
    let (mut fields, mut field, mut quoted) = (Vec::new(), String::new(), false);
    let mut letters = line.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '"' if quoted && letters.peek() == Some(&'"') => {
                letters.next();
                field.push('"');
            }
            '"' if quoted => quoted = false,
            '"' if field.trim().is_empty() => quoted = true,
            ',' if !quoted => fields.push(std::mem::take(&mut field).trim().to_owned()),
            _ => field.push(letter),
        }
    }
    fields.push(field.trim().to_owned());
    (!quoted).then_some(fields)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rows(text: &str) -> Vec<(String, Option<Class>)> {
        parse(text, Path::new("l.txt")).unwrap().into_iter().map(|row| (row.file, row.class)).collect()
    }

    fn problem(text: &str) -> String {
        parse(text, Path::new("l.txt")).unwrap_err().to_string()
    }

    fn name(name: &str) -> Option<Class> {
        Some(Class::Name(name.into()))
    }

    #[test]
    fn the_three_forms_of_a_line() {
        let expected = [("a.jpg", None), ("b b.png", Some(Class::Index(3))), ("c.webp", Some(Class::Index(12)))];
        let expected = expected.map(|(file, class)| (file.to_owned(), class));
        assert_eq!(rows("\u{feff}# a comment\n\na.jpg\r\nb b.png,3\n  c.webp   12\n"), expected);
        assert_eq!(rows("my photo.JPG"), [("my photo.JPG".to_owned(), None)]);
        assert_eq!(rows("my photo.jpg t-shirt"), [("my photo.jpg".to_owned(), name("t-shirt"))]);
        assert_eq!(rows("\"a,b.jpg\", electric ray"), [("a,b.jpg".to_owned(), name("electric ray"))]);
        assert_eq!(rows("\"a b.jpg 1\""), [("a b.jpg 1".to_owned(), None)]);
    }

    #[test]
    fn csv_with_a_header() {
        let text =
            "file,class_index,wnid,name\nray.jpg,5,n01496331,electric ray\njay.jpg,17,n01580077,\"jay, a bird\"\n";
        let expected = [("ray.jpg".to_owned(), Some(Class::Index(5))), ("jay.jpg".to_owned(), Some(Class::Index(17)))];
        assert_eq!(rows(text), expected);
        assert_eq!(rows("path,size\na.jpg,77\n"), [("a.jpg".to_owned(), None)]);
    }

    #[test]
    fn bad_lines_are_named() {
        assert!(problem("a.jpg,1\nb.jpg,2,3\n").contains("l.txt:2: 3 fields in `b.jpg,2,3`"));
        assert!(problem("a.jpg,1\n\nb.jpg,dog\n").contains("l.txt:3: the class is the name `dog`"));
        assert!(problem("a.jpg dog\nb.jpg 4\n").contains("l.txt:2: the class is the integer 4"));
        assert!(problem("\"a.jpg,1\n").contains("l.txt:1: a quote is not closed"));
        assert!(problem(",1\n").contains("l.txt:1: no path"));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            entries in prop::collection::vec(("[a-z0-9_/ -]{0,8}[a-z]\\.(jpg|PNG|webp|jpeg)", 0..1000_usize), 0..20),
            comma: bool,
        ) {
            let separator = if comma { "," } else { " " };
            let text: String = entries.iter().map(|(file, class)| format!("{file}{separator}{class}\n")).collect();
            let expected: Vec<_> =
                entries.iter().map(|(file, class)| (file.trim().to_owned(), Some(Class::Index(*class)))).collect();
            prop_assert_eq!(rows(&text), expected);
        }

        #[test]
        fn any_text_gives_rows_or_an_error(text in "(?s).{0,200}") {
            if let Ok(rows) = parse(&text, Path::new("l.txt")) {
                prop_assert!(rows.iter().all(|row| !row.file.is_empty()));
            }
        }
    }
}
