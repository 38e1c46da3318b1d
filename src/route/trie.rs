//! The search tree of all templates.
//!
//! One edge per segment. Templates with a verb stand in a tree of their own per verb, so that a verb is split off a path
//! only where some template has it. At each node the literal edge is tried first, then `*`, then `**`, and the search
//! goes back when the rest of the path does not fit, or when what it found does not answer the HTTP method.
//!
//! ```text
//! GET /v1/shelves/{s}          v1 ─ shelves ─ *               ends: GET
//! GET /v1/{name=**}/books/*    v1 ─ ** of tail 2 ─ books ─ *  ends: GET
//! ```
//!
//! The number of segments after a `**` is known, since a template has only one; it is part of that edge. So a `**` takes
//! exactly what leaves its tail, nothing is tried out, and **no node is visited twice in a search**: the work is bounded
//! by the number of nodes however hostile the path is, and the stack by the length of the longest template.

use hashbrown::HashMap;
use http::Method;
use smallvec::SmallVec;

use crate::route::path::Path;
use crate::schema::http_rule::HttpMethod;
use crate::schema::template::{Segment, Template, Unescape};

/// Where templates lead to: numbers that the caller gave out.
#[derive(Debug)]
pub(super) struct Trie {
    /// Most have one edge or none and no method: the 6,476 bindings of all of Google's APIs have 11,760 of them.
    nodes: Vec<Node>,
    /// Roots by decoded verb. The root of templates without one is the first node.
    verbs: Edges,
}

/// The templates that end at one node, by HTTP method.
#[derive(Debug, Default)]
pub(super) struct Ends {
    named: Box<[(Method, u32)]>,
    any: Option<u32>,
}

/// What answers a method at one node.
#[derive(Debug, Clone, Copy)]
pub(super) struct Answer {
    pub(super) target: u32,
    pub(super) head_by_get: bool,
}

#[derive(Debug, Default)]
struct Node {
    literals: Edges,
    any: Option<u32>,
    /// `**` by the number of segments that follow it in the template, longest first: it takes the fewest segments.
    rest: Box<[(usize, u32)]>,
    ends: Ends,
}

/// Nodes by decoded bytes.
#[derive(Debug, Default)]
enum Edges {
    #[default]
    None,
    One(Box<[u8]>, u32),
    Many(Box<HashMap<Box<[u8]>, u32>>),
}

impl Trie {
    pub(super) fn new() -> Self {
        Self { nodes: vec![Node::default()], verbs: Edges::default() }
    }

    /// Leads a template and method to `target`.
    ///
    /// # Errors
    /// The target that an equal template with that method leads to already; it keeps it.
    pub(super) fn insert(&mut self, method: &HttpMethod, template: &Template, target: u32) -> Result<(), u32> {
        let fresh = self.fresh();
        let mut node = template.verb().map_or(0, |verb| self.verbs.get_or_insert(verb, fresh));
        self.grow(node);
        let segments = template.segments();
        for (index, segment) in segments.iter().enumerate() {
            let fresh = self.fresh();
            let from = &mut self.nodes[node as usize];
            node = match segment {
                Segment::Literal(bytes) => from.literals.get_or_insert(bytes, fresh),
                Segment::Any => *from.any.get_or_insert(fresh),
                Segment::Rest => from.rest_or_insert(segments.len() - index - 1, fresh),
            };
            self.grow(node);
        }
        self.nodes[node as usize].ends.insert(method, target)
    }

    /// The root of templates without a verb.
    pub(super) fn plain(&self) -> u32 {
        0
    }

    /// The root of templates with this verb (raw).
    pub(super) fn root_of_verb(&self, verb: &[u8]) -> Option<u32> {
        self.verbs.get(verb)
    }

    /// Calls `visit` where templates end that match, the most specific first, until it takes one.
    pub(super) fn search<'t, R>(
        &'t self,
        root: u32,
        path: &Path<'_>,
        visit: &mut impl FnMut(&'t Ends) -> Option<R>,
    ) -> Option<R> {
        self.descend(root, path, 0, visit)
    }

    fn descend<'t, R>(
        &'t self,
        node: u32,
        path: &Path<'_>,
        at: usize,
        visit: &mut impl FnMut(&'t Ends) -> Option<R>,
    ) -> Option<R> {
        #[cfg(test)]
        VISITED.with(|visited| visited.set(visited.get() + 1));
        let node = &self.nodes[node as usize];
        let left = path.len() - at;
        if left == 0 {
            if let Some(found) = visit(&node.ends) {
                return Some(found);
            }
        } else {
            let segment = path.segment(at);
            if let Some(next) = node.literals.get(segment)
                && let Some(found) = self.descend(next, path, at + 1, visit)
            {
                return Some(found);
            }
            if let Some(next) = node.any
                && !segment.is_empty()
                && let Some(found) = self.descend(next, path, at + 1, visit)
            {
                return Some(found);
            }
        }
        let mut fitting = node.rest.iter().filter(|(tail, _)| *tail <= left);
        fitting.find_map(|&(tail, next)| self.descend(next, path, path.len() - tail, visit))
    }

    /// The next node's number.
    fn fresh(&self) -> u32 {
        u32::try_from(self.nodes.len()).expect("no memory holds 2^32 nodes")
    }

    /// Makes the node if it is the next one.
    fn grow(&mut self, node: u32) {
        if node == self.fresh() {
            self.nodes.push(Node::default());
        }
    }
}

impl Ends {
    /// What answers this method: its own binding, for HEAD else the one of GET, else the one of every method.
    pub(super) fn answer(&self, method: &Method) -> Option<Answer> {
        if let Some(target) = self.named(method) {
            return Some(Answer { target, head_by_get: false });
        }
        if method == Method::HEAD
            && let Some(target) = self.named(&Method::GET)
        {
            return Some(Answer { target, head_by_get: true });
        }
        self.any.map(|target| Answer { target, head_by_get: false })
    }

    /// Whatever answers some method, GET first.
    pub(super) fn targets(&self) -> impl Iterator<Item = u32> {
        let others = self.named.iter().filter(|(name, _)| name != Method::GET).map(|(_, target)| *target);
        self.named(&Method::GET).into_iter().chain(others).chain(self.any)
    }

    /// Methods that are bound by name.
    pub(super) fn methods(&self) -> impl Iterator<Item = &Method> {
        self.named.iter().map(|(method, _)| method)
    }

    fn named(&self, method: &Method) -> Option<u32> {
        self.named.iter().find(|(name, _)| name == method).map(|(_, target)| *target)
    }

    fn insert(&mut self, method: &HttpMethod, target: u32) -> Result<(), u32> {
        let existing = match method {
            HttpMethod::Named(name) => self.named(name),
            HttpMethod::Any => self.any,
        };
        if let Some(existing) = existing {
            return Err(existing);
        }
        match method {
            HttpMethod::Named(name) => {
                let end = self.named.len();
                add(&mut self.named, end, (name.clone(), target));
            }
            HttpMethod::Any => self.any = Some(target),
        }
        Ok(())
    }
}

impl Node {
    fn rest_or_insert(&mut self, tail: usize, fresh: u32) -> u32 {
        match self.rest.binary_search_by(|(other, _)| tail.cmp(other)) {
            Ok(index) => self.rest[index].1,
            Err(index) => {
                add(&mut self.rest, index, (tail, fresh));
                fresh
            }
        }
    }
}

impl Edges {
    /// `raw` is percent-encoded, and compared by what it decodes to.
    fn get(&self, raw: &[u8]) -> Option<u32> {
        if matches!(self, Self::None) || memchr::memchr(b'%', raw).is_none() {
            return self.of(raw);
        }
        let decoded: SmallVec<[u8; 64]> = Unescape(raw).collect();
        self.of(&decoded)
    }

    fn of(&self, key: &[u8]) -> Option<u32> {
        match self {
            Self::None => None,
            Self::One(only, node) => (**only == *key).then_some(*node),
            Self::Many(nodes) => nodes.get(key).copied(),
        }
    }

    fn get_or_insert(&mut self, key: &[u8], fresh: u32) -> u32 {
        if let Some(node) = self.of(key) {
            return node;
        }
        *self = match std::mem::take(self) {
            Self::None => Self::One(key.into(), fresh),
            Self::One(first, node) => Self::Many(Box::new([(first, node), (key.into(), fresh)].into_iter().collect())),
            Self::Many(mut nodes) => {
                nodes.insert(key.into(), fresh);
                Self::Many(nodes)
            }
        };
        fresh
    }
}

/// Adds to a list that has no room to spare.
fn add<T>(list: &mut Box<[T]>, index: usize, item: T) {
    let mut longer = std::mem::take(list).into_vec();
    longer.reserve_exact(1);
    longer.insert(index, item);
    *list = longer.into();
}

#[cfg(test)]
thread_local! {
    /// Nodes visited by this thread, for the test of the bound.
    pub(super) static VISITED: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}
