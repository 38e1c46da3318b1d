//! A book's cover as SVG, drawn from its title: every book looks the same each time and different from the others.

use std::fmt::Write;

use super::digest::Digest;
use crate::pb::portico::library::v1::Book;

/// Letters that fit on one line of the title.
const LINE: usize = 16;
/// Lines that fit above the author.
const LINES: usize = 8;

/// The image, as text. At most a few kilobytes.
pub(crate) fn draw(book: &Book) -> String {
    let hue = Digest::new().part(&book.title).value() % 360;
    let mut image = format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" width="240" height="360" viewBox="0 0 240 360" font-family="Georgia, serif" text-anchor="middle" fill="#fff">
<rect width="240" height="360" fill="hsl({hue},45%,32%)"/>
<rect x="10" y="10" width="220" height="340" fill="none" stroke="hsl({hue},45%,75%)" stroke-width="2"/>
"##
    );
    for (row, line) in lines(&book.title).iter().enumerate() {
        put(&mut image, 90 + row * 28, 24, line);
    }
    if let Some(author) = book.authors.first() {
        put(&mut image, 325, 14, author);
    }
    image.push_str("</svg>\n");
    image
}

fn put(image: &mut String, y: usize, size: usize, text: &str) {
    // Writing to a string cannot fail.
    write!(image, r#"<text x="120" y="{y}" font-size="{size}">"#).ok();
    for c in text.chars() {
        match c {
            '&' => image.push_str("&amp;"),
            '<' => image.push_str("&lt;"),
            '>' => image.push_str("&gt;"),
            c if c.is_control() => image.push(' '),
            c => image.push(c),
        }
    }
    image.push_str("</text>\n");
}

/// Breaks a title between words, and cuts it when it is too long.
fn lines(title: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in title.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= LINE => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.into()),
        }
    }
    lines.truncate(LINES);
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_titles_that_look_like_markup() {
        let book = Book { title: "<script>alert('&')</script>".into(), ..Book::default() };

        let image = draw(&book);

        assert!(image.contains("&lt;script&gt;alert('&amp;')&lt;/script&gt;"), "{image}");
    }

    #[test]
    fn breaks_titles_between_words() {
        assert_eq!(lines("The Three Musketeers"), ["The Three", "Musketeers"]);
    }
}
