//! What an expression may name, and what evaluating it may cost.
//!
//! CEL has no unbounded loops, but its macros (`all`, `exists`, `map`, …) go over lists, and one within another multiplies.
//! [`Cost`] counts the nodes at each depth of such loops, so that the steps follow from the size of the input before
//! anything is evaluated.

use cel::common::ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr, LiteralValue, operators};
use cel::{IdedExpr, Program};

use super::Fault;
use super::value::Size;

/// Loops within loops.
const MAX_DEPTH: usize = 2;
/// Nodes of an expression.
const MAX_NODES: usize = 1000;

/// Variables, with the fields that each has; none listed means that the caller decides.
pub(super) const VARIABLES: [(&str, &[&str]); 3] = [("claims", &[]), ("identities", &[]), ("request", REQUEST)];
/// Fields of `request`.
pub(super) const REQUEST: &[&str] =
    &["method", "service", "http_method", "path", "query", "host", "protocol", "client_ip", "headers", "time"];
/// Types, which stand for themselves, as in `type(x) == string`.
const TYPES: [&str; 10] = ["bool", "int", "uint", "double", "string", "bytes", "list", "map", "null_type", "type"];
/// Functions, with how many arguments each takes, and whether these may include what stands before the dot.
pub(super) const FUNCTIONS: [(&str, usize, Call); 14] = [
    ("size", 1, Call::Either),
    ("contains", 2, Call::Member),
    ("startsWith", 2, Call::Member),
    ("endsWith", 2, Call::Member),
    ("matches", 2, Call::Member),
    ("int", 1, Call::Global),
    ("uint", 1, Call::Global),
    ("double", 1, Call::Global),
    ("string", 1, Call::Global),
    ("bytes", 1, Call::Global),
    ("bool", 1, Call::Global),
    ("type", 1, Call::Global),
    ("dyn", 1, Call::Global),
    (operators::NOT_STRICTLY_FALSE, 1, Call::Global),
];
/// Macros, which the parser has turned into loops where they were called rightly.
const MACROS: [&str; 7] = ["has", "all", "exists", "exists_one", "existsOne", "map", "filter"];

/// How a function is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Call {
    Global,
    Member,
    Either,
}

/// What the nodes of a program cost.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Cost {
    /// Nodes by how many loops are around them.
    nodes: [u64; MAX_DEPTH + 1],
    /// Of those, the ones that may look at a whole list or text.
    wide: [u64; MAX_DEPTH + 1],
    /// Lists and texts that may be put together.
    sums: u64,
    /// Elements of the longest list in the expression itself.
    literal: u64,
}

impl Cost {
    pub(super) fn has_loops(&self) -> bool {
        self.nodes.iter().skip(1).any(|nodes| *nodes > 0)
    }

    /// The most steps that an input of this size can take, beside what is taken out of the input, which counts itself.
    ///
    /// A node within a loop is evaluated for each element, and looks at all of them together at most at the whole of what
    /// the loop goes over.
    pub(super) fn steps(&self, size: Size) -> u64 {
        let longest = size.longest.saturating_mul(self.sums + 1).max(self.literal).max(1);
        let whole = size.whole.saturating_add(self.literal).saturating_mul(self.sums + 1);
        let (mut steps, mut times) = (0_u64, 1_u64);
        for (depth, (nodes, wide)) in self.nodes.into_iter().zip(self.wide).enumerate() {
            let looks = wide.saturating_mul(whole).saturating_mul(times / if depth == 0 { 1 } else { longest });
            steps = steps.saturating_add(times.saturating_mul(nodes)).saturating_add(looks);
            times = times.saturating_mul(longest);
        }
        steps
    }
}

/// Checks every name and counts.
pub(super) fn check(program: &Program) -> Result<Cost, Fault> {
    let mut walk = Walk { program, bound: Vec::new(), depth: 0, seen: 0, cost: Cost::default() };
    walk.node(program.expression())?;
    Ok(walk.cost)
}

struct Walk<'p> {
    program: &'p Program,
    /// Variables of the loops around.
    bound: Vec<&'p str>,
    depth: usize,
    seen: usize,
    cost: Cost,
}

impl<'p> Walk<'p> {
    fn fault<T>(&self, node: &IdedExpr, message: String) -> Result<T, Fault> {
        let source = self.program.source_info();
        let offset = source.offset_for(node.id).map_or(0, |(start, _)| start as usize);
        let before = source.source.get(..offset.min(source.source.len())).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        Err(Fault { at: (line, column), message })
    }

    fn node(&mut self, node: &'p IdedExpr) -> Result<(), Fault> {
        self.seen += 1;
        if self.seen > MAX_NODES {
            return self.fault(node, format!("the expression has more than {MAX_NODES} parts"));
        }
        self.cost.nodes[self.depth] += 1;
        match &node.expr {
            Expr::Literal(_) => Ok(()),
            Expr::Ident(name) => self.variable(node, name),
            Expr::Select(select) => {
                self.node(&select.operand)?;
                self.field(node, &select.operand, &select.field)
            }
            Expr::Call(call) => self.call(node, call),
            Expr::List(list) => {
                self.cost.literal = self.cost.literal.max(list.elements.len() as u64);
                list.elements.iter().try_for_each(|element| self.node(element))
            }
            Expr::Map(map) => {
                self.cost.literal = self.cost.literal.max(map.entries.len() as u64);
                for entry in &map.entries {
                    if let EntryExpr::MapEntry(entry) = &entry.expr {
                        self.node(&entry.key)?;
                        self.node(&entry.value)?;
                    }
                }
                Ok(())
            }
            Expr::Comprehension(comprehension) => self.comprehension(node, comprehension),
            Expr::Struct(message) => self.fault(node, format!("there is no message type {}", message.type_name)),
            Expr::Unspecified => self.fault(node, "this is no expression".to_owned()),
        }
    }

    fn variable(&self, node: &IdedExpr, name: &str) -> Result<(), Fault> {
        let is_known = self.bound.contains(&name) || VARIABLES.iter().any(|(known, _)| *known == name);
        if is_known || TYPES.contains(&name) {
            return Ok(());
        }
        let known: Vec<&str> = VARIABLES.iter().map(|(known, _)| *known).collect();
        self.fault(node, format!("there is no variable `{name}`; there are {}", known.join(", ")))
    }

    /// A field of a variable whose fields are all known.
    fn field(&self, node: &IdedExpr, operand: &IdedExpr, field: &str) -> Result<(), Fault> {
        let Expr::Ident(variable) = &operand.expr else { return Ok(()) };
        if self.bound.contains(&&**variable) {
            return Ok(());
        }
        match VARIABLES.iter().find(|(known, _)| known == variable) {
            Some((_, fields)) if !fields.is_empty() && !fields.contains(&field) => {
                self.fault(node, format!("`{variable}` has no `{field}`; it has {}", fields.join(", ")))
            }
            _ => Ok(()),
        }
    }

    fn call(&mut self, node: &'p IdedExpr, call: &'p CallExpr) -> Result<(), Fault> {
        let arguments = call.args.len() + usize::from(call.target.is_some());
        let name = call.func_name.as_str();
        let is_operator = call.target.is_none() && OPERATORS.contains(&name);
        if !is_operator {
            self.function(node, call, arguments)?;
        }
        if matches!(name, operators::ADD) {
            self.cost.sums += 1;
        }
        let is_wide = matches!(name, operators::ADD | operators::IN | operators::EQUALS | operators::NOT_EQUALS);
        if is_wide || !is_operator {
            self.cost.wide[self.depth] += 1;
        }
        call.target.iter().try_for_each(|target| self.node(target))?;
        call.args.iter().try_for_each(|argument| self.node(argument))
    }

    fn function(&self, node: &IdedExpr, call: &CallExpr, arguments: usize) -> Result<(), Fault> {
        let name = call.func_name.as_str();
        let Some((_, wanted, kind)) = FUNCTIONS.iter().find(|(known, ..)| *known == name) else {
            if MACROS.contains(&name) {
                return self.fault(node, format!("`{name}` is not called so"));
            }
            let public = FUNCTIONS.iter().map(|(known, ..)| *known).filter(|known| !known.starts_with('@'));
            let known: Vec<&str> = public.chain(MACROS).collect();
            return self.fault(node, format!("there is no function `{name}`; there are {}", known.join(", ")));
        };
        let is_called_so = match kind {
            Call::Global => call.target.is_none(),
            Call::Member => call.target.is_some(),
            Call::Either => true,
        };
        if !is_called_so || arguments != *wanted {
            let example = if *kind == Call::Global { format!("{name}(x)") } else { format!("x.{name}(…)") };
            return self.fault(node, format!("`{name}` is not called so; write {example}"));
        }
        if name == "matches" {
            return self.pattern(node, &call.args[0]);
        }
        Ok(())
    }

    /// Patterns are constants, so that they are compiled once and known to be good.
    fn pattern(&self, node: &IdedExpr, argument: &IdedExpr) -> Result<(), Fault> {
        let Expr::Literal(LiteralValue::String(pattern)) = &argument.expr else {
            return self.fault(node, "the pattern of `matches` must be a text in quotes".to_owned());
        };
        match super::pattern(pattern.inner()) {
            Ok(_) => Ok(()),
            Err(regex::Error::Syntax(text)) => {
                let last = text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
                self.fault(node, format!("the pattern of `matches` is wrong: {last}"))
            }
            Err(_) => self.fault(node, "the pattern of `matches` is too large".to_owned()),
        }
    }

    fn comprehension(&mut self, node: &'p IdedExpr, loops: &'p ComprehensionExpr) -> Result<(), Fault> {
        self.node(&loops.iter_range)?;
        self.node(&loops.accu_init)?;
        if self.depth == MAX_DEPTH {
            return self.fault(node, format!("loops stand within loops more than {MAX_DEPTH} deep"));
        }
        self.depth += 1;
        let outside = self.bound.len();
        self.bound.extend([&*loops.iter_var, &*loops.accu_var]);
        self.bound.extend(loops.iter_var2.as_deref());
        let sums = self.cost.sums;
        [&loops.loop_cond, &loops.loop_step, &loops.result].into_iter().try_for_each(|part| self.node(part))?;
        // What `map` and `filter` append is no longer than what they go over.
        let appends = matches!(&loops.accu_init.expr, Expr::List(_));
        if appends {
            self.cost.sums = self.cost.sums.saturating_sub(1).max(sums);
        }
        self.bound.truncate(outside);
        self.depth -= 1;
        Ok(())
    }
}

/// Operators, as the parser names them.
const OPERATORS: [&str; 18] = [
    operators::CONDITIONAL,
    operators::LOGICAL_AND,
    operators::LOGICAL_OR,
    operators::LOGICAL_NOT,
    operators::SUBSTRACT,
    operators::ADD,
    operators::MULTIPLY,
    operators::DIVIDE,
    operators::MODULO,
    operators::EQUALS,
    operators::NOT_EQUALS,
    operators::GREATER_EQUALS,
    operators::LESS_EQUALS,
    operators::GREATER,
    operators::LESS,
    operators::NEGATE,
    operators::INDEX,
    operators::IN,
];
