//! The `update_mask` of a `PATCH` whose client sent none: the fields that its body names.
//!
//! AIP-134 (<https://google.aip.dev/134>) lets a service treat a missing mask as "everything", which a client that sends
//! half a book does not mean. A JSON body is read a second time for this; only such calls pay for it. Fields that the path
//! sets say which resource is meant and are left out.

use super::well_known::FIRST_STRING;
use crate::schema::Kind;
use crate::transcode::bindings::{Bound, Overlay};
use crate::transcode::error::Result;
use crate::transcode::lexer::Lexer;
use crate::transcode::out::Out;
use crate::transcode::plan::{FieldPlan, MessagePlan, Plans, Shape};

/// Appends the paths (field 1 of a mask) of the leaves in a body that was encoded before: names of the `.proto` file, as
/// deep as there are single messages. Repeated fields, maps and well-known types are leaves, and so is `null`, by which a
/// client asks for a field to be cleared.
pub(in crate::transcode) fn write_paths<'a>(
    plans: &'a Plans,
    plan: &'a MessagePlan,
    overlay: Option<Overlay<'a>>,
    body: &'a str,
    out: &mut Out<'_>,
) -> Result<()> {
    let end = out.len() + MAX_MASK;
    let mut walk = Walk { plans, lexer: Lexer::new(body), path: String::new(), out, end };
    walk.message(plan, overlay)
}

/// The same for a form body, which is part of the overlay. `path` is the field of the leaves, empty at first.
pub(in crate::transcode) fn write_form_paths(
    plans: &Plans,
    plan: &MessagePlan,
    overlay: Overlay<'_>,
    path: &mut String,
    out: &mut Out<'_>,
) {
    for (index, bound) in overlay.beside_path() {
        let field = &plan.fields[index];
        let outer = path.len();
        if outer > 0 {
            path.push('.');
        }
        path.push_str(field.name());
        match (bound, field.kind) {
            (Bound::Branch(below), Kind::Message(id) | Kind::Group(id)) if plans.message(id).well_known.is_none() => {
                write_form_paths(plans, plans.message(id), below, path, out);
            }
            // All that is set of it, the path has set.
            (Bound::Branch(below), _) if !below.is_empty() && below.beside_path().next().is_none() => {}
            (Bound::Branch(_) | Bound::Value(..) | Bound::List, _) => out.delimited(FIRST_STRING, path.as_bytes()),
        }
        path.truncate(outer);
    }
}

struct Walk<'a, 'o, 'b> {
    plans: &'a Plans,
    lexer: Lexer<'a>,
    path: String,
    out: &'o mut Out<'b>,
    /// Where the mask has to end.
    end: usize,
}

/// Bytes of a mask. Leaves far down have paths that are many times as long as the text of their values.
const MAX_MASK: usize = 64 << 10;

impl<'a> Walk<'a, '_, '_> {
    fn message(&mut self, plan: &'a MessagePlan, overlay: Option<Overlay<'a>>) -> Result<()> {
        self.lexer.open(b'{')?;
        let mut first = true;
        let mut members = 0;
        while self.lexer.more(b'}', &mut first)? {
            let name = self.lexer.key()?;
            match plan.field_named(&name) {
                Some(index) => self.field(plan, index, overlay)?,
                None => self.lexer.skip()?,
            }
            members += 1;
        }
        if members == 0 { self.leaf() } else { Ok(()) }
    }

    fn field(&mut self, plan: &'a MessagePlan, index: usize, overlay: Option<Overlay<'a>>) -> Result<()> {
        let field = &plan.fields[index];
        let outer = self.path.len();
        if outer > 0 {
            self.path.push('.');
        }
        self.path.push_str(field.name());
        let below = match overlay.and_then(|overlay| overlay.child(index)) {
            Some(Bound::Value(..) | Bound::List) => {
                self.path.truncate(outer);
                return self.lexer.skip();
            }
            Some(Bound::Branch(overlay)) => Some(overlay),
            None => None,
        };
        match self.inner(field) {
            Some(inner) if self.lexer.peek() == b'{' => self.message(inner, below)?,
            _ => {
                self.leaf()?;
                self.lexer.skip()?;
            }
        }
        self.path.truncate(outer);
        Ok(())
    }

    /// The message behind a field that is no leaf.
    fn inner(&self, field: &FieldPlan) -> Option<&'a MessagePlan> {
        let (Kind::Message(id) | Kind::Group(id)) = field.kind else { return None };
        let plan = self.plans.message(id);
        (field.shape == Shape::Single && plan.well_known.is_none()).then_some(plan)
    }

    fn leaf(&mut self) -> Result<()> {
        if !self.path.is_empty() {
            self.out.delimited(FIRST_STRING, self.path.as_bytes());
        }
        if self.out.len() > self.end {
            return Err(self
                .lexer
                .error(format!("the mask of this body is longer than {MAX_MASK} bytes: send update_mask")));
        }
        Ok(())
    }
}
