//! Speed of both directions, in MB of JSON per second, beside prost-reflect: `cargo bench --bench transcode [-- NAME]`.
//!
//! One book, a page of 100 books, and shapes that hurt. Both sides get the same bytes in the same run and write to buffers
//! that are used again, as the gateway does; neither is told that the text is UTF-8. Rounds of the two take turns, and only
//! time on the CPU counts, so that
//! what disturbs the machine disturbs both; the best one of each counts.
//!
//! `-- --once` does everything once instead, for a tool that counts instructions: see `bench/instructions.sh`.

#![allow(clippy::print_stdout, reason = "a benchmark prints its figures")]

mod shapes;

use std::error::Error;
use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use portico::config::Json;
use portico::schema::Schema;
use portico::transcode::{BodyRule, Input, Plans, ReplyPlan, RequestPlan};
use prost_reflect::prost::Message as _;
use prost_reflect::{DescriptorPool, DeserializeOptions, DynamicMessage, MessageDescriptor};
use rustix::time::{ClockId, clock_gettime};

const ROUNDS: usize = 31;
/// Bytes of JSON per round.
const WORK: usize = 1 << 20;

fn main() -> Result<(), Box<dyn Error>> {
    let once = std::env::args().any(|argument| argument == "--once");
    let wanted = std::env::args().skip(1).find(|argument| !argument.starts_with('-')).unwrap_or_default();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/transcode");
    let mut compiler = protox::Compiler::new([&folder])?;
    compiler.include_imports(true).open_file(folder.join("shapes.proto"))?;
    let set = compiler.encode_file_descriptor_set();
    let plans = Plans::new(Arc::new(Schema::from_set(&set)?));
    let pool = DescriptorPool::decode(set.as_slice())?;

    if !once {
        let [r, x] = ["reflect", "ratio"];
        println!("{:<20}{:>7}{:>7}{:>8}{r:>9}{x:>8}{:>8}{r:>9}{x:>8}", "", "JSON", "wire", "in", "out");
    }
    for (name, message, text) in shapes::shapes() {
        if !name.contains(&wanted) {
            continue;
        }
        let full_name = format!("bench.v1.{message}");
        let descriptor = pool.get_message_by_name(&full_name).ok_or("no such message")?;
        let subject = Subject::new(&plans, &full_name, &text)?;
        if once {
            subject.once(name);
        } else {
            subject.race(name, &descriptor);
        }
    }
    Ok(())
}

/// One message in both forms, and what turns one into the other.
struct Subject<'t> {
    request: RequestPlan,
    reply: ReplyPlan,
    text: &'t str,
    wire: BytesMut,
}

impl<'t> Subject<'t> {
    fn new(plans: &Arc<Plans>, full_name: &str, text: &'t str) -> Result<Self, Box<dyn Error>> {
        let id = plans.schema().message_named(full_name).ok_or("no such message")?;
        let request = RequestPlan::compile(plans, id, &[], &BodyRule::Whole)?;
        let reply = ReplyPlan::compile(plans, id, None)?;
        let mut wire = BytesMut::new();
        request.encode(&body(text), Json::default(), &mut wire)?;
        Ok(Self { request, reply, text, wire })
    }

    /// JSON in. Never inlined: its instructions are counted by its name.
    #[inline(never)]
    fn read(&self, out: &mut BytesMut) -> bool {
        out.clear();
        self.request.encode(&body(black_box(self.text)), Json::default(), out).is_ok()
    }

    /// JSON out. Never inlined either.
    #[inline(never)]
    fn write(&self, out: &mut BytesMut) -> bool {
        out.clear();
        self.reply.decode(black_box(&self.wire), Json::default(), usize::MAX, out).is_ok()
    }

    /// Calls each direction, after an empty line for every call whose cost is not to be looked at: it still compiles plans
    /// and grows the buffer.
    fn once(&self, name: &str) {
        let mut out = BytesMut::new();
        for _ in 0..2 {
            println!();
            black_box(self.read(&mut out));
            println!();
            black_box(self.write(&mut out));
        }
        println!("in {name}");
        black_box(self.read(&mut out));
        println!("out {name}");
        black_box(self.write(&mut out));
    }

    fn race(&self, name: &str, descriptor: &MessageDescriptor) {
        let (mut ours, mut theirs) = (BytesMut::new(), Vec::new());
        let bytes = self.text.len();
        let [read, reflect_read] = speeds(
            bytes,
            || self.read(&mut ours),
            || {
                theirs.clear();
                read(descriptor, black_box(self.text)).is_some_and(|message| message.encode(&mut theirs).is_ok())
            },
        );
        let [write, reflect_write] = speeds(
            bytes,
            || self.write(&mut ours),
            || {
                theirs.clear();
                DynamicMessage::decode(descriptor.clone(), black_box(&*self.wire))
                    .is_ok_and(|message| serde_json::to_writer(&mut theirs, &message).is_ok())
            },
        );
        println!(
            "{name:<20}{bytes:>7}{:>7}{read:>8.0}{reflect_read:>9.0}{:>8.1}{write:>8.0}{reflect_write:>9.0}{:>8.1}",
            self.wire.len(),
            read / reflect_read,
            write / reflect_write,
        );
    }
}

fn body(text: &str) -> Input<'_> {
    Input { body: text.as_bytes(), ..Input::default() }
}

fn read(descriptor: &MessageDescriptor, text: &str) -> Option<DynamicMessage> {
    let options = DeserializeOptions::new().deny_unknown_fields(true);
    let mut deserializer = serde_json::Deserializer::from_slice(text.as_bytes());
    let message = DynamicMessage::deserialize_with_options(descriptor.clone(), &mut deserializer, &options).ok()?;
    deserializer.end().ok()?;
    Some(message)
}

/// MB per second of two that handle so many bytes.
#[allow(clippy::cast_precision_loss, reason = "a figure for people")]
fn speeds(bytes: usize, mut one: impl FnMut() -> bool, mut other: impl FnMut() -> bool) -> [f64; 2] {
    let times = (WORK / bytes).max(1);
    let mut best = [f64::INFINITY; 2];
    for _ in 0..ROUNDS {
        for (best, work) in best.iter_mut().zip([&mut one as &mut dyn FnMut() -> bool, &mut other]) {
            let start = on_cpu();
            for _ in 0..times {
                assert!(black_box(work()), "the message is sound");
            }
            *best = best.min((on_cpu() - start).as_secs_f64());
        }
    }
    best.map(|seconds| (times * bytes) as f64 / seconds / 1e6)
}

/// How long this thread has run: what others do meanwhile on the same CPU does not count.
fn on_cpu() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or(0))
}
