//! One page of a list of books: filter, order and page tokens.
//!
//! The filter is a small part of <https://google.aip.dev/160>: conditions joined by AND. The token is what
//! <https://google.aip.dev/158> asks for: opaque, and good only for the same question. It holds a position, so books
//! that come and go between two pages can shift the second one.

use std::cmp::Ordering;
use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use tonic::Status;

use super::digest::Digest;
use super::fault;
use crate::pb::portico::library::v1::book::Availability;
use crate::pb::portico::library::v1::{Book, Genre, ListBooksRequest, ListBooksResponse};

/// Books on a page unless the caller says otherwise.
const PAGE: usize = 10;
/// Most books on a page.
const LARGEST_PAGE: usize = 100;
/// Longest filter, in bytes.
const LONGEST_FILTER: usize = 1_000;

/// A list that somebody asks for.
#[derive(Debug)]
pub(crate) struct Query {
    conditions: Vec<Condition>,
    genres: Vec<i32>,
    order: Order,
    offset: usize,
    size: usize,
    /// Tells whether a token belongs to this question.
    digest: u64,
}

/// What a book must be like.
#[derive(Debug, PartialEq)]
enum Condition {
    Genre(Genre),
    Title(Test),
    Author(Test),
    Label(String, Test),
    Available(bool),
}

/// A comparison of texts.
#[derive(Debug, PartialEq)]
enum Test {
    /// `=`
    Equals(String),
    /// `:`, kept in lower case
    Contains(String),
}

/// How a list is sorted; equal ones go by name.
#[derive(Debug, Clone, Copy)]
struct Order {
    compare: fn(&Book, &Book) -> Ordering,
    descending: bool,
}

impl Query {
    /// # Errors
    /// INVALID_ARGUMENT naming the field that cannot be understood.
    pub(crate) fn parse(request: &ListBooksRequest) -> Result<Self, Status> {
        let mut digest = Digest::new().part(&request.parent).part(&request.filter).part(&request.order_by);
        for genre in &request.genres {
            digest = digest.part(genre.to_be_bytes());
        }
        let digest = digest.value();
        let size = match usize::try_from(request.page_size) {
            Err(_) => return Err(fault::invalid("page_size", "not negative")),
            Ok(0) => PAGE,
            Ok(size) => size.min(LARGEST_PAGE),
        };
        Ok(Self {
            conditions: conditions(&request.filter).map_err(|why| fault::invalid("filter", why))?,
            genres: request.genres.clone(),
            order: Order::parse(&request.order_by).map_err(|why| fault::invalid("order_by", why))?,
            offset: offset(&request.page_token, digest).map_err(|why| fault::invalid("page_token", why))?,
            size,
            digest,
        })
    }

    /// The page that was asked for.
    pub(crate) fn page<'a>(&self, books: impl Iterator<Item = &'a Arc<Book>>) -> ListBooksResponse {
        let mut found: Vec<_> = books.filter(|book| self.accepts(book)).collect();
        found.sort_by(|a, b| self.order.compare(a, b));
        let end = self.offset.saturating_add(self.size);
        let next_page_token = if end < found.len() { token(end, self.digest) } else { String::new() };
        ListBooksResponse {
            books: found.iter().skip(self.offset).take(self.size).map(|book| Book::clone(book)).collect(),
            next_page_token,
            total_size: i32::try_from(found.len()).unwrap_or(i32::MAX),
        }
    }

    fn accepts(&self, book: &Book) -> bool {
        (self.genres.is_empty() || self.genres.contains(&book.genre))
            && self.conditions.iter().all(|condition| condition.accepts(book))
    }
}

impl Condition {
    fn parse(term: &str) -> Result<Self, String> {
        let Some((field, operator, value)) = split(term) else {
            return Err(format!("{term:?} is not a condition such as genre=SCIENCE or author:\"lovelace\""));
        };
        let test = match operator {
            '=' => Test::Equals(value.to_owned()),
            _ => Test::Contains(value.to_lowercase()),
        };
        match (field, operator) {
            ("title", _) => Ok(Self::Title(test)),
            ("author", _) => Ok(Self::Author(test)),
            ("genre", '=') => match Genre::from_str_name(value) {
                Some(genre) => Ok(Self::Genre(genre)),
                None => Err(format!("there is no genre {value:?}")),
            },
            ("available", '=') => match value {
                "true" => Ok(Self::Available(true)),
                "false" => Ok(Self::Available(false)),
                _ => Err(String::from("available is true or false")),
            },
            ("genre" | "available", _) => Err(format!("{field} is compared with =")),
            _ => match field.strip_prefix("labels.") {
                Some(key) if !key.is_empty() => Ok(Self::Label(key.to_owned(), test)),
                _ => Err(format!("{field:?} is none of title, author, genre, available, labels.KEY")),
            },
        }
    }

    fn accepts(&self, book: &Book) -> bool {
        match self {
            Self::Genre(genre) => book.genre == i32::from(*genre),
            Self::Title(test) => test.accepts(&book.title),
            Self::Author(test) => book.authors.iter().any(|author| test.accepts(author)),
            Self::Label(key, test) => book.labels.get(key).is_some_and(|value| test.accepts(value)),
            Self::Available(wanted) => matches!(book.availability, Some(Availability::OnShelf(_))) == *wanted,
        }
    }
}

impl Test {
    fn accepts(&self, text: &str) -> bool {
        match self {
            Self::Equals(whole) => text == whole,
            Self::Contains(part) => text.to_lowercase().contains(part),
        }
    }
}

impl Order {
    fn parse(order: &str) -> Result<Self, String> {
        let mut words = order.split_whitespace();
        let field = words.next().unwrap_or("name");
        let descending = match words.next() {
            None | Some("asc") => false,
            Some("desc") => true,
            Some(_) => return Err(String::from("one field, then desc for the other way round")),
        };
        let compare: fn(&Book, &Book) -> Ordering = match field {
            "name" => |_, _| Ordering::Equal,
            "title" => |a, b| a.title.cmp(&b.title),
            "published" => |a, b| published(a).cmp(&published(b)),
            "price" => |a, b| a.price.total_cmp(&b.price),
            "pages" => |a, b| a.pages.cmp(&b.pages),
            _ => return Err(format!("{field:?} is none of name, title, published, price, pages")),
        };
        match words.next() {
            None => Ok(Self { compare, descending }),
            Some(_) => Err(String::from("only one field is possible")),
        }
    }

    fn compare(self, a: &Book, b: &Book) -> Ordering {
        let order = (self.compare)(a, b).then_with(|| a.name.cmp(&b.name));
        if self.descending { order.reverse() } else { order }
    }
}

fn published(book: &Book) -> Option<i64> {
    book.published.map(|published| published.seconds)
}

/// Splits at spaces outside of quotes.
fn conditions(filter: &str) -> Result<Vec<Condition>, String> {
    if filter.len() > LONGEST_FILTER {
        return Err(format!("{} bytes where {LONGEST_FILTER} fit", filter.len()));
    }
    let mut quoted = false;
    let terms = filter.split(|c: char| {
        quoted ^= c == '"';
        c.is_whitespace() && !quoted
    });
    let terms: Vec<_> = terms.filter(|term| !term.is_empty() && *term != "AND").collect();
    if quoted {
        return Err(String::from("a quote is not closed"));
    }
    terms.into_iter().map(Condition::parse).collect()
}

/// `author:"ada lovelace"` as field, operator and value without its quotes.
fn split(term: &str) -> Option<(&str, char, &str)> {
    let (field, rest) = term.split_once(['=', ':'])?;
    let operator = if term.as_bytes().get(field.len()) == Some(&b'=') { '=' } else { ':' };
    let value = rest.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(rest);
    (!field.is_empty() && !value.is_empty() && !value.contains('"')).then_some((field, operator, value))
}

fn token(offset: usize, digest: u64) -> String {
    let mut token = u32::try_from(offset).unwrap_or(u32::MAX).to_be_bytes().to_vec();
    token.extend(digest.to_be_bytes());
    BASE64_URL_SAFE_NO_PAD.encode(token)
}

fn offset(token: &str, digest: u64) -> Result<usize, String> {
    if token.is_empty() {
        return Ok(0);
    }
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(token).map_err(|_| String::from("not a token of this service"))?;
    match bytes.split_first_chunk::<4>() {
        Some((offset, rest)) if rest == digest.to_be_bytes() => {
            usize::try_from(u32::from_be_bytes(*offset)).map_err(|error| error.to_string())
        }
        Some((_, rest)) if rest.len() == 8 => Err(String::from("belongs to a list with other conditions")),
        _ => Err(String::from("not a token of this service")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::{date, store::Store};

    fn list(request: &ListBooksRequest) -> Result<ListBooksResponse, Status> {
        let store = Store::with_samples(date::day(2024, 1, 1));
        Ok(Query::parse(request)?.page(store.books_of(&request.parent)?))
    }

    fn filtered(filter: &str) -> ListBooksRequest {
        ListBooksRequest { filter: filter.into(), page_size: 100, ..ListBooksRequest::default() }
    }

    #[test]
    fn walks_all_pages_without_loss() {
        let mut request =
            ListBooksRequest { page_size: 4, order_by: "title desc".into(), ..ListBooksRequest::default() };
        let mut titles = Vec::new();

        loop {
            let page = list(&request).unwrap();
            titles.extend(page.books.into_iter().map(|book| book.title));
            if page.next_page_token.is_empty() {
                assert_eq!(titles.len(), usize::try_from(page.total_size).unwrap());
                break;
            }
            request.page_token = page.next_page_token;
        }

        assert!(titles.is_sorted_by(|a, b| a > b), "{titles:?}");
    }

    #[test]
    fn filters_by_every_kind_of_condition() {
        for (filter, title) in [
            ("genre=FANTASY AND author:carroll", "Alice's Adventures in Wonderland"),
            ("author:\"ada love\"", "Sketch of the Analytical Engine"),
            ("title=Opticks available=true", "Opticks"),
            ("labels.language=fr title:MUSKET", "The Three Musketeers"),
        ] {
            let page = list(&filtered(filter)).unwrap();
            let titles: Vec<_> = page.books.iter().map(|book| book.title.as_str()).collect();
            assert_eq!(titles, [title], "{filter}");
        }
        assert!(list(&filtered("available=false")).unwrap().books.is_empty());
    }

    #[test]
    fn refuses_filters_that_it_does_not_understand() {
        for filter in
            ["genre", "genre:SCIENCE", "genre=COOKING", "weight=3", "author:\"open", "=x", "labels.=x", "title="]
        {
            assert_eq!(list(&filtered(filter)).unwrap_err().code(), tonic::Code::InvalidArgument, "{filter}");
        }
    }

    #[test]
    fn refuses_the_token_of_another_list() {
        let first = list(&ListBooksRequest { page_size: 2, ..ListBooksRequest::default() }).unwrap();
        let other = ListBooksRequest {
            page_token: first.next_page_token,
            order_by: "price".into(),
            ..ListBooksRequest::default()
        };

        assert!(list(&other).unwrap_err().message().contains("other conditions"));
    }
}
