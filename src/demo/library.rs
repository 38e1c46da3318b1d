//! The methods of the library: takes requests apart, asks the [`Store`], wraps the answer. The rules are in the store.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_stream::StreamExt;
use tokio_stream::wrappers::BroadcastStream;
use tokio_stream::wrappers::errors::BroadcastStreamRecvError;
use tonic::codegen::BoxStream;
use tonic::{Request, Response, Status, Streaming};

use super::list::Query;
use super::store::{Change, MOST_BOOKS, Store, Watch};
use super::{chat, cover, date, fault};
use crate::pb::google::api::HttpBody;
use crate::pb::google::protobuf::Empty;
use crate::pb::portico::library::v1 as api;
use crate::pb::portico::library::v1::book_event::Kind;
use crate::pb::portico::library::v1::library_server;

/// The service; clones share one store.
#[derive(Debug, Clone)]
pub(crate) struct Library {
    store: Arc<Mutex<Store>>,
}

impl Library {
    /// With the sample data.
    pub(crate) fn new() -> Self {
        Self { store: Arc::new(Mutex::new(Store::with_samples(date::now()))) }
    }

    /// Ends every watch, so that the server can stop.
    pub(crate) fn close(&self) {
        self.store().close();
    }

    /// Held for lookups only, never across an await. The store is whole after a panic too: changes are made on copies.
    fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[tonic::async_trait]
impl library_server::Library for Library {
    async fn list_shelves(
        &self,
        _: Request<api::ListShelvesRequest>,
    ) -> Result<Response<api::ListShelvesResponse>, Status> {
        Ok(Response::new(api::ListShelvesResponse { shelves: self.store().shelves() }))
    }

    async fn create_shelf(&self, request: Request<api::CreateShelfRequest>) -> Result<Response<api::Shelf>, Status> {
        let request = request.into_inner();
        let shelf = request.shelf.ok_or_else(|| fault::invalid("shelf", "must be given"))?;
        self.store().create_shelf(&request.shelf_id, shelf.theme, date::now()).map(Response::new)
    }

    async fn get_shelf(&self, request: Request<api::GetShelfRequest>) -> Result<Response<api::Shelf>, Status> {
        self.store().shelf(&request.get_ref().name).map(Response::new)
    }

    async fn delete_shelf(&self, request: Request<api::DeleteShelfRequest>) -> Result<Response<Empty>, Status> {
        let request = request.get_ref();
        self.store().delete_shelf(&request.name, request.force, date::now())?;
        Ok(Response::new(Empty {}))
    }

    async fn list_books(
        &self,
        request: Request<api::ListBooksRequest>,
    ) -> Result<Response<api::ListBooksResponse>, Status> {
        let query = Query::parse(request.get_ref())?;
        let store = self.store();
        let books = store.books_of(&request.get_ref().parent)?;
        Ok(Response::new(query.page(books)))
    }

    async fn get_book(&self, request: Request<api::GetBookRequest>) -> Result<Response<api::Book>, Status> {
        self.store().book(&request.get_ref().name).map(|book| Response::new(api::Book::clone(book)))
    }

    async fn create_book(&self, request: Request<api::CreateBookRequest>) -> Result<Response<api::Book>, Status> {
        let request = request.into_inner();
        let book = request.book.ok_or_else(|| fault::invalid("book", "must be given"))?;
        self.store().create_book(&request.parent, &request.book_id, book, date::now()).map(Response::new)
    }

    async fn update_book(&self, request: Request<api::UpdateBookRequest>) -> Result<Response<api::Book>, Status> {
        let request = request.into_inner();
        let book = request.book.ok_or_else(|| fault::invalid("book", "must be given"))?;
        self.store().update_book(&book, request.update_mask.as_ref(), date::now()).map(Response::new)
    }

    async fn delete_book(&self, request: Request<api::DeleteBookRequest>) -> Result<Response<Empty>, Status> {
        self.store().delete_book(&request.get_ref().name, date::now())?;
        Ok(Response::new(Empty {}))
    }

    async fn checkout_book(&self, request: Request<api::CheckoutBookRequest>) -> Result<Response<api::Book>, Status> {
        let request = request.into_inner();
        self.store().checkout(&request.name, request.borrower, request.loan_period, date::now()).map(Response::new)
    }

    async fn return_book(&self, request: Request<api::ReturnBookRequest>) -> Result<Response<api::Book>, Status> {
        self.store().give_back(&request.get_ref().name, date::now()).map(Response::new)
    }

    async fn list_authors(
        &self,
        _: Request<api::ListAuthorsRequest>,
    ) -> Result<Response<api::ListAuthorsResponse>, Status> {
        Ok(Response::new(api::ListAuthorsResponse { authors: self.store().authors() }))
    }

    async fn get_author(&self, request: Request<api::GetAuthorRequest>) -> Result<Response<api::Author>, Status> {
        let name = &request.get_ref().name;
        let author = self.store().authors().into_iter().find(|author| author.name == *name);
        author.map(Response::new).ok_or_else(|| fault::not_found("author", name))
    }

    type WatchBooksStream = BoxStream<api::BookEvent>;

    async fn watch_books(
        &self,
        request: Request<api::WatchBooksRequest>,
    ) -> Result<Response<Self::WatchBooksStream>, Status> {
        let request = request.into_inner();
        let most = usize::try_from(request.max_events)
            .map_err(|_| fault::invalid("max_events", "not negative"))
            .map(|most| if most == 0 { usize::MAX } else { most })?;
        let Some(Watch { existing, changes }) = self.store().watch(&request.parent)? else {
            return Err(Status::unavailable("the library is closing"));
        };
        let now = date::now();
        let existing =
            existing.into_iter().map(move |book| Ok(event(&Change { kind: Kind::Existing, book, time: now })));
        let prefix = match request.parent.as_str() {
            "" | "shelves/-" => String::new(),
            shelf => format!("{shelf}/books/"),
        };
        let changes = BroadcastStream::new(changes).filter_map(move |change| match change {
            Ok(change) => change.book.name.starts_with(&prefix).then(|| Ok(event(&change))),
            Err(BroadcastStreamRecvError::Lagged(missed)) => {
                Some(Err(Status::aborted(format!("{missed} changes were missed: watch again"))))
            }
        });
        Ok(Response::new(Box::pin(tokio_stream::iter(existing).chain(changes).take(most))))
    }

    async fn upload_books(
        &self,
        request: Request<Streaming<api::UploadBooksRequest>>,
    ) -> Result<Response<api::UploadBooksResponse>, Status> {
        let mut messages = request.into_inner();
        let mut reply = api::UploadBooksResponse::default();
        let mut index = 0;
        while let Some(message) = messages.message().await? {
            let book = message.book.unwrap_or_default();
            match self.store().create_book(&message.parent, "", book, date::now()) {
                Ok(book) => reply.names.push(book.name),
                Err(status) => {
                    let status = Some(fault::to_message(&status));
                    reply.failures.push(api::upload_books_response::Failure { index, status });
                }
            }
            index += 1;
            // The reply grows with every message, so there is an end to them.
            if reply.names.len() + reply.failures.len() > MOST_BOOKS {
                return Err(fault::full("books in one upload", MOST_BOOKS));
            }
        }
        Ok(Response::new(reply))
    }

    type ChatStream = BoxStream<api::ChatReply>;

    async fn chat(&self, request: Request<Streaming<api::ChatRequest>>) -> Result<Response<Self::ChatStream>, Status> {
        let library = self.clone();
        // Each question is read when the answer to the one before was taken, so that neither side can pile up.
        let replies = request.into_inner().map(move |question| Ok(chat::answer(&library.store(), &question?.text)));
        Ok(Response::new(Box::pin(replies)))
    }

    async fn get_cover(&self, request: Request<api::GetCoverRequest>) -> Result<Response<HttpBody>, Status> {
        let name = &request.get_ref().name;
        let store = self.store();
        let book = store.book(name)?;
        let cover = store.cover(name).cloned().unwrap_or_else(|| HttpBody {
            content_type: "image/svg+xml".into(),
            data: cover::draw(book).into(),
            extensions: Vec::new(),
        });
        Ok(Response::new(cover))
    }

    async fn upload_cover(&self, request: Request<api::UploadCoverRequest>) -> Result<Response<api::Book>, Status> {
        let request = request.into_inner();
        let cover = request.cover.ok_or_else(|| fault::invalid("cover", "must be given"))?;
        self.store().set_cover(&request.name, &cover, date::now()).map(Response::new)
    }
}

fn event(change: &Change) -> api::BookEvent {
    api::BookEvent { kind: change.kind.into(), book: Some(api::Book::clone(&change.book)), time: Some(change.time) }
}
