//! `google.protobuf.Any`: an object whose `@type` says what the other members are.
//!
//! `@type` may stand anywhere, also last, so the object is looked at once to find it and read again. Clients that write
//! it first, as all printers do, pay nothing for that.

use std::borrow::Cow;

use super::{Encoder, Members};
use crate::transcode::error::Result;
use crate::transcode::lexer::Lexer;
use crate::transcode::plan::{MessagePlan, Plans};
use crate::transcode::wire::{Tag, WireType};

const TYPE_URL: Tag = Tag::new(1, WireType::Delimited);
const VALUE: Tag = Tag::new(2, WireType::Delimited);

/// What an `Any` without its `value` is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum IfAbsent {
    Refused,
    /// An `Empty`, which some printers give a `value`, as they do the other well-known types, and others do not.
    Empty,
}

impl<'a> Encoder<'a, '_, '_> {
    /// The content of an `Any`; `{}` is an empty one.
    pub(super) fn any(&mut self, _plan: &'a MessagePlan) -> Result<()> {
        let mut ahead = self.lexer;
        let Some((type_url, at)) = find_type(&mut ahead)? else {
            let start = self.lexer;
            self.lexer.open(b'{')?;
            let mut first = true;
            if self.lexer.more(b'}', &mut first)? {
                return Err(start.expected("an object with \"@type\""));
            }
            return Ok(());
        };
        let looked_at = ahead.offset() - self.lexer.offset();
        self.rescans = self
            .rescans
            .checked_sub(looked_at)
            .ok_or_else(|| self.lexer.error("nested Any messages must give \"@type\" first".to_owned()))?;

        let found = type_url.rsplit_once('/').and_then(|(_, name)| self.types.named(name));
        let Some((plans, id)) = found else {
            return Err(self
                .lexer
                .expected_at(at, "the type URL of a known message, such as type.googleapis.com/name"));
        };
        self.out.delimited(TYPE_URL, type_url.as_bytes());
        let start = self.out.len();
        self.out.tag(VALUE);
        let run = self.out.begin();
        let empty = self.out.len();
        let outer: &'a Plans = std::mem::replace(&mut self.plans, plans);
        let plan = plans.message(id);
        let result = match plan.well_known {
            Some(well_known) if !well_known.is_object() => self.any_value(plan, IfAbsent::Refused),
            _ if &*plan.name == "google.protobuf.Empty" => self.any_value(plan, IfAbsent::Empty),
            _ => self.object(plan, None, Members::FieldsAndType),
        };
        self.plans = outer;
        result?;
        if self.out.len() == empty {
            self.out.rewind(start);
        } else {
            self.out.end(run);
        }
        Ok(())
    }

    /// A well-known type inside: its form stands as the member `value`.
    fn any_value(&mut self, plan: &'a MessagePlan, if_absent: IfAbsent) -> Result<()> {
        let start = self.lexer;
        self.lexer.open(b'{')?;
        let (mut first, mut given, mut typed) = (true, false, false);
        while self.lexer.more(b'}', &mut first)? {
            let at = self.lexer.offset();
            match &*self.lexer.key()? {
                "@type" if !std::mem::replace(&mut typed, true) => self.lexer.skip()?,
                "@type" => return Err(self.lexer.error_at(at, "\"@type\" is given twice".to_owned())),
                "value" if given => return Err(self.lexer.error_at(at, "the field is given twice".to_owned())),
                "value" => {
                    given = true;
                    self.lexer.peek();
                    self.message(plan, None).map_err(|error| error.within("value"))?;
                }
                _ if self.ignore_unknown => self.lexer.skip()?,
                name => {
                    let message = format!("{} has only \"value\" beside \"@type\"", plan.name);
                    return Err(self.lexer.error_at(at, message).within_given(name));
                }
            }
        }
        if given || if_absent == IfAbsent::Empty { Ok(()) } else { Err(start.expected("an object with \"value\"")) }
    }
}

/// The type URL of the object that is next, and where it stands; reads only as far as needed.
fn find_type<'a>(lexer: &mut Lexer<'a>) -> Result<Option<(Cow<'a, str>, usize)>> {
    lexer.open(b'{')?;
    let mut first = true;
    while lexer.more(b'}', &mut first)? {
        if &*lexer.key()? == "@type" {
            lexer.peek();
            let at = lexer.offset();
            return Ok(Some((lexer.string()?, at)));
        }
        lexer.skip()?;
    }
    Ok(None)
}
