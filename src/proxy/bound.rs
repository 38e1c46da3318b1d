//! What the head of a request sets in the messages of its stream.

use std::borrow::Cow;

use http::{HeaderMap, Method, Uri, request};

use crate::transcode::{Input, RequestPlan};

/// Path, query and those headers that are bound to fields.
#[derive(Debug)]
pub(super) struct Bound {
    captures: Box<[Cow<'static, str>]>,
    headers: HeaderMap,
    uri: Uri,
    patch: bool,
}

impl Bound {
    pub(super) fn of(plan: &RequestPlan, captures: &[Cow<'_, str>], parts: &request::Parts) -> Self {
        Self {
            captures: captures.iter().map(|capture| Cow::Owned(capture.clone().into_owned())).collect(),
            headers: plan.bound_headers(&parts.headers),
            uri: parts.uri.clone(),
            patch: parts.method == Method::PATCH,
        }
    }

    /// A message without a body.
    pub(super) fn input(&self) -> Input<'_> {
        Input {
            captures: &self.captures,
            headers: Some(&self.headers),
            query: self.uri.query().filter(|query| !query.is_empty()),
            patch: self.patch,
            ..Input::default()
        }
    }

    /// Whether it sets nothing.
    pub(super) fn is_empty(&self) -> bool {
        self.captures.is_empty() && self.headers.is_empty() && self.input().query.is_none()
    }
}
