//! The service behind the gateways that are measured: replies are made beforehand as far as possible, so that it costs
//! little beside them.
//!
//! `bench-backend ADDRESS` serves on one thread; `bench-backend --descriptors` prints its descriptor set.

use std::io::Write;
use std::net::SocketAddr;

use tokio_stream::Iter;
use tonic::{Request, Response, Status};

use pb::library_server::{Library, LibraryServer};
use pb::{Author, Book, CreateBookRequest, Genre, GetBookRequest, ListBooksRequest, ListBooksResponse};

mod pb {
    tonic::include_proto!("bench.v1");

    pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/bench.binpb"));
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let argument = std::env::args().nth(1).ok_or("usage: bench-backend ADDRESS | --descriptors")?;
    if argument == "--descriptors" {
        std::io::stdout().write_all(pb::DESCRIPTORS)?;
        return Ok(());
    }
    let address: SocketAddr = argument.parse()?;
    tonic::transport::Server::builder()
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(1 << 24)
        .max_concurrent_streams(10_000)
        .add_service(LibraryServer::new(Shelf { books: (0..1000).map(book).collect() }))
        .serve(address)
        .await?;
    Ok(())
}

struct Shelf {
    books: Vec<Book>,
}

impl Shelf {
    fn page(&self, request: &ListBooksRequest) -> Vec<Book> {
        let size = usize::try_from(request.page_size).unwrap_or(0);
        self.books.iter().take(size).cloned().collect()
    }
}

#[tonic::async_trait]
impl Library for Shelf {
    async fn get_book(&self, request: Request<GetBookRequest>) -> Result<Response<Book>, Status> {
        let name = request.into_inner().name;
        if name.ends_with("/missing") {
            return Err(Status::not_found(format!("no book {name}")));
        }
        Ok(Response::new(Book { name, title: "Small".into(), isbn: 42, in_print: true, ..Default::default() }))
    }

    async fn create_book(&self, request: Request<CreateBookRequest>) -> Result<Response<Book>, Status> {
        let book = request.into_inner().book.ok_or_else(|| Status::invalid_argument("book is required"))?;
        Ok(Response::new(book))
    }

    async fn list_books(&self, request: Request<ListBooksRequest>) -> Result<Response<ListBooksResponse>, Status> {
        let books = self.page(request.get_ref());
        Ok(Response::new(ListBooksResponse { books, next_page_token: "n".into() }))
    }

    type WatchBooksStream = Iter<std::vec::IntoIter<Result<Book, Status>>>;

    async fn watch_books(
        &self,
        request: Request<ListBooksRequest>,
    ) -> Result<Response<Self::WatchBooksStream>, Status> {
        let books: Vec<_> = self.page(request.get_ref()).into_iter().map(Ok).collect();
        Ok(Response::new(tokio_stream::iter(books)))
    }
}

/// About 300 bytes of protobuf and 580 of JSON, with every kind of field that a real message has.
fn book(number: i32) -> Book {
    let author = |given: &str, family: &str, birth_year| Author {
        given_name: given.into(),
        family_name: family.into(),
        birth_year,
    };
    Book {
        name: format!("shelves/1/books/{number}"),
        title: format!("The Art of Computer Programming, Volume {number}: \"Fundamental\" Algorithms"),
        authors: vec![author("Donald", "Knuth", 1938), author("José", "Müller", 1950)],
        genre: Genre::Science.into(),
        isbn: 9_780_201_896_831 + i64::from(number),
        price: 79.99,
        in_print: true,
        tags: ["algorithms", "classic", "computer science"].map(String::from).into(),
        labels: [("lang", "en"), ("format", "hardcover")].map(|(key, value)| (key.into(), value.into())).into(),
        published: Some(prost_types::Timestamp { seconds: 867_715_200, nanos: 120_000_000 }),
        cover_digest: (0..32).collect(),
        chapter_pages: (0..16).map(|chapter| chapter * 23 + 1).collect(),
    }
}
