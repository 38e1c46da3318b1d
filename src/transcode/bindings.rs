//! What the path and the query of one request set: a small tree over fields, with values that are encoded already.
//!
//! Values are parsed by the type of their field and kept as wire bytes, so that two values are the same exactly if their
//! bytes are. **Invariants**: the path wins, that is, whoever sets a field that the path has set must give the same
//! value; a singular field has one value; a oneof has one member.

use bytes::BytesMut;
use smallvec::SmallVec;

use super::encode::Lead;
use super::encode::part::Value;
use super::encode::text::write_key;
use super::error::{Error, REQUIRED, Result, excerpt};
use super::number;
use super::out::Out;
use super::plan::{FieldPlan, MessagePlan, Plans, Seen, Shape};
use crate::schema::{Kind, MessageId};

/// Values by field, see the module.
#[derive(Debug)]
pub(super) struct Bindings {
    nodes: SmallVec<[Node; 6]>,
    /// Encoded values.
    bytes: BytesMut,
}

#[derive(Debug, Clone, Copy)]
struct Node {
    /// Index of the field in the plan of the message that holds it.
    field: u32,
    /// Next field of the same message, or next element of the same list; [`NONE`] at the end.
    next: u32,
    content: Content,
}

#[derive(Debug, Clone, Copy)]
enum Content {
    /// A message of which some fields are set.
    Branch(Chain),
    /// Elements of a repeated field or entries of a map.
    List(Chain),
    /// Range of the encoded value: with its tag, but for elements of packed fields.
    Value { start: usize, end: usize, source: Source },
    /// The same for a map entry, whose key is a range of its own.
    Entry { start: usize, end: usize, key: (usize, usize) },
}

#[derive(Debug, Clone, Copy)]
struct Chain {
    first: u32,
    last: u32,
}

/// Where a value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    Path,
    /// A header that the configuration binds to the field.
    Header,
    Query,
    /// A body that is a form.
    Form,
}

impl Source {
    /// Whether it is apart from what a caller writes as the message: others may repeat its value.
    fn is_outside(self) -> bool {
        matches!(self, Self::Path | Self::Header)
    }

    /// What is wrong when the body gives another value.
    pub(super) fn contradicted_by_body(self) -> &'static str {
        match self {
            Self::Path => "the body and the path give different values",
            Self::Header => "the body and a header that is bound to the field give different values",
            Self::Query | Self::Form => "the field is given by the query and by the body",
        }
    }
}

/// The field that a value is for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Target<'t> {
    /// The message in which the path of fields starts.
    pub(super) root: MessageId,
    /// Indices of fields, each in the message of the one before. Never empty; all but the last are single messages.
    pub(super) fields: &'t [u32],
    /// Key of the entry, for a map.
    pub(super) key: Option<&'t str>,
    pub(super) source: Source,
}

const NONE: u32 = u32::MAX;
const ROOT: u32 = 0;
const EMPTY: Chain = Chain { first: NONE, last: NONE };

impl Bindings {
    /// Nothing is set.
    pub(super) fn new() -> Self {
        let root = Node { field: NONE, next: NONE, content: Content::Branch(EMPTY) };
        Self { nodes: SmallVec::from_slice(&[root]), bytes: BytesMut::new() }
    }

    /// Everything that is set in the outermost message.
    pub(super) fn root(&self) -> Overlay<'_> {
        Overlay { bindings: self, node: ROOT }
    }

    /// Sets a field.
    ///
    /// # Errors
    /// The text is no value of the field's type, or the field or its oneof is set already.
    pub(super) fn set(&mut self, target: Target<'_>, value: Value<'_>) -> Result<()> {
        self.insert(target, value).map_err(|error| error.within(&path(target, value.plans())))
    }

    fn insert(&mut self, target: Target<'_>, value: Value<'_>) -> Result<()> {
        let mut plan = value.plans().message(target.root);
        let mut node = ROOT;
        let Some((&leaf, branches)) = target.fields.split_last() else { return Ok(()) };
        for &index in branches {
            node = self.child_or_insert(node, plan, index, Content::Branch(EMPTY))?;
            let (Kind::Message(id) | Kind::Group(id)) = plan.fields[index as usize].kind else { return Ok(()) };
            plan = value.plans().message(id);
        }
        let field = &plan.fields[leaf as usize];
        match field.shape {
            Shape::Single => self.set_single(node, plan, leaf, value, target.source),
            Shape::Repeated | Shape::Packed => {
                let list = self.child_or_insert(node, plan, leaf, Content::List(EMPTY))?;
                self.append_element(list, field, value)
            }
            Shape::Map => {
                let list = self.child_or_insert(node, plan, leaf, Content::List(EMPTY))?;
                self.append_entry(list, field, target.key, value)
            }
        }
    }

    fn set_single(
        &mut self,
        node: u32,
        plan: &MessagePlan,
        index: u32,
        value: Value<'_>,
        source: Source,
    ) -> Result<()> {
        let field = &plan.fields[index as usize];
        let lead = if field.implicit { Lead::TagUnlessDefault } else { Lead::Tag };
        let start = self.bytes.len();
        if !value.write(field, lead, &mut Out::new(&mut self.bytes, value.size()))? {
            return Ok(());
        }
        let end = self.bytes.len();
        let Some(existing) = self.child(node, index) else {
            self.check_oneof(node, plan, index)?;
            self.append(node, index, Content::Value { start, end, source });
            return Ok(());
        };
        let Content::Value { start: old_start, end: old_end, source: old_source } =
            self.nodes[existing as usize].content
        else {
            return Err(Error::client("the field and fields below it are both given"));
        };
        let same = self.bytes[old_start..old_end] == self.bytes[start..end];
        self.bytes.truncate(start);
        if old_source.is_outside() && same {
            return Ok(());
        }
        Err(Error::client(match (old_source, source) {
            (Source::Path | Source::Header, Source::Header) => "a header and the path, or another header, differ",
            (Source::Header, Source::Query) => {
                "the query and a header that is bound to the field give different values"
            }
            (Source::Header | Source::Path, Source::Form) => old_source.contradicted_by_body(),
            (Source::Header, Source::Path) => "the path and a header that is bound to the field give different values",
            (Source::Path, Source::Path) => "the path gives two different values",
            (Source::Path, Source::Query) => "the query and the path give different values",
            (Source::Query, Source::Form) => "the field is given by the query and by the body",
            (Source::Query | Source::Form, _) => "the parameter is given more than once",
        }))
    }

    fn append_element(&mut self, list: u32, field: &FieldPlan, value: Value<'_>) -> Result<()> {
        let lead = if field.shape == Shape::Packed { Lead::Bare } else { Lead::Tag };
        let start = self.bytes.len();
        if value.write(field, lead, &mut Out::new(&mut self.bytes, value.size()))? {
            let content = Content::Value { start, end: self.bytes.len(), source: Source::Query };
            self.append(list, NONE, content);
        }
        Ok(())
    }

    fn append_entry(&mut self, list: u32, field: &FieldPlan, key: Option<&str>, value: Value<'_>) -> Result<()> {
        let Kind::Message(entry) = field.kind else { return Ok(()) };
        let entry = value.plans().message(entry);
        let (Some(key), Some(key_field), Some(value_field)) = (key, entry.numbered(1), entry.numbered(2)) else {
            return Err(Error::client("the field is a map: give its entries as name[key]=value"));
        };
        let start = self.bytes.len();
        let mut out = Out::new(&mut self.bytes, key.len() + value.size());
        out.tag(field.tag);
        let run = out.begin();
        let key_start = out.len();
        if !write_key(&mut out, key_field, key) {
            let what = number::description(key_field.kind);
            return Err(Error::client(format!("expected {what} as the key, found {}", excerpt(key))));
        }
        let key_end = out.len();
        if !value.write(value_field, Lead::Tag, &mut out)? {
            return Ok(());
        }
        let moved = out.end(run);
        drop(out);
        let key = (key_start + moved, key_end + moved);
        let end = self.bytes.len();
        let taken = self.chain(list).any(|node| match self.nodes[node as usize].content {
            Content::Entry { key: other, .. } => self.bytes[other.0..other.1] == self.bytes[key.0..key.1],
            Content::Branch(_) | Content::List(_) | Content::Value { .. } => false,
        });
        if taken {
            return Err(Error::client("the key is given more than once"));
        }
        self.append(list, NONE, Content::Entry { start, end, key });
        Ok(())
    }

    fn child_or_insert(&mut self, node: u32, plan: &MessagePlan, index: u32, content: Content) -> Result<u32> {
        match self.child(node, index) {
            Some(child) if matches!(self.nodes[child as usize].content, Content::Branch(_) | Content::List(_)) => {
                Ok(child)
            }
            Some(_) => Err(Error::client("the field and fields below it are both given")),
            None => {
                self.check_oneof(node, plan, index)?;
                Ok(self.append(node, index, content))
            }
        }
    }

    /// No other member of the field's oneof is set.
    fn check_oneof(&self, node: u32, plan: &MessagePlan, index: u32) -> Result<()> {
        let Some(oneof) = plan.fields[index as usize].oneof else { return Ok(()) };
        let other = self.chain(node).map(|child| &plan.fields[self.nodes[child as usize].field as usize]);
        match other.into_iter().find(|field| field.oneof == Some(oneof)) {
            Some(field) => Err(Error::client(format!("{} of the same oneof is given too", excerpt(field.name())))),
            None => Ok(()),
        }
    }

    fn append(&mut self, parent: u32, field: u32, content: Content) -> u32 {
        let new = u32::try_from(self.nodes.len()).unwrap_or(NONE);
        self.nodes.push(Node { field, next: NONE, content });
        let last = match &mut self.nodes[parent as usize].content {
            Content::Branch(chain) | Content::List(chain) => {
                let last = chain.last;
                chain.last = new;
                if chain.first == NONE {
                    chain.first = new;
                }
                last
            }
            Content::Value { .. } | Content::Entry { .. } => NONE,
        };
        if last != NONE {
            self.nodes[last as usize].next = new;
        }
        new
    }

    fn chain(&self, node: u32) -> impl Iterator<Item = u32> + '_ {
        let first = match self.nodes[node as usize].content {
            Content::Branch(chain) | Content::List(chain) => chain.first,
            Content::Value { .. } | Content::Entry { .. } => NONE,
        };
        let some = |node: u32| (node != NONE).then_some(node);
        std::iter::successors(some(first), move |node| some(self.nodes[*node as usize].next))
    }

    fn child(&self, node: u32, field: u32) -> Option<u32> {
        self.chain(node).find(|child| self.nodes[*child as usize].field == field)
    }
}

/// What is set in one message and below it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Overlay<'a> {
    bindings: &'a Bindings,
    node: u32,
}

/// How one field is set.
#[derive(Debug, Clone, Copy)]
pub(super) enum Bound<'a> {
    /// Some fields below it.
    Branch(Overlay<'a>),
    /// A singular value, encoded with its tag; empty if it is a default that is not written.
    Value(&'a [u8], Source),
    /// Elements or entries.
    List,
}

impl<'a> Overlay<'a> {
    /// Whether nothing is set.
    pub(super) fn is_empty(self) -> bool {
        self.bindings.chain(self.node).next().is_none()
    }

    /// How a field is set.
    pub(super) fn child(self, index: usize) -> Option<Bound<'a>> {
        let child = self.bindings.child(self.node, u32::try_from(index).ok()?)?;
        Some(match self.bindings.nodes[child as usize].content {
            Content::Branch(_) => Bound::Branch(Self { node: child, ..self }),
            Content::Value { start, end, source } => Bound::Value(&self.bindings.bytes[start..end], source),
            Content::List(_) | Content::Entry { .. } => Bound::List,
        })
    }

    /// What is set below a field that is a message.
    pub(super) fn below(self, index: usize) -> Option<Self> {
        match self.child(index)? {
            Bound::Branch(overlay) => Some(overlay),
            Bound::Value(..) | Bound::List => None,
        }
    }

    /// The fields that are set, but for the values that the path or a header gives.
    pub(super) fn beside_path(self) -> impl Iterator<Item = (usize, Bound<'a>)> {
        let nodes = self.bindings.chain(self.node).map(|child| self.bindings.nodes[child as usize]);
        let given = nodes.filter(|node| !matches!(node.content, Content::Value { source, .. } if source.is_outside()));
        given.filter_map(move |node| Some((node.field as usize, self.child(node.field as usize)?)))
    }

    /// Marks the oneofs that are set.
    pub(super) fn claim_oneofs(self, plan: &MessagePlan, seen: &mut Seen) {
        for child in self.bindings.chain(self.node) {
            let field = self.bindings.nodes[child as usize].field;
            if let Some(oneof) = plan.fields[field as usize].oneof {
                seen.insert(oneof as usize);
            }
        }
    }

    /// Index of the member of a oneof that is set.
    pub(super) fn member_of(self, plan: &MessagePlan, oneof: u32) -> Option<usize> {
        let mut fields = self.bindings.chain(self.node).map(|child| self.bindings.nodes[child as usize].field as usize);
        fields.find(|field| plan.fields[*field].oneof == Some(oneof))
    }

    /// Appends all that is set.
    ///
    /// # Errors
    /// A required field is not set.
    pub(super) fn write(self, plans: &Plans, plan: &MessagePlan, out: &mut Out<'_>) -> Result<()> {
        self.write_rest(plans, plan, &Seen::default(), out)
    }

    /// Appends what is set, but for messages that were written already.
    ///
    /// # Errors
    /// A required field is neither set nor written already.
    pub(super) fn write_rest(self, plans: &Plans, plan: &MessagePlan, written: &Seen, out: &mut Out<'_>) -> Result<()> {
        if let Some(field) = plan.missing(|index| written.contains(index) || self.child(index).is_some()) {
            return Err(Error::client(REQUIRED).within(field.name()));
        }
        for child in self.bindings.chain(self.node) {
            let node = self.bindings.nodes[child as usize];
            let field = &plan.fields[node.field as usize];
            match node.content {
                Content::Branch(_) if written.contains(node.field as usize) => {}
                Content::Branch(_) => Self { node: child, ..self }
                    .write_as(plans, field, out)
                    .map_err(|error| error.within(field.name()))?,
                Content::List(_) if field.shape == Shape::Packed => {
                    let start = out.len();
                    out.tag(field.tag);
                    let run = out.begin();
                    let empty = out.len();
                    self.write_values(child, out);
                    if out.len() == empty {
                        out.rewind(start);
                    } else {
                        out.end(run);
                    }
                }
                Content::List(_) => self.write_values(child, out),
                Content::Value { start, end, .. } | Content::Entry { start, end, .. } => {
                    out.bytes(&self.bindings.bytes[start..end]);
                }
            }
        }
        Ok(())
    }

    /// Appends all that is set as the submessage behind a field.
    ///
    /// # Errors
    /// A required field is not set.
    pub(super) fn write_as(self, plans: &Plans, field: &FieldPlan, out: &mut Out<'_>) -> Result<()> {
        match field.kind {
            Kind::Message(id) => {
                out.tag(field.tag);
                let run = out.begin();
                self.write(plans, plans.message(id), out)?;
                out.end(run);
            }
            Kind::Group(id) => {
                out.tag(field.tag);
                self.write(plans, plans.message(id), out)?;
                out.tag(field.end_group());
            }
            _ => {}
        }
        Ok(())
    }

    fn write_values(self, list: u32, out: &mut Out<'_>) {
        for element in self.bindings.chain(list) {
            if let Content::Value { start, end, .. } | Content::Entry { start, end, .. } =
                self.bindings.nodes[element as usize].content
            {
                out.bytes(&self.bindings.bytes[start..end]);
            }
        }
    }
}

/// Names of the fields that lead to a target.
#[cold]
fn path(target: Target<'_>, plans: &Plans) -> String {
    let mut path = String::new();
    let mut message = Some(target.root);
    for &index in target.fields {
        let Some(id) = message else { break };
        let field = &plans.message(id).fields[index as usize];
        if !path.is_empty() {
            path.push('.');
        }
        path.push_str(field.name());
        message = field.kind.message();
    }
    if let Some(key) = target.key {
        path.push_str(&format!("[{}]", excerpt(key)));
    }
    path
}
