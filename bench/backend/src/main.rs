//! The service behind the gateways that are measured: replies are made beforehand as far as possible, so that it costs
//! little beside them.
//!
//! `bench-backend ADDRESS TLS-ADDRESS CERTIFICATE KEY` serves on one thread, in clear text and over TLS;
//! `bench-backend --descriptors` prints its descriptor set. The service answers under the name of every package
//! (`/anything.Library/GetBook`), so that one backend can stand for many upstreams.

use std::error::Error;
use std::io::Write;
use std::net::SocketAddr;

use http::Uri;
use tokio_stream::Iter;
use tonic::transport::{Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status};
use tower::util::MapRequestLayer;

use pb::library_server::{Library, LibraryServer};
use pb::{Author, Book, CreateBookRequest, Genre, GetBookRequest, ListBooksRequest, ListBooksResponse};

mod pb {
    tonic::include_proto!("bench.v1");

    pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/bench.binpb"));
}

type Reply<T> = Result<T, Status>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--descriptors"] => Ok(std::io::stdout().write_all(pb::DESCRIPTORS)?),
        [address, tls_address, certificate, key] => {
            let identity = Identity::from_pem(std::fs::read(certificate)?, std::fs::read(key)?);
            let secure = Server::builder().tls_config(ServerTlsConfig::new().identity(identity))?;
            tokio::try_join!(serve(Server::builder(), address), serve(secure, tls_address))?;
            Ok(())
        }
        _ => Err("usage: bench-backend ADDRESS TLS-ADDRESS CERTIFICATE KEY | --descriptors".into()),
    }
}

async fn serve(server: Server, address: &str) -> Result<(), Box<dyn Error>> {
    let address: SocketAddr = address.parse()?;
    server
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(1 << 24)
        .max_concurrent_streams(10_000)
        .layer(MapRequestLayer::new(under_one_name))
        .add_service(LibraryServer::new(Shelf { books: (0..1000).map(book).collect() }))
        .serve(address)
        .await?;
    Ok(())
}

/// The same request to `bench.v1.Library`.
fn under_one_name<B>(mut request: http::Request<B>) -> http::Request<B> {
    if let Some((package, method)) = request.uri().path().split_once(".Library/")
        && package != "/bench.v1"
        && let Ok(uri) = format!("/bench.v1.Library/{method}").parse::<Uri>()
    {
        *request.uri_mut() = uri;
    }
    request
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
    async fn get_book(&self, request: Request<GetBookRequest>) -> Reply<Response<Book>> {
        let name = request.into_inner().name;
        if name.ends_with("/missing") {
            return Err(Status::not_found(format!("no book {name}")));
        }
        Ok(Response::new(Book { name, title: "Small".into(), isbn: 42, in_print: true, ..Default::default() }))
    }

    async fn create_book(&self, request: Request<CreateBookRequest>) -> Reply<Response<Book>> {
        let book = request.into_inner().book.ok_or_else(|| Status::invalid_argument("book is required"))?;
        Ok(Response::new(book))
    }

    async fn list_books(&self, request: Request<ListBooksRequest>) -> Reply<Response<ListBooksResponse>> {
        let books = self.page(request.get_ref());
        Ok(Response::new(ListBooksResponse { books, next_page_token: "n".into() }))
    }

    type WatchBooksStream = Iter<std::vec::IntoIter<Reply<Book>>>;

    async fn watch_books(&self, request: Request<ListBooksRequest>) -> Reply<Response<Self::WatchBooksStream>> {
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
