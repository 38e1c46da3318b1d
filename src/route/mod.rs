//! Which binding answers a request: the HTTP method and the raw path in, a target and its captures out.
//!
//! Knows nothing of schemas, upstreams or errors; it hands back what was inserted. Calls in the form
//! `POST /pkg.Service/Method` do not come here, they are found by name.
//!
//! The rules, in this order:
//!
//! 1. A path is refused or matched as it came ([`BadPath`]); a trailing slash is another path. A literal equals a segment
//!    that decodes to the same bytes. `*` takes one segment that is not empty, so that `DELETE /v1/shelves/` is not a
//!    request for the shelf without a name; `**` takes any segments, also none, also empty ones.
//! 2. If the last segment ends in a colon and a verb that some template has, templates with that verb come first; then
//!    those without one, to which the colon is data.
//! 3. Of the templates that match, the most specific wins, whatever the order of insertion: compared segment by segment
//!    from the left, literal before `*` before `**`, and after a `**` the one that has more segments to come.
//! 4. Only templates that answer the HTTP method take part. At the same template a method by name comes before "any".
//!    HEAD is answered by GET where it has no binding of its own.
//! 5. If no template answers the method: OPTIONS gets the methods there are, any other method too, as a refusal.
//!
//! **Invariant**: a search visits each node of the tree once at most (see `trie`), and allocates nothing for paths of up to 16
//! segments and 4 variables.

mod path;
#[cfg(test)]
mod tests;
mod trie;

use std::ops::Range;

use http::{HeaderValue, Method};
use smallvec::SmallVec;

use crate::route::path::Path;
use crate::route::trie::{Answer, Ends, Trie};
use crate::schema::http_rule::HttpMethod;
use crate::schema::template::{Segment, Template};

pub use crate::route::path::{BadPath, Capture};

/// Finds the binding of a request.
#[derive(Debug)]
pub struct Router<T> {
    trie: Trie,
    leaves: Vec<Leaf<T>>,
}

/// A router in the making.
#[derive(Debug)]
pub struct Builder<T> {
    router: Router<T>,
}

/// An equal template is bound to the same method already, and keeps it. Templates are equal if they match the same paths
/// with the same precedence; what their variables are called plays no part.
#[derive(Debug)]
pub struct Conflict<'b, T> {
    /// What was inserted first.
    pub existing: &'b T,
    /// What was not inserted.
    pub rejected: T,
}

/// The binding that answers a request.
#[derive(Debug)]
pub struct Found<'r, T> {
    /// What was inserted.
    pub target: &'r T,
    /// One for each variable of the template, in their order.
    pub captures: SmallVec<[Capture; 4]>,
    /// Whether this is a HEAD request that the binding of GET answers.
    pub head_by_get: bool,
}

/// Why no binding answers a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Miss {
    /// No template matches the path.
    NotFound,
    /// Templates match, but for other methods.
    MethodNotAllowed(Allow),
    /// An OPTIONS request that no binding answers, for a path that some template matches.
    Options(Allow),
    /// The path is refused.
    BadPath(BadPath),
}

/// Value of the `allow` header: every method of every template that matches the path, HEAD wherever GET is, and OPTIONS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allow(pub HeaderValue);

/// A target, and what of its template is needed to find its captures.
#[derive(Debug)]
struct Leaf<T> {
    target: T,
    /// Number of segments.
    length: u8,
    /// Index of the `**`.
    rest: Option<u8>,
    /// Segments of each variable, from and to, and whether it is a multi-segment one.
    variables: Box<[(u8, u8, bool)]>,
}

/// A path as the trees see it.
struct Paths<'p> {
    plain: Path<'p>,
    /// Without its verb, and the root of the templates that have it.
    with_verb: Option<(u32, Path<'p>)>,
}

impl<T> Router<T> {
    /// Starts a router.
    pub fn builder() -> Builder<T> {
        Builder { router: Self { trie: Trie::new(), leaves: Vec::new() } }
    }

    /// Finds the binding that answers `method` on `path`, which is raw and without the query.
    ///
    /// # Errors
    /// See [`Miss`].
    pub fn find(&self, method: &Method, path: &str) -> Result<Found<'_, T>, Miss> {
        let paths = self.paths(path)?;
        self.search(&paths, |ends| ends.answer(method)).ok_or_else(|| self.miss(method, &paths))
    }

    /// Finds the most specific binding of `path` that is `wanted`, whatever its HTTP method; at one template that of GET
    /// comes first.
    ///
    /// # Errors
    /// [`Miss::NotFound`] or [`Miss::BadPath`].
    pub fn find_any(&self, path: &str, wanted: impl Fn(&T) -> bool) -> Result<Found<'_, T>, Miss> {
        let answer = |ends: &Ends| {
            let target = ends.targets().find(|target| wanted(&self.leaves[*target as usize].target))?;
            Some(Answer { target, head_by_get: false })
        };
        self.search(&self.paths(path)?, answer).ok_or(Miss::NotFound)
    }

    /// What was inserted, in that order.
    pub fn targets(&self) -> impl Iterator<Item = &T> {
        self.leaves.iter().map(|leaf| &leaf.target)
    }

    fn paths<'p>(&self, path: &'p str) -> Result<Paths<'p>, Miss> {
        let plain = Path::parse(path).map_err(Miss::BadPath)?;
        let verb = plain.verb().and_then(|verb| Some((self.trie.root_of_verb(verb)?, verb)));
        let with_verb =
            verb.map(|(root, verb)| Ok((root, plain.without_verb(verb)?))).transpose().map_err(Miss::BadPath)?;
        Ok(Paths { plain, with_verb })
    }

    fn search(&self, paths: &Paths<'_>, mut answer: impl FnMut(&Ends) -> Option<Answer>) -> Option<Found<'_, T>> {
        let Paths { plain, with_verb } = paths;
        if let Some((root, path)) = with_verb
            && let Some(answer) = self.trie.search(*root, path, &mut answer)
        {
            return Some(self.found(answer, path));
        }
        self.trie.search(self.trie.plain(), plain, &mut answer).map(|answer| self.found(answer, plain))
    }

    fn found(&self, answer: Answer, path: &Path<'_>) -> Found<'_, T> {
        let leaf = &self.leaves[answer.target as usize];
        let captures = leaf.variables.iter().enumerate().map(|(variable, &(from, to, multi))| {
            let segments = leaf.place(from, path)..leaf.place(to, path);
            Capture { variable, range: path.range(&segments), multi }
        });
        Found { target: &leaf.target, captures: captures.collect(), head_by_get: answer.head_by_get }
    }

    #[cold]
    fn miss(&self, method: &Method, paths: &Paths<'_>) -> Miss {
        let Paths { plain, with_verb } = paths;
        let mut methods: Vec<&Method> = Vec::new();
        let mut collect = |ends| -> Option<()> {
            methods.extend(Ends::methods(ends));
            None
        };
        self.trie.search(self.trie.plain(), plain, &mut collect);
        if let Some((root, path)) = with_verb {
            self.trie.search(*root, path, &mut collect);
        }
        if methods.is_empty() {
            return Miss::NotFound;
        }
        let allow = Allow::new(&methods);
        if method == Method::OPTIONS { Miss::Options(allow) } else { Miss::MethodNotAllowed(allow) }
    }
}

impl<T> Builder<T> {
    /// Binds `target` to a method and template.
    ///
    /// # Errors
    /// [`Conflict`], if an equal template is bound to that method already.
    pub fn insert(&mut self, method: &HttpMethod, template: &Template, target: T) -> Result<(), Conflict<'_, T>> {
        let Router { trie, leaves } = &mut self.router;
        let leaf = u32::try_from(leaves.len()).expect("no memory holds 2^32 templates");
        if let Err(existing) = trie.insert(method, template, leaf) {
            return Err(Conflict { existing: &leaves[existing as usize].target, rejected: target });
        }
        let place = |segment: usize| u8::try_from(segment).expect("a template has at most MAX_SEGMENTS, which is 64");
        let variables = template.variables().iter().map(|variable| {
            let Range { start, end } = variable.segments();
            (place(start), place(end), variable.is_multi())
        });
        leaves.push(Leaf {
            target,
            length: place(template.segments().len()),
            rest: template.segments().iter().position(|segment| *segment == Segment::Rest).map(place),
            variables: variables.collect(),
        });
        Ok(())
    }

    /// The finished router.
    pub fn build(self) -> Router<T> {
        self.router
    }
}

impl<T> Leaf<T> {
    /// Where a segment of the template lies in a path that the template matches, in segments.
    fn place(&self, segment: u8, path: &Path<'_>) -> usize {
        match self.rest {
            Some(rest) if segment > rest => usize::from(segment) + path.len() - usize::from(self.length),
            Some(_) | None => usize::from(segment),
        }
    }
}

impl Allow {
    fn new(methods: &[&Method]) -> Self {
        let mut names: Vec<&str> = methods.iter().map(|method| method.as_str()).collect();
        if methods.contains(&&Method::GET) {
            names.push("HEAD");
        }
        names.push("OPTIONS");
        names.sort_unstable();
        names.dedup();
        Self(HeaderValue::try_from(names.join(", ")).expect("methods are visible ASCII"))
    }
}
