//! A short fingerprint of bytes: tells two versions of a thing apart. Not a safeguard against anybody.

use crate::pb::portico::library::v1::Book;

/// FNV-1a over 64 bits, which is the same in every process and on every machine.
///
/// See <https://datatracker.ietf.org/doc/html/rfc9923>.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Digest(u64);

impl Digest {
    /// The digest of nothing.
    pub(crate) fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    /// Adds one part. Its length goes in too, so that `("ab", "c")` and `("a", "bc")` differ.
    pub(crate) fn part(mut self, part: impl AsRef<[u8]>) -> Self {
        let part = part.as_ref();
        for byte in part.len().to_be_bytes().iter().chain(part) {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        self
    }

    /// The digest of everything in a book that its readers can change.
    pub(crate) fn of_book(book: &Book, cover: Option<&[u8]>) -> Self {
        let mut digest = Self::new()
            .part(&book.title)
            .part(book.subtitle.as_ref().map_or("", |subtitle| &subtitle.value))
            .part(book.isbn.to_be_bytes())
            .part(book.genre.to_be_bytes())
            .part(book.published.map_or(0, |published| published.seconds).to_be_bytes())
            .part(book.pages.to_be_bytes())
            .part(book.price.to_be_bytes())
            .part(book.rating.unwrap_or(-1.0).to_be_bytes())
            .part(book.loan_period.map_or(0, |period| period.seconds).to_be_bytes())
            .part(format!("{:?}", book.availability))
            .part(cover.unwrap_or_default());
        for author in &book.authors {
            digest = digest.part(author);
        }
        let mut labels: Vec<_> = book.labels.iter().collect();
        labels.sort();
        for (key, value) in labels {
            digest = digest.part(key).part(value);
        }
        digest
    }

    /// The number itself.
    pub(crate) fn value(self) -> u64 {
        self.0
    }
}
