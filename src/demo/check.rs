//! What a book and a shelf must look like to be kept. Finds everything that is wrong, not only the first thing.

use tonic::Status;

use super::fault;
use crate::pb::google::protobuf::Duration;
use crate::pb::google::rpc::bad_request::FieldViolation;
use crate::pb::portico::library::v1::{Book, Genre};

/// Longest text of any field, in bytes.
const LONGEST_TEXT: usize = 200;
/// Most authors of one book.
const MOST_AUTHORS: usize = 8;
/// Most labels of one book.
const MOST_LABELS: usize = 16;
/// Longest loan, in seconds: a year.
const LONGEST_LOAN: i64 = 366 * 86_400;
/// Years 1 to 9999, which is what a timestamp can say: <https://protobuf.dev/reference/protobuf/google.protobuf/#timestamp>.
const TIMESTAMPS: std::ops::RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;

/// # Errors
/// INVALID_ARGUMENT naming every field that is wrong.
pub(crate) fn book(book: &Book) -> Result<(), Status> {
    let mut wrong = Vec::new();
    text(&mut wrong, "book.title", &book.title);
    required(&mut wrong, "book.title", &book.title);
    if let Some(subtitle) = &book.subtitle {
        text(&mut wrong, "book.subtitle", &subtitle.value);
    }
    number(&mut wrong, "book.authors", book.authors.len(), MOST_AUTHORS);
    for (index, author) in book.authors.iter().enumerate().take(MOST_AUTHORS) {
        let field = format!("book.authors[{index}]");
        text(&mut wrong, &field, author);
        required(&mut wrong, &field, author);
    }
    if !isbn_is_sound(book.isbn) {
        wrong.push(fault::violation("book.isbn", "13 digits of which the last is the check digit, or 0"));
    }
    if Genre::try_from(book.genre).is_err() {
        wrong.push(fault::violation("book.genre", format!("there is no genre {}", book.genre)));
    }
    if book.published.is_some_and(|published| !TIMESTAMPS.contains(&published.seconds)) {
        wrong.push(fault::violation("book.published", "a time between the years 1 and 9999"));
    }
    if book.pages < 0 {
        wrong.push(fault::violation("book.pages", "not negative"));
    }
    if !(book.price.is_finite() && book.price >= 0.0) {
        wrong.push(fault::violation("book.price", "a number that is not negative"));
    }
    if book.rating.is_some_and(|rating| !(0.0..=5.0).contains(&rating)) {
        wrong.push(fault::violation("book.rating", "a number from 0 to 5"));
    }
    number(&mut wrong, "book.labels", book.labels.len(), MOST_LABELS);
    for (key, value) in book.labels.iter().take(MOST_LABELS) {
        text(&mut wrong, "book.labels", key);
        required(&mut wrong, "book.labels", key);
        text(&mut wrong, "book.labels", value);
    }
    if let Some(period) = book.loan_period {
        loan_period(&mut wrong, "book.loan_period", period);
    }
    finish(wrong)
}

/// # Errors
/// INVALID_ARGUMENT for a text that is empty or too long.
pub(crate) fn named(field: &str, value: &str) -> Result<(), Status> {
    let mut wrong = Vec::new();
    text(&mut wrong, field, value);
    required(&mut wrong, field, value);
    finish(wrong)
}

/// # Errors
/// INVALID_ARGUMENT for a period shorter than a minute or longer than a year.
pub(crate) fn period(field: &str, period: Duration) -> Result<(), Status> {
    let mut wrong = Vec::new();
    loan_period(&mut wrong, field, period);
    finish(wrong)
}

fn finish(wrong: Vec<FieldViolation>) -> Result<(), Status> {
    if wrong.is_empty() { Ok(()) } else { Err(fault::violations(wrong)) }
}

fn required(wrong: &mut Vec<FieldViolation>, field: &str, value: &str) {
    if value.trim().is_empty() {
        wrong.push(fault::violation(field, "must not be empty"));
    }
}

fn text(wrong: &mut Vec<FieldViolation>, field: &str, value: &str) {
    if value.len() > LONGEST_TEXT {
        wrong.push(fault::violation(field, format!("{} bytes where {LONGEST_TEXT} fit", value.len())));
    }
}

fn number(wrong: &mut Vec<FieldViolation>, field: &str, number: usize, most: usize) {
    if number > most {
        wrong.push(fault::violation(field, format!("{number} of them where {most} are allowed")));
    }
}

fn loan_period(wrong: &mut Vec<FieldViolation>, field: &str, period: Duration) {
    if !(60..=LONGEST_LOAN).contains(&period.seconds) {
        wrong.push(fault::violation(field, "from one minute to a year"));
    }
}

/// Weighted by 1 and 3 in turn, the digits add up to a multiple of ten.
fn isbn_is_sound(isbn: i64) -> bool {
    if isbn == 0 {
        return true;
    }
    if !(9_780_000_000_000..=9_799_999_999_999).contains(&isbn) {
        return false;
    }
    let (mut rest, mut weight, mut sum) = (isbn, 1, 0);
    while rest > 0 {
        sum += rest % 10 * weight;
        weight = 4 - weight;
        rest /= 10;
    }
    sum % 10 == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks_the_last_digit_of_an_isbn() {
        assert!(isbn_is_sound(9_780_131_103_627));
        assert!(!isbn_is_sound(9_780_131_103_628));
        assert!(!isbn_is_sound(-1));
        assert!(isbn_is_sound(0));
    }

    #[test]
    fn names_every_wrong_field_at_once() {
        let wrong = Book { pages: -1, price: f64::NAN, genre: 99, ..Book::default() };

        let status = fault::to_message(&book(&wrong).unwrap_err());

        let detail: crate::pb::google::rpc::BadRequest =
            prost::Message::decode(status.details[0].value.as_slice()).unwrap();
        let fields: Vec<_> = detail.field_violations.iter().map(|violation| violation.field.as_str()).collect();
        assert_eq!(fields, ["book.title", "book.genre", "book.pages", "book.price"]);
    }
}
