//! The `date` of replies ([RFC 9110 §6.6.1](https://www.rfc-editor.org/rfc/rfc9110#section-6.6.1)), written once a second.

use std::cell::RefCell;
use std::time::{SystemTime, UNIX_EPOCH};

use http::header::DATE;
use http::{HeaderMap, HeaderValue, Version};

use crate::telemetry::timestamp;

thread_local! {
    /// The last second that this worker wrote, and its text.
    static LAST: RefCell<(u64, HeaderValue)> =
        const { RefCell::new((u64::MAX, HeaderValue::from_static(""))) };
}

/// Dates a reply. Over HTTP/1.1 hyper does.
pub(crate) fn put(headers: &mut HeaderMap, version: Version) {
    if version == Version::HTTP_2 {
        headers.insert(DATE, now());
    }
}

/// The date of this second.
fn now() -> HeaderValue {
    let second = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    LAST.with_borrow_mut(|(last, value)| {
        if *last != second {
            let mut text = Vec::with_capacity(29);
            timestamp::write_http(&mut text, second);
            *value = HeaderValue::from_maybe_shared(bytes::Bytes::from(text)).expect("a date is visible ASCII");
            *last = second;
        }
        value.clone()
    })
}
