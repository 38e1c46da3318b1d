//! Random schemas and random messages through Portico and through prost-reflect, both ways, and mutations of both.
//!
//! Every case follows from its seed, and so do the settings of the mapping, which are those of all messages of a seed.
//! `ORACLE_SEEDS=5000` runs more of them, `ORACLE_SEED=17` one alone. Editions are left to `conformance/protojson.rs`:
//! prost-reflect does not know them.

mod known;
mod mutate;
mod options;
mod reflect;
mod schema;
mod text;
mod wire;

use std::sync::Arc;

use bytes::BytesMut;
use fastrand::Rng;
use portico::config::Json;
use portico::transcode::{BodyRule, Input, Plans, ReplyPlan, RequestPlan};
use prost_reflect::{DynamicMessage, MessageDescriptor};

use crate::mutate::mutate;
use crate::schema::{Schema, Syntax};

/// Schemas of an ordinary run: a few seconds without optimization.
const SEEDS: u64 = 150;
/// Messages of each schema, each of them as text and as wire bytes, as they are and mutated.
const MESSAGES: usize = 20;

/// Differences that a failing run shows.
const SHOWN: usize = 8;

/// One message type, both ways.
struct Subject {
    request: RequestPlan,
    reply: ReplyPlan,
    descriptor: MessageDescriptor,
    json: Json,
}

#[derive(Debug, Default)]
struct Tally {
    /// Both took it.
    taken: usize,
    /// Both refused it.
    refused: usize,
    /// They disagree, and the table knows why.
    known: usize,
}

#[test]
fn random_texts_mean_the_same() {
    let tally = each_subject(|subject, schema, message, rng| {
        subject.check_text(text::random(rng, schema, message, subject.json).as_bytes())
    });
    assert!(tally.taken > tally.refused, "{tally:?}");
}

#[test]
fn mutated_texts_mean_the_same() {
    let tally = each_subject(|subject, schema, message, rng| {
        let mut text = text::random(rng, schema, message, subject.json).into_bytes();
        mutate(rng, &mut text, mutate::TEXT);
        subject.check_text(&text)
    });
    assert!(tally.refused > tally.taken, "{tally:?}");
}

#[test]
fn random_wire_bytes_mean_the_same() {
    let tally = each_subject(|subject, schema, message, rng| subject.check_wire(&wire::random(rng, schema, message)));
    assert!(tally.taken > tally.refused, "{tally:?}");
}

#[test]
fn mutated_wire_bytes_mean_the_same() {
    let tally = each_subject(|subject, schema, message, rng| {
        let mut wire = wire::random(rng, schema, message);
        mutate(rng, &mut wire, mutate::WIRE);
        subject.check_wire(&wire)
    });
    assert!(tally.taken > 0 && tally.refused > 0, "{tally:?}");
}

fn each_subject(mut check: impl FnMut(&Subject, &Schema, usize, &mut Rng) -> Result<Verdict, String>) -> Tally {
    let number = |name| std::env::var(name).ok().map(|seeds| seeds.parse::<u64>().expect("a number of seeds"));
    let seeds = match number("ORACLE_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("ORACLE_SEEDS").unwrap_or(SEEDS),
    };
    let (mut tally, mut differences) = (Tally::default(), Vec::new());
    for seed in seeds {
        let mut rng = Rng::with_seed(seed);
        let syntax = if rng.bool() { Syntax::Proto3 } else { Syntax::Proto2 };
        let schema = Schema::random(&mut rng, syntax);
        let json = options::random(&mut rng);
        let (set, pool) = (schema.set(), reflect::pool(&schema.set()));
        let plans = Plans::new(Arc::new(portico::schema::Schema::from_set(&set).expect("it is a set")));
        assert_eq!(plans.schema().problems(), [], "seed {seed}");
        for _ in 0..MESSAGES {
            let message = rng.usize(..schema.own);
            let name = &schema.messages[message].full_name;
            let subject = Subject::new(&plans, name, pool.get_message_by_name(name).expect("it is declared"), json);
            match check(&subject, &schema, message, &mut rng) {
                Ok(Verdict::Taken) => tally.taken += 1,
                Ok(Verdict::Refused) => tally.refused += 1,
                Ok(Verdict::Known) => tally.known += 1,
                Err(said) => differences.push(format!("ORACLE_SEED={seed}, {syntax:?}, {json:?}, {name}: {said}")),
            }
        }
    }
    let shown = &differences[..differences.len().min(SHOWN)];
    assert!(differences.is_empty(), "{} differences:\n{}", differences.len(), shown.join("\n\n"));
    tally
}

enum Verdict {
    Taken,
    Refused,
    Known,
}

impl Subject {
    fn new(plans: &Arc<Plans>, name: &str, descriptor: MessageDescriptor, json: Json) -> Self {
        let id = plans.schema().message_named(name).expect("it is declared");
        Self {
            request: RequestPlan::compile(plans, id, &[], &BodyRule::Whole).expect("a body may be any message"),
            reply: ReplyPlan::compile(plans, id, None).expect("a reply may be any message"),
            descriptor,
            json,
        }
    }

    /// What goes out for a text is what the oracle reads from it.
    fn check_text(&self, text: &[u8]) -> Result<Verdict, String> {
        let mut wire = BytesMut::new();
        let ours = self.request.encode(&Input { body: text, ..Input::default() }, self.json, &mut wire);
        let shown = String::from_utf8_lossy(text);
        if text.is_empty() {
            return Ok(Verdict::Known);
        }
        match (ours, reflect::read(&self.descriptor, text, self.json)) {
            // An unknown number of a closed enum is ignored here and kept there.
            (Ok(()), Ok(expected)) if self.json.ignore_unknown_fields && reflect::has_unknown_enum(&expected) => {
                Ok(Verdict::Known)
            }
            (Ok(()), Ok(expected)) => {
                let ours = DynamicMessage::decode(self.descriptor.clone(), &*wire)
                    .map_err(|error| format!("{error}: {shown}"))?;
                match reflect::difference(&ours, &expected) {
                    None => Ok(Verdict::Taken),
                    // Integers with a fraction or an exponent are read as doubles there.
                    Some(difference)
                        if difference.ends_with(reflect::EQUAL_AS_DOUBLES) && shown.contains(['.', 'e', 'E']) =>
                    {
                        Ok(Verdict::Known)
                    }
                    Some(difference) => Err(format!("{difference}: {shown}")),
                }
            }
            (Err(_), Err(_)) => Ok(Verdict::Refused),
            // Of what is ignored, nobody looks at the encoding there.
            (Err(_), Ok(_)) if std::str::from_utf8(text).is_err() => Ok(Verdict::Known),
            (Err(error), Ok(_)) => known_or(known::WE_REFUSE, &error.message, &shown),
            (Ok(()), Err(error)) => known_or(known::WE_TAKE, &error, &shown),
        }
    }

    /// What comes out for wire bytes says what the oracle decodes from them.
    fn check_wire(&self, wire: &[u8]) -> Result<Verdict, String> {
        let mut text = BytesMut::new();
        let ours = self.reply.decode(wire, self.json, usize::MAX, &mut text);
        let decoded = DynamicMessage::decode(self.descriptor.clone(), wire).map_err(|error| error.to_string());
        if decoded.as_ref().is_ok_and(reflect::has_unknown_enum) {
            return Ok(Verdict::Known);
        }
        let shown = format!("{wire:?}: {}", String::from_utf8_lossy(&text));
        let expected = decoded.and_then(|message| Ok((reflect::write(&message, self.json)?, message)));
        match (ours, expected) {
            (Ok(()), Ok((written, expected))) => {
                let again = match reflect::read(&self.descriptor, &text, self.json) {
                    Ok(again) => again,
                    Err(error) => return known_or(known::WE_TAKE, &error, &shown),
                };
                let tree = serde_json::from_slice(&text).map_err(|error| format!("{error}: {shown}"))?;
                let difference = reflect::difference(&again, &expected);
                match difference.or_else(|| reflect::text_difference(&tree, &written)) {
                    None => Ok(Verdict::Taken),
                    Some(difference) => Err(format!("{difference}: {shown}")),
                }
            }
            (Err(_), Err(_)) => Ok(Verdict::Refused),
            (Err(error), Ok((written, _))) => known_or(known::WE_REFUSE, &error.message, &format!("{shown}{written}")),
            (Ok(()), Err(error)) => known_or(known::WE_TAKE, &error, &shown),
        }
    }
}

fn known_or(table: &[(&str, &str)], said: &str, shown: &str) -> Result<Verdict, String> {
    if known::is_listed(table, said) { Ok(Verdict::Known) } else { Err(format!("one says \"{said}\": {shown}")) }
}
