//! JSON ⇄ protobuf: what a REST call says becomes a request message, and a reply message becomes JSON.
//!
//! Pure: bytes in, bytes out; the only state are plans. Nothing is parsed into a tree on the way. The directions are called
//! by what happens to the message: `encode` makes one of JSON, `decode` makes JSON of one.
//!
//! **A request**, with `PATCH /v1/{book.name}` and `body: "book"` for an example:
//!
//! 1. `RequestPlan::encode` lets `RequestPlan::bind` read path, headers, query and form. `Pairs::resolve` finds the fields of
//!    a parameter's name, `TextValue::write` reads its value, and `Bindings::set` keeps it as wire bytes: `book.name`.
//! 2. The body goes through `Encoder::whole_message`, or here `Encoder::whole_field`. `Encoder::object` takes the members of an
//!    object as `Lexer::more` finds them; `Encoder::field` refuses what is given twice; `Encoder::value` reads a value and writes
//!    it to `Out` at once. `Out::begin` leaves a byte for the length of a message, `Out::end` puts it in.
//! 3. What was bound below a message comes along as its `Overlay`, and `Overlay::write_rest` writes it at the end of the same
//!    submessage: `name` behind what the text says of `book`.
//! 4. `RequestPlan::write_mask` reads the body again for an `update_mask` that was not sent.
//!
//! A message that the client has encoded itself skips the second step: `merge::write_over` puts the bindings over it.
//!
//! **A reply**:
//!
//! 1. `ReplyPlan::decode` calls `Decoder::whole_message`, or `Decoder::whole_field` for a `response_body`.
//! 2. `Decoder::twice` tries `Decoder::fields_in_order`, which writes each field as `Cursor::head_in_group` finds it. If a field stands
//!    where no serializer writes it, all is taken back and done again by way of `Decoder::collect`, which looks at the whole
//!    of a message first.
//! 3. `Decoder::value` writes a value, `Decoder::message` a submessage in the form that its type has, and `Decoder::defaults`
//!    what is absent, if that is asked for.
//!
//! | modules | |
//! |---|---|
//! | of both | `plan` compiles descriptors on first use. `wire` and `out` are the bytes, `words` eight of them at once. `number`, `time`, `field_mask`, `message_set` and `http_body` are forms of values, `keys` those of a map. `declared` finds the fields that a rule names. `error` |
//! | JSON → wire | `request` puts an HTTP binding together: `bindings` is what `query`, path, headers and the `parts` of a form set, `encode` the body by its `lexer`, `merge` a body that is encoded already. `values` cuts a stream of JSON into messages; `suggest` knows what a wrong name may have meant |
//! | wire → JSON | `reply` makes a body, `decode` its text, `decimal` the numbers in it |
//!
//! The mapping is that of <https://protobuf.dev/programming-guides/json/>, the wire format that of
//! <https://protobuf.dev/programming-guides/encoding/>, binding that of
//! <https://github.com/googleapis/googleapis/blob/master/google/api/http.proto>. Where they leave a choice, the strict one
//! is taken.
//!
//! | rule | JSON → wire | wire → JSON |
//! |---|---|---|
//! | [both names of a field][names] | `MessagePlan::field_named` | `FieldPlan::key` |
//! | [unknown names][options] | `Encoder::member`, `Pairs::resolve` | |
//! | [a name, or a oneof, given twice][twice] | `Encoder::field` refuses it | |
//! | [`null` is absence, but for `Value` and `NullValue`][null] | `Encoder::field` by `FieldPlan::null_is_value` | |
//! | [presence and defaults][presence] | `Encoder::field_value` by `FieldPlan::implicit` | `Decoder::fields_in_order`, `Decoder::defaults` |
//! | [64-bit integers in quotes, numbers in any notation][types] | `Lexer::plain_integer`, `number::bits_of_text` | `Decoder::wide_integer` |
//! | [`NaN`, `Infinity`][types] | `number::bits_of_text` | `Decoder::not_finite` |
//! | [base64 of both alphabets][types] | `value::write_base64` | `scalar::write_base64` |
//! | [enums by name or number][types] | `Encoder::enumeration` | `Decoder::enumeration` |
//! | [numbers that a closed enum does not have][closed] | `Encoder::enumeration` refuses them | `Decoder::is_known` leaves them out |
//! | [keys of maps][types] | `text::write_key` | `Decoder::map_key` |
//! | [types with a form of their own][wkt] | `Encoder::well_known` | `Decoder::well_known` |
//! | [`Any`][any] | `Encoder::any` | `Decoder::any_object` |
//! | [packed or not][packed] | `Encoder::array` by `Shape::Packed` | `Decoder::elements` reads both |
//! | [groups][groups] | `Encoder::submessage` | `Decoder::group` |
//! | [entries of maps are messages][maps] | `Encoder::map` | `Decoder::entry` |
//! | [zigzag][zigzag] | `number::zigzag` | `number::unzigzag` |
//! | [the last one wins, messages are merged][last] | `merge::write_over` | `Decoder::collect`, `Decoder::join` |
//! | required fields | `MessagePlan::missing` | not asked for |
//!
//! **Invariants**: no input makes anything here panic, recurse without bound or allocate without bound; no singular
//! submessage is written twice.
//!
//! [names]: https://protobuf.dev/programming-guides/json/#field-names
//! [options]: https://protobuf.dev/programming-guides/json/#json-options
//! [twice]: https://protobuf.dev/programming-guides/json/#duplicate-values
//! [null]: https://protobuf.dev/programming-guides/json/#null-values
//! [presence]: https://protobuf.dev/programming-guides/json/#presence
//! [types]: https://protobuf.dev/programming-guides/json/#field-representation
//! [wkt]: https://protobuf.dev/programming-guides/json/#wkt
//! [any]: https://protobuf.dev/programming-guides/json/#any
//! [closed]: https://protobuf.dev/programming-guides/enum/#definitions
//! [packed]: https://protobuf.dev/programming-guides/encoding/#packed
//! [groups]: https://protobuf.dev/programming-guides/encoding/#groups
//! [maps]: https://protobuf.dev/programming-guides/encoding/#maps
//! [zigzag]: https://protobuf.dev/programming-guides/encoding/#signed-ints
//! [last]: https://protobuf.dev/programming-guides/encoding/#last-one-wins

mod bindings;
mod decimal;
mod declared;
mod decode;
mod encode;
mod error;
mod field_mask;
mod http_body;
mod keys;
mod lexer;
mod merge;
mod message_set;
mod number;
mod out;
mod parts;
mod plan;
mod query;
mod reply;
mod request;
mod suggest;
#[cfg(test)]
mod tests;
mod time;
mod values;
mod wire;
mod words;

pub use crate::schema::http_rule::BodyRule;
pub use error::{Error, Fault, Position};
pub use parts::{Part, Place};
pub use plan::Plans;
pub use query::unescape;
pub use reply::{ReplyPlan, write_any, write_text};
pub use request::{Input, RequestPlan};
pub use values::{Form, Values};
