//! Which fields of a book a PATCH replaces: <https://google.aip.dev/134>.

use tonic::Status;

use super::fault;
use crate::pb::google::protobuf::FieldMask;
use crate::pb::portico::library::v1::Book;

/// Copies one field from the second book into the first. A copy, because a mask may name a field twice.
type TakeOver = fn(&mut Book, &Book);

/// The fields that a caller can change, with the way to take each over.
const FIELDS: &[(&str, TakeOver)] = &[
    ("title", |old, new| old.title.clone_from(&new.title)),
    ("subtitle", |old, new| old.subtitle.clone_from(&new.subtitle)),
    ("authors", |old, new| old.authors.clone_from(&new.authors)),
    ("isbn", |old, new| old.isbn = new.isbn),
    ("genre", |old, new| old.genre = new.genre),
    ("published", |old, new| old.published = new.published),
    ("pages", |old, new| old.pages = new.pages),
    ("price", |old, new| old.price = new.price),
    ("rating", |old, new| old.rating = new.rating),
    ("labels", |old, new| old.labels.clone_from(&new.labels)),
    ("loan_period", |old, new| old.loan_period = new.loan_period),
];

/// Takes the masked fields of `new` over into `old`; without a mask those that are set.
///
/// # Errors
/// INVALID_ARGUMENT for a path that is no field, or one that callers cannot change.
pub(crate) fn apply(old: &mut Book, new: &Book, mask: Option<&FieldMask>) -> Result<(), Status> {
    let paths = mask.map_or(&[] as &[String], |mask| &mask.paths);
    if paths.iter().any(|path| path == "*") {
        for (_, take_over) in FIELDS {
            take_over(old, new);
        }
        return Ok(());
    }
    if paths.is_empty() {
        for (name, take_over) in FIELDS {
            if is_set(new, name) {
                take_over(old, new);
            }
        }
        return Ok(());
    }
    for path in paths {
        let Some((_, take_over)) = FIELDS.iter().find(|(name, _)| name == path) else {
            return Err(fault::invalid("update_mask", refusal(path)));
        };
        take_over(old, new);
    }
    Ok(())
}

fn refusal(path: &str) -> String {
    match path {
        "name" | "on_shelf" | "loan" | "digest" | "update_time" => format!("{path} cannot be changed"),
        _ => String::from("names something that is no field of a book"),
    }
}

/// Whether a field has a value that is not its default.
fn is_set(book: &Book, field: &str) -> bool {
    match field {
        "title" => !book.title.is_empty(),
        "subtitle" => book.subtitle.is_some(),
        "authors" => !book.authors.is_empty(),
        "isbn" => book.isbn != 0,
        "genre" => book.genre != 0,
        "published" => book.published.is_some(),
        "pages" => book.pages != 0,
        "price" => book.price != 0.0,
        "rating" => book.rating.is_some(),
        "labels" => !book.labels.is_empty(),
        "loan_period" => book.loan_period.is_some(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn old() -> Book {
        Book { title: "Emma".into(), price: 5.0, pages: 300, ..Book::default() }
    }

    fn mask(paths: &[&str]) -> FieldMask {
        FieldMask { paths: paths.iter().map(|path| String::from(*path)).collect() }
    }

    #[test]
    fn changes_only_what_the_mask_names() {
        let mut book = old();
        let new = Book { title: "Persuasion".into(), price: 7.0, ..Book::default() };

        apply(&mut book, &new, Some(&mask(&["price", "pages"]))).unwrap();

        assert_eq!((book.title.as_str(), book.price, book.pages), ("Emma", 7.0, 0));
    }

    #[test]
    fn takes_a_field_named_twice_for_one() {
        let mut book = old();
        let new = Book { title: "Persuasion".into(), ..Book::default() };

        apply(&mut book, &new, Some(&mask(&["title", "title"]))).unwrap();

        assert_eq!(book.title, "Persuasion");
    }

    #[test]
    fn changes_what_is_set_without_a_mask() {
        let mut book = old();

        apply(&mut book, &Book { price: 7.0, ..Book::default() }, None).unwrap();

        assert_eq!((book.title.as_str(), book.price, book.pages), ("Emma", 7.0, 300));
    }

    #[test]
    fn refuses_paths_that_cannot_be_changed() {
        for path in ["name", "loan", "weight", "labels.language", ""] {
            let status = apply(&mut old(), &Book::default(), Some(&mask(&[path]))).unwrap_err();
            assert_eq!(status.code(), tonic::Code::InvalidArgument, "{path}");
        }
    }
}
