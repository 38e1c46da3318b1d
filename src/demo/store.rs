//! What the library keeps, in memory. Plain data and rules: no locks, no clock, no protocol.
//!
//! **Invariant**: at most [`MOST_SHELVES`] shelves, [`MOST_BOOKS`] books and one cover of [`LARGEST_COVER`] bytes
//! each; every text in them has passed [`super::check`].

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::broadcast;
use tonic::Status;

use super::digest::Digest;
use super::slug::{Wanted, fresh_name, slug};
use super::{check, date, fault, sample, update};
use crate::pb::google::api::HttpBody;
use crate::pb::google::protobuf::{Duration, FieldMask, Timestamp};
use crate::pb::portico::library::v1::book::Availability;
use crate::pb::portico::library::v1::book_event::Kind;
use crate::pb::portico::library::v1::{Author, Book, Loan, OnShelf, Shelf};

/// Most shelves.
pub(crate) const MOST_SHELVES: usize = 64;
/// Most books on all shelves together.
pub(crate) const MOST_BOOKS: usize = 1_000;
/// Largest cover that a caller can give a book, in bytes.
pub(crate) const LARGEST_COVER: usize = 32 * 1024;
/// Changes that a slow watcher may fall behind before it is sent away.
const CHANGES_KEPT: usize = 256;
/// How long a book is lent unless it says otherwise: 14 days.
const LOAN_PERIOD: Duration = Duration { seconds: 14 * 86_400, nanos: 0 };
/// What a cover may be. Not SVG: one from a stranger can carry scripts.
const COVER_TYPES: &[&str] = &["image/png", "image/jpeg", "image/gif", "image/webp"];

/// Shelves and books by name.
#[derive(Debug)]
pub(crate) struct Store {
    shelves: BTreeMap<String, Shelf>,
    books: BTreeMap<String, Kept>,
    /// Absent once the library closes.
    changes: Option<broadcast::Sender<Change>>,
}

/// A book and what belongs to it.
#[derive(Debug)]
struct Kept {
    book: Arc<Book>,
    times_lent: i64,
    cover: Option<HttpBody>,
}

/// Something that happened to a book.
#[derive(Debug, Clone)]
pub(crate) struct Change {
    pub(crate) kind: Kind,
    pub(crate) book: Arc<Book>,
    pub(crate) time: Timestamp,
}

/// The books as they stand when a watch begins, and whatever happens after that to any book.
#[derive(Debug)]
pub(crate) struct Watch {
    pub(crate) existing: Vec<Arc<Book>>,
    pub(crate) changes: broadcast::Receiver<Change>,
}

impl Store {
    /// The sample data.
    pub(crate) fn with_samples(now: Timestamp) -> Self {
        let (changes, _) = broadcast::channel(CHANGES_KEPT);
        let mut store = Self { shelves: BTreeMap::new(), books: BTreeMap::new(), changes: Some(changes) };
        for (shelf, books) in sample::shelves() {
            let name = format!("shelves/{shelf}");
            let theme = sample::theme(shelf).to_owned();
            store
                .shelves
                .insert(name.clone(), Shelf { name: name.clone(), theme, create_time: Some(now), book_count: 0 });
            for book in books {
                // The samples pass every check, which a test holds; one that did not would be missing, no more.
                store.create_book(&name, "", book, now).ok();
            }
        }
        store
    }

    /// Ends every watch, now and from now on.
    pub(crate) fn close(&mut self) {
        self.changes = None;
    }

    pub(crate) fn shelves(&self) -> Vec<Shelf> {
        self.shelves.values().map(|shelf| self.counted(shelf)).collect()
    }

    pub(crate) fn shelf(&self, name: &str) -> Result<Shelf, Status> {
        self.shelves.get(name).map(|shelf| self.counted(shelf)).ok_or_else(|| fault::not_found("shelf", name))
    }

    pub(crate) fn create_shelf(&mut self, id: &str, theme: String, now: Timestamp) -> Result<Shelf, Status> {
        check::named("shelf.theme", &theme)?;
        if self.shelves.len() >= MOST_SHELVES {
            return Err(fault::full("shelves", MOST_SHELVES));
        }
        let wanted = Wanted { kind: "shelf", prefix: "shelves/", field: "shelf_id", identifier: id, title: &theme };
        let name = fresh_name(wanted, |name| self.shelves.contains_key(name))?;
        let shelf = Shelf { name: name.clone(), theme, create_time: Some(now), book_count: 0 };
        self.shelves.insert(name, shelf.clone());
        Ok(shelf)
    }

    pub(crate) fn delete_shelf(&mut self, name: &str, force: bool, now: Timestamp) -> Result<(), Status> {
        let shelf = self.shelf(name)?;
        if shelf.book_count > 0 && !force {
            let description = format!("{} books stand on {name}; set force to remove them too", shelf.book_count);
            return Err(fault::precondition("NOT_EMPTY", name, description));
        }
        let books: Vec<_> = self.books_of(name)?.map(|book| book.name.clone()).collect();
        for book in books {
            if let Some(kept) = self.books.remove(&book) {
                self.announce(Kind::Deleted, &kept.book, now);
            }
        }
        self.shelves.remove(name);
        Ok(())
    }

    /// The books of a shelf by name; of all shelves for `""` and `shelves/-`.
    pub(crate) fn books_of<'a>(
        &'a self,
        parent: &str,
    ) -> Result<impl Iterator<Item = &'a Arc<Book>> + use<'a>, Status> {
        let prefix = match parent {
            "" | "shelves/-" => String::new(),
            shelf => format!("{}/books/", self.shelf(shelf)?.name),
        };
        let from = self.books.range(prefix.clone()..);
        Ok(from.map(|(_, kept)| &kept.book).take_while(move |book| book.name.starts_with(&prefix)))
    }

    pub(crate) fn book(&self, name: &str) -> Result<&Arc<Book>, Status> {
        self.books.get(name).map(|kept| &kept.book).ok_or_else(|| fault::not_found("book", name))
    }

    pub(crate) fn create_book(&mut self, parent: &str, id: &str, book: Book, now: Timestamp) -> Result<Book, Status> {
        let shelf = self.shelf(parent)?;
        check::book(&book)?;
        if self.books.len() >= MOST_BOOKS {
            return Err(fault::full("books", MOST_BOOKS));
        }
        let prefix = format!("{}/books/", shelf.name);
        let wanted = Wanted { kind: "book", prefix: &prefix, field: "book_id", identifier: id, title: &book.title };
        let name = fresh_name(wanted, |name| self.books.contains_key(name))?;
        let availability = Some(Availability::OnShelf(OnShelf { times_lent: 0 }));
        let book = Book { name: name.clone(), availability, ..book };
        self.books.insert(name.clone(), Kept { book: Arc::new(book), times_lent: 0, cover: None });
        self.change(&name, Kind::Created, now, |_, _| Ok(()))
    }

    pub(crate) fn update_book(&mut self, new: &Book, mask: Option<&FieldMask>, now: Timestamp) -> Result<Book, Status> {
        self.change(&new.name, Kind::Updated, now, |book, _| {
            update::apply(book, new, mask)?;
            check::book(book)
        })
    }

    pub(crate) fn delete_book(&mut self, name: &str, now: Timestamp) -> Result<(), Status> {
        if let Some(Availability::Loan(loan)) = &self.book(name)?.availability {
            return Err(on_loan(name, loan));
        }
        if let Some(kept) = self.books.remove(name) {
            self.announce(Kind::Deleted, &kept.book, now);
        }
        Ok(())
    }

    pub(crate) fn checkout(
        &mut self,
        name: &str,
        borrower: String,
        period: Option<Duration>,
        now: Timestamp,
    ) -> Result<Book, Status> {
        check::named("borrower", &borrower)?;
        if let Some(period) = period {
            check::period("loan_period", period)?;
        }
        self.change(name, Kind::Updated, now, |book, kept| {
            if let Some(Availability::Loan(loan)) = &book.availability {
                return Err(on_loan(&book.name, loan));
            }
            let period = period.or(book.loan_period).unwrap_or(LOAN_PERIOD);
            let due_time = Some(date::later(now, period));
            book.availability = Some(Availability::Loan(Loan { borrower, due_time }));
            kept.times_lent += 1;
            Ok(())
        })
    }

    pub(crate) fn give_back(&mut self, name: &str, now: Timestamp) -> Result<Book, Status> {
        self.change(name, Kind::Updated, now, |book, kept| match book.availability {
            Some(Availability::Loan(_)) => {
                book.availability = Some(Availability::OnShelf(OnShelf { times_lent: kept.times_lent }));
                Ok(())
            }
            Some(Availability::OnShelf(_)) | None => {
                let description = format!("{} is not on loan", book.name);
                Err(fault::precondition("ON_SHELF", &book.name, description))
            }
        })
    }

    /// The cover that a caller gave the book, if one did.
    pub(crate) fn cover(&self, name: &str) -> Option<&HttpBody> {
        self.books.get(name)?.cover.as_ref()
    }

    pub(crate) fn set_cover(&mut self, name: &str, cover: &HttpBody, now: Timestamp) -> Result<Book, Status> {
        self.book(name)?;
        let Some(content_type) = COVER_TYPES.iter().find(|known| **known == cover.content_type) else {
            return Err(fault::invalid("cover.content_type", format!("one of {}", COVER_TYPES.join(", "))));
        };
        if cover.data.is_empty() || cover.data.len() > LARGEST_COVER {
            let description = format!("{} bytes, where 1 to {LARGEST_COVER} are allowed", cover.data.len());
            return Err(fault::invalid("cover.data", description));
        }
        // A copy, because the bytes may be a part of a larger buffer that would live on with them.
        let data = bytes::Bytes::copy_from_slice(&cover.data);
        let cover = HttpBody { content_type: (*content_type).into(), data, extensions: Vec::new() };
        self.change(name, Kind::Updated, now, |_, kept| {
            kept.cover = Some(cover);
            Ok(())
        })
    }

    /// Everybody who wrote a book, by name.
    pub(crate) fn authors(&self) -> Vec<Author> {
        let mut authors: BTreeMap<String, Author> = BTreeMap::new();
        for kept in self.books.values() {
            for display_name in &kept.book.authors {
                let name = format!("authors/{}", author_id(display_name));
                let author = authors.entry(name.clone()).or_insert_with(|| Author {
                    name,
                    display_name: display_name.clone(),
                    books: Vec::new(),
                });
                author.books.push(kept.book.name.clone());
            }
        }
        authors.into_values().collect()
    }

    /// Begins to watch a shelf, or all of them as in [`Self::books_of`]; `None` when the library is closed.
    pub(crate) fn watch(&self, parent: &str) -> Result<Option<Watch>, Status> {
        let existing = self.books_of(parent)?.cloned().collect();
        Ok(self.changes.as_ref().map(|changes| Watch { existing, changes: changes.subscribe() }))
    }

    /// Changes a copy of a book and keeps it only if that works, so that a refusal changes nothing.
    fn change(
        &mut self,
        name: &str,
        kind: Kind,
        now: Timestamp,
        change: impl FnOnce(&mut Book, &mut Kept) -> Result<(), Status>,
    ) -> Result<Book, Status> {
        let kept = self.books.get_mut(name).ok_or_else(|| fault::not_found("book", name))?;
        let mut book = Book::clone(&kept.book);
        change(&mut book, kept)?;
        let cover = kept.cover.as_ref().map(|cover| cover.data.as_ref());
        book.digest = Digest::of_book(&book, cover).value().to_be_bytes().to_vec();
        book.update_time = Some(now);
        let shared = Arc::new(book.clone());
        kept.book = Arc::clone(&shared);
        self.announce(kind, &shared, now);
        Ok(book)
    }

    fn announce(&self, kind: Kind, book: &Arc<Book>, time: Timestamp) {
        if let Some(changes) = &self.changes {
            // Fails when nobody watches.
            changes.send(Change { kind, book: Arc::clone(book), time }).ok();
        }
    }

    fn counted(&self, shelf: &Shelf) -> Shelf {
        let prefix = format!("{}/books/", shelf.name);
        let count = self.books.range(prefix.clone()..).take_while(|(name, _)| name.starts_with(&prefix)).count();
        Shelf { book_count: i32::try_from(count).unwrap_or(i32::MAX), ..shelf.clone() }
    }
}

/// From the letters of the name; where it has none that fit, from a fingerprint of it.
fn author_id(display_name: &str) -> String {
    match slug(display_name) {
        empty if empty.is_empty() => format!("{:016x}", Digest::new().part(display_name).value()),
        slug => slug,
    }
}

fn on_loan(name: &str, loan: &Loan) -> Status {
    fault::precondition("ON_LOAN", name, format!("{name} is on loan to {}", loan.borrower))
}
