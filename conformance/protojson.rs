//! Random schemas and messages through Portico and through Go's protojson: `protojson JUDGE [SEEDS]`, see `protojson.sh`.
//!
//! The cases are those of `tests/oracle`, and editions besides. What they judge differently must be listed in [`KNOWN`],
//! as docs/transcoding.md has it; what is listed and never met is an error too.

#![allow(clippy::print_stdout, reason = "a suite prints its figures")]

#[path = "../tests/oracle/mutate.rs"]
mod mutate;
#[path = "../tests/oracle/options.rs"]
mod options;
#[path = "../tests/oracle/schema.rs"]
mod schema;
#[path = "../tests/oracle/text.rs"]
mod text;
#[path = "../tests/oracle/wire.rs"]
mod wire;

use std::collections::BTreeMap;
use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::BytesMut;
use fastrand::Rng;
use portico::config::Json;
use portico::transcode::{BodyRule, Input, Plans, ReplyPlan, RequestPlan};
use serde_json::{Value, json};

use crate::schema::{Schema, Syntax};

const SEEDS: u64 = 1500;
/// Messages of each schema, in each of the four forms.
const MESSAGES: usize = 20;
/// Differences that a failing run shows of each kind.
const SHOWN: usize = 20;

/// How they judge otherwise: who refuses what, by a part of what is said.
const KNOWN: &[Known] = &[
    // Of the language, not of JSON: Go has no closed enums.
    Known { we_refuse: true, said: "the name or number of a declared enum value" },
    Known { we_refuse: false, said: "a closed enum has an unknown number" },
    // A part of a path that starts with a digit, which is no field but may be the key of a map.
    Known { we_refuse: false, said: "FieldMask.paths contains invalid path" },
    Known { we_refuse: false, said: "none of the oneof fields is set" },
    Known { we_refuse: false, said: "invalid UTF-8" },
    // Varints with more than 64 bits.
    Known { we_refuse: false, said: "cannot parse invalid wire-format data" },
    Known { we_refuse: false, said: "unexpected token null" },
    // An exponent, a fraction of zero, and minus zero where there is no sign.
    Known { we_refuse: false, said: " key: " },
    // A plus, and zeros in front.
    Known { we_refuse: true, said: "as the key, found" },
    // An `Any` without its type, where unknown names are ignored.
    Known { we_refuse: true, said: "expected an object with \"@type\"" },
    // A number in quotes.
    Known { we_refuse: false, said: "invalid value for enum field" },
    // Of `NullValue`.
    Known { we_refuse: false, said: "the messages are not equal, though they have one text" },
];

/// The same where it takes thousands of seeds to meet it.
const RARE: &[Known] = &[
    // Of an integer, an exponent without digits.
    Known { we_refuse: true, said: "expected a number, found `" },
    // An hour of one digit.
    Known { we_refuse: true, said: "expected an RFC 3339 timestamp" },
    // Control characters in a path.
    Known { we_refuse: true, said: "expected field paths" },
    // A defect of dynamicpb; generated code does not have it.
    Known { we_refuse: false, said: "panic: type mismatch: cannot convert nil to map key" },
];

struct Known {
    /// Whether Portico refuses and protojson takes it; else the other way round.
    we_refuse: bool,
    /// A part of what is said by the one that refuses.
    said: &'static str,
}

/// The program of `protojson/main.go`.
struct Judge {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

/// One message type, and the settings of its seed.
struct Subject<'a> {
    plans: &'a Arc<Plans>,
    name: &'a str,
    json: Json,
    seed: u64,
}

#[derive(Default)]
struct Tally {
    taken: usize,
    refused: usize,
    known: Vec<usize>,
    rare: usize,
    differences: BTreeMap<String, Vec<String>>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut judge = Judge::start(&arguments.next().ok_or("usage: protojson JUDGE [SEEDS]")?)?;
    let seeds = arguments.next().map_or(Ok(SEEDS), |seeds| seeds.parse())?;
    let mut tally = Tally { known: vec![0; KNOWN.len()], ..Tally::default() };
    for seed in 0..seeds {
        let mut rng = Rng::with_seed(seed);
        let syntax = [Syntax::Proto2, Syntax::Proto3, Syntax::Edition2023][rng.usize(..3)];
        let schema = Schema::random(&mut rng, syntax);
        judge.load(&schema.set()).map_err(|error| format!("seed {seed}: {error}"))?;
        // protojson always writes 64-bit integers as strings.
        let json = Json { int64_as_number: false, ..options::random(&mut rng) };
        let plans = Plans::new(Arc::new(portico::schema::Schema::from_set(&schema.set())?));
        for _ in 0..MESSAGES {
            let message = rng.usize(..schema.own);
            let name = &*schema.messages[message].full_name;
            let subject = Subject { plans: &plans, name, json, seed };
            let mut text = text::random(&mut rng, &schema, message, json).into_bytes();
            let mut wire = wire::random(&mut rng, &schema, message);
            for _ in 0..2 {
                check_text(&subject, &mut judge, &text, &mut tally)?;
                check_wire(&subject, &mut judge, &wire, &mut tally)?;
                mutate::mutate(&mut rng, &mut text, mutate::TEXT);
                mutate::mutate(&mut rng, &mut wire, mutate::WIRE);
            }
        }
    }
    judge.child.kill()?;
    judge.child.wait()?;
    tally.report(seeds)
}

fn check_text(subject: &Subject<'_>, judge: &mut Judge, text: &[u8], tally: &mut Tally) -> Result<(), Box<dyn Error>> {
    let Subject { plans, name, json, seed } = *subject;
    let id = plans.schema().message_named(name).ok_or("no such message")?;
    let plan = RequestPlan::compile(plans, id, &[], &BodyRule::Whole)?;
    let mut wire = BytesMut::new();
    let ours = plan.encode(&Input { body: text, ..Input::default() }, json, &mut wire);
    // An empty body is no body.
    if !text.is_empty() {
        let wire = ours.is_ok().then(|| STANDARD.encode(&wire));
        let answer = judge.ask(&subject.question(json!({"json": STANDARD.encode(text), "wire": wire})))?;
        let ours = ours.map_err(|error| error.message);
        tally.add(ours, &answer, || format!("seed {seed}, {json:?}, {name}: {}", String::from_utf8_lossy(text)));
    }
    Ok(())
}

fn check_wire(subject: &Subject<'_>, judge: &mut Judge, wire: &[u8], tally: &mut Tally) -> Result<(), Box<dyn Error>> {
    let Subject { plans, name, json, seed } = *subject;
    let id = plans.schema().message_named(name).ok_or("no such message")?;
    let plan = ReplyPlan::compile(plans, id, None)?;
    let mut text = BytesMut::new();
    let ours = plan.decode(wire, json, usize::MAX, &mut text);
    let written = ours.is_ok().then(|| STANDARD.encode(&text));
    let answer = judge.ask(&subject.question(json!({"message": STANDARD.encode(wire), "text": written})))?;
    let ours = ours.map_err(|error| error.message);
    tally.add(ours, &answer, || format!("seed {seed}, {json:?}, {name}: {wire:?}: {}", String::from_utf8_lossy(&text)));
    Ok(())
}

impl Subject<'_> {
    fn question(&self, mut case: Value) -> Value {
        case["type"] = self.name.into();
        case["discardUnknown"] = self.json.ignore_unknown_fields.into();
        case["emitDefaultValues"] = self.json.emit_defaults.into();
        case["useProtoNames"] = self.json.preserve_proto_names.into();
        case["useEnumNumbers"] = self.json.enums_as_numbers.into();
        case
    }
}

impl Judge {
    fn start(program: &str) -> Result<Self, Box<dyn Error>> {
        let mut child = Command::new(program).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let input = child.stdin.take().ok_or("no standard input")?;
        let output = BufReader::new(child.stdout.take().ok_or("no standard output")?);
        Ok(Self { child, input, output })
    }

    fn ask(&mut self, question: &Value) -> Result<Value, Box<dyn Error>> {
        writeln!(self.input, "{question}")?;
        let mut answer = String::new();
        self.output.read_line(&mut answer)?;
        Ok(serde_json::from_str(&answer)?)
    }

    fn load(&mut self, set: &[u8]) -> Result<(), Box<dyn Error>> {
        match &self.ask(&json!({"set": STANDARD.encode(set)}))?["error"] {
            Value::String(error) => Err(error.clone().into()),
            _ => Ok(()),
        }
    }
}

impl Tally {
    fn add(&mut self, ours: Result<(), String>, answer: &Value, case: impl Fn() -> String) {
        let difference = match (ours, answer["error"].as_str(), answer["difference"].as_str()) {
            (Ok(()), None, None) => return self.taken += 1,
            (Err(_), Some(_), _) => return self.refused += 1,
            (Ok(()), None, Some(difference)) => ("both take it".to_owned(), difference.to_owned()),
            (Ok(()), Some(error), _) => ("protojson refuses".to_owned(), error.to_owned()),
            (Err(error), None, _) => ("Portico refuses".to_owned(), error),
        };
        let (who, said) = difference;
        let listed = |known: &Known| (who == "Portico refuses") == known.we_refuse && said.contains(known.said);
        match KNOWN.iter().position(listed) {
            Some(index) => self.known[index] += 1,
            None if RARE.iter().any(listed) => self.rare += 1,
            None => self.differences.entry(who).or_default().push(format!("{said}\n      {}", case())),
        }
    }

    fn report(&self, seeds: u64) -> Result<(), Box<dyn Error>> {
        println!("protojson: {} taken and {} refused by both", self.taken, self.refused);
        for (known, count) in KNOWN.iter().zip(&self.known) {
            let who = if known.we_refuse { "Portico" } else { "protojson" };
            println!("protojson: {count} refused by {who} alone: {}", known.said);
        }
        println!("protojson: {} refused by one alone, rarely", self.rare);
        for (who, cases) in &self.differences {
            println!("protojson: {} DIFFERENCES, {who}:", cases.len());
            for case in cases.iter().take(SHOWN) {
                println!("    {case}");
            }
        }
        let missing = KNOWN.iter().zip(&self.known).find(|(_, count)| **count == 0 && seeds >= SEEDS);
        match missing {
            _ if !self.differences.is_empty() => Err("Portico and protojson differ".into()),
            Some((known, _)) => Err(format!("listed and never met: {}", known.said).into()),
            None => Ok(()),
        }
    }
}
