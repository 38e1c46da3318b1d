//! The librarian, who knows the shelves and not much else.

use std::sync::Arc;

use super::store::Store;
use crate::pb::portico::library::v1::{Book, ChatReply, Genre};

/// Books named in one answer.
const MOST_SUGGESTIONS: usize = 3;
/// Shorter words are in too many titles to mean one.
const SHORTEST_WORD: usize = 4;

/// Answers one question by looking for its words in titles, authors and genres.
pub(crate) fn answer(store: &Store, question: &str) -> ChatReply {
    let question = question.to_lowercase();
    let words: Vec<&str> = question
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| word.chars().count() >= SHORTEST_WORD)
        .take(16)
        .collect();
    let books = store.books_of("").map(Iterator::collect::<Vec<_>>).unwrap_or_default();
    let found: Vec<&Arc<Book>> = books.into_iter().filter(|book| speaks_of(book, &words)).collect();
    let text = match found.len() {
        0 if words.is_empty() => String::from("Good day! Ask me for a genre, a title or an author."),
        0 => String::from("I am afraid we have nothing like that. Try adventure, science or computing."),
        1 => String::from("I know just the one."),
        number => format!("We have {number} that might please you."),
    };
    ChatReply { text, suggestions: found.into_iter().take(MOST_SUGGESTIONS).map(|book| Book::clone(book)).collect() }
}

fn speaks_of(book: &Book, words: &[&str]) -> bool {
    let genre = Genre::try_from(book.genre).unwrap_or_default().as_str_name();
    let text = format!("{} {} {genre}", book.title, book.authors.join(" ")).to_lowercase();
    words.iter().any(|word| text.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::date;

    #[test]
    fn finds_books_by_the_words_of_a_question() {
        let store = Store::with_samples(date::day(2024, 1, 1));

        let reply = answer(&store, "Do you have something by Lovelace?");

        assert_eq!(reply.suggestions.len(), 1);
        assert_eq!(reply.suggestions[0].title, "Sketch of the Analytical Engine");
    }

    #[test]
    fn greets_who_asks_nothing() {
        let store = Store::with_samples(date::day(2024, 1, 1));

        assert!(answer(&store, "hi!").text.starts_with("Good day"));
    }
}
