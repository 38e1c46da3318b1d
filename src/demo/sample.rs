//! The books that are there when the library opens.

use super::date;
use crate::pb::google::protobuf::{Duration, StringValue};
use crate::pb::portico::library::v1::Book;
use crate::pb::portico::library::v1::Genre::{self, Adventure, Computing, Fantasy, Fiction, Philosophy, Science};

/// The shelves by their identifiers, with their books.
pub(crate) fn shelves() -> Vec<(&'static str, Vec<Book>)> {
    vec![("adventure", adventure()), ("computing", computing()), ("science", science())]
}

/// What the sign on a sample shelf says.
pub(crate) fn theme(shelf: &str) -> &'static str {
    match shelf {
        "adventure" => "Journeys and strange lands",
        "computing" => "Engines, programs and people",
        _ => "How the world works",
    }
}

fn adventure() -> Vec<Book> {
    vec![
        book("Treasure Island", &["Robert Louis Stevenson"], Adventure, (1883, 11, 14), 292, 7.5, "en"),
        book("Robinson Crusoe", &["Daniel Defoe"], Adventure, (1719, 4, 25), 364, 8.0, "en"),
        book("Twenty Thousand Leagues Under the Seas", &["Jules Verne"], Adventure, (1870, 6, 20), 426, 9.9, "fr"),
        book("The Three Musketeers", &["Alexandre Dumas", "Auguste Maquet"], Adventure, (1844, 3, 14), 700, 12.0, "fr"),
        book("Don Quixote", &["Miguel de Cervantes"], Fiction, (1605, 1, 16), 863, 14.5, "es"),
        book("Alice's Adventures in Wonderland", &["Lewis Carroll"], Fantasy, (1865, 11, 26), 192, 6.2, "en"),
        Book {
            published: None,
            labels: labels(&[("language", "grc"), ("form", "epic")]),
            ..book("The Odyssey", &["Homer"], Adventure, (1, 1, 1), 541, 11.0, "grc")
        },
    ]
}

fn computing() -> Vec<Book> {
    let lovelace = ["Luigi Federico Menabrea", "Ada Lovelace"];
    vec![
        Book {
            subtitle: subtitle("With notes upon the memoir by the translator"),
            rating: Some(5.0),
            ..book("Sketch of the Analytical Engine", &lovelace, Computing, (1843, 10, 1), 66, 4.0, "en")
        },
        book(
            "On the Economy of Machinery and Manufactures",
            &["Charles Babbage"],
            Computing,
            (1832, 6, 1),
            320,
            10.0,
            "en",
        ),
        book("An Investigation of the Laws of Thought", &["George Boole"], Philosophy, (1854, 1, 1), 424, 13.0, "en"),
        Book {
            isbn: 9_780_201_896_831,
            subtitle: subtitle("Volume 1: Fundamental Algorithms"),
            loan_period: Some(Duration { seconds: 90 * 86_400, nanos: 0 }),
            ..book("The Art of Computer Programming", &["Donald E. Knuth"], Computing, (1968, 1, 1), 650, 79.99, "en")
        },
        Book {
            isbn: 9_780_131_103_627,
            labels: labels(&[("language", "en"), ("edition", "2")]),
            ..book(
                "The C Programming Language",
                &["Brian W. Kernighan", "Dennis M. Ritchie"],
                Computing,
                (1988, 3, 22),
                272,
                55.0,
                "en",
            )
        },
        Book {
            isbn: 9_780_201_835_953,
            subtitle: subtitle("Essays on Software Engineering"),
            ..book("The Mythical Man-Month", &["Frederick P. Brooks Jr."], Computing, (1975, 1, 1), 322, 35.0, "en")
        },
    ]
}

fn science() -> Vec<Book> {
    vec![
        book("On the Origin of Species", &["Charles Darwin"], Science, (1859, 11, 24), 502, 9.0, "en"),
        book("The Voyage of the Beagle", &["Charles Darwin"], Adventure, (1839, 6, 1), 615, 10.5, "en"),
        book("Opticks", &["Isaac Newton"], Science, (1704, 2, 16), 382, 12.0, "en"),
        Book {
            labels: labels(&[("language", "la"), ("books", "3")]),
            ..book(
                "Philosophiæ Naturalis Principia Mathematica",
                &["Isaac Newton"],
                Science,
                (1687, 7, 5),
                510,
                25.0,
                "la",
            )
        },
        book("Micrographia", &["Robert Hooke"], Science, (1665, 1, 1), 246, 18.0, "en"),
        book(
            "Dialogue Concerning the Two Chief World Systems",
            &["Galileo Galilei"],
            Science,
            (1632, 2, 22),
            458,
            16.0,
            "it",
        ),
        Book {
            subtitle: subtitle("The Special and the General Theory"),
            ..book("Relativity", &["Albert Einstein"], Science, (1916, 12, 1), 168, 8.4, "de")
        },
    ]
}

fn book(
    title: &str,
    authors: &[&str],
    genre: Genre,
    (year, month, day): (i64, i64, i64),
    pages: i32,
    price: f64,
    language: &str,
) -> Book {
    Book {
        title: title.into(),
        authors: authors.iter().map(|author| String::from(*author)).collect(),
        genre: genre.into(),
        published: Some(date::day(year, month, day)),
        pages,
        price,
        labels: labels(&[("language", language)]),
        ..Book::default()
    }
}

fn labels(pairs: &[(&str, &str)]) -> std::collections::HashMap<String, String> {
    pairs.iter().map(|(key, value)| (String::from(*key), String::from(*value))).collect()
}

fn subtitle(text: &str) -> Option<StringValue> {
    Some(StringValue { value: text.into() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::check;

    #[test]
    fn every_sample_passes_the_checks() {
        for (_, books) in shelves() {
            for book in books {
                check::book(&book).unwrap_or_else(|status| panic!("{}: {status}", book.title));
            }
        }
    }
}
