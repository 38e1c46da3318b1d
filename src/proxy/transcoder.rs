//! How a call's messages are transcoded: by a plan of the snapshot that the call began with.

use std::ops::Deref;
use std::rc::Rc;

use bytes::{Bytes, BytesMut};

use super::unary::too_large;
use super::worker::Prepared;
use crate::config::Json;
use crate::error::Error;
use crate::grpc::frame;
use crate::snapshot::Transcoding;
use crate::transcode::{self, Input};

/// A plan, and what keeps it: another of it costs a count that no other worker looks at.
#[derive(Debug, Clone)]
pub(crate) struct Transcoder {
    prepared: Rc<Prepared>,
    place: Place,
}

/// Where in the snapshot the plan is, by index.
#[derive(Debug, Clone, Copy)]
enum Place {
    Method(usize),
    Binding(usize),
}

impl Transcoder {
    /// For calls of a method by its own name.
    pub(crate) fn of_method(prepared: &Rc<Prepared>, index: usize) -> Self {
        Self { prepared: Rc::clone(prepared), place: Place::Method(index) }
    }

    /// For calls by an HTTP rule.
    pub(crate) fn of_binding(prepared: &Rc<Prepared>, index: usize) -> Self {
        Self { prepared: Rc::clone(prepared), place: Place::Binding(index) }
    }

    /// The frame of a request message.
    ///
    /// # Errors
    /// What the client sent is no such message, or makes one of more bytes than the limit.
    pub(super) fn frame(&self, input: &Input<'_>, json: Json, limit: usize) -> Result<Bytes, Error> {
        let mut message = frame::open(input.size() + 64);
        self.request.encode(input, json, &mut message).map_err(|error| invalid(&error))?;
        framed(message, limit)
    }
}

impl Deref for Transcoder {
    type Target = Transcoding;

    fn deref(&self) -> &Transcoding {
        let snapshot = &self.prepared.snapshot;
        match self.place {
            Place::Method(index) => &snapshot.methods[index].direct,
            Place::Binding(index) => &snapshot.bindings[index].plan,
        }
    }
}

/// What is wrong with what a client sent.
pub(super) fn invalid(error: &transcode::Error) -> Error {
    Error::invalid(error.field.clone(), error.describe())
}

/// The frame of a request message for which [`frame::open`] left room.
///
/// # Errors
/// It has more bytes than the limit.
pub(super) fn framed(message: BytesMut, limit: usize) -> Result<Bytes, Error> {
    frame::close(message, 0, limit).ok_or_else(|| too_large(limit))
}
