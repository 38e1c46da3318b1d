//! The rejected calls of `docs/errors.md` are rejected as it says, by the gateway and by `portico explain`.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use portico::config::flags::Overrides;
use portico::config::{Config, SchemaSource};
use portico::gateway::Gateway;
use serde_json::Value;
use tokio::runtime::Runtime;

use super::{portico, repository};

#[test]
fn rejected_calls_are_shown_as_they_are_rejected() {
    let document = std::fs::read_to_string(repository().join("docs/errors.md")).expect("a document");
    let (_, section) = document.split_once("\n## A rejected call\n").expect("a section");
    let blocks: Vec<(&str, &str)> =
        section.split("```").skip(1).step_by(2).filter_map(|block| block.split_once('\n')).collect();
    let demo = Demo::start();

    let mut shown = 0;
    for example in blocks.chunks_exact(3) {
        let [("sh", call), ("json", answer), ("console", session)] = example else { panic!("not a call: {example:?}") };
        let (command, explanation) = session.split_once('\n').expect("a command");

        let answered = demo.curl(&words(call.trim_end()));
        let explained = demo.explain(&words(command.strip_prefix("$ ").expect("a prompt")));

        assert_eq!(serde_json::from_str::<Value>(answer).unwrap_or_default(), answered, "{call}{answered:#}");
        assert_eq!(explanation, explained, "{command}");
        shown += 1;
    }
    assert!(shown >= 5, "{shown} calls");
    demo.gateway.stop();
}

/// The demo on other ports.
struct Demo {
    /// Ends the service when it is dropped.
    _runtime: Runtime,
    service: SocketAddr,
    gateway: Gateway,
}

impl Demo {
    fn start() -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let service = listener.local_addr().expect("a bound listener");
        runtime.spawn(portico::demo::start(listener, std::future::pending()));
        let mut config =
            Config::from_flags(&[service.to_string()], &SchemaSource::Reflection, None).expect("good flags");
        let any = "127.0.0.1:0".parse().expect("an address");
        config
            .apply(&Overrides { listen: Some(any), admin: Some(None), workers: Some(1), log_format: None })
            .expect("good flags");
        config.telemetry.access_log = portico::config::AccessLog::Off;
        let gateway = Gateway::start(config, runtime.handle()).expect("the gateway starts");
        let mut looks = 0;
        while !gateway.is_ready() {
            looks += 1;
            assert!(looks < 2000, "the schema does not come");
            std::thread::sleep(Duration::from_millis(10));
        }
        Self { _runtime: runtime, service, gateway }
    }

    /// Does what curl does with these arguments, and returns the JSON that is answered.
    fn curl(&self, words: &[String]) -> Value {
        let (mut method, mut headers, mut data, mut url) = (None, Vec::new(), None, "");
        let mut words = words.iter().map(String::as_str).skip(1);
        while let Some(word) = words.next() {
            match word {
                "-X" => method = words.next(),
                "-H" => headers.extend(words.next()),
                "-d" => data = words.next(),
                _ => url = word,
            }
        }
        if data.is_some() && !headers.iter().any(|header| header.starts_with("content-type:")) {
            headers.push("content-type: application/x-www-form-urlencoded");
        }
        let method = method.unwrap_or_else(|| if data.is_some() { "POST" } else { "GET" });
        let target = url.strip_prefix("http://localhost:8080").expect("a URL of the demo");
        let body = data.unwrap_or_default();
        let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
        let request = format!(
            "{method} {target} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{headers}content-length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut stream = TcpStream::connect(self.gateway.addresses()[0]).expect("the gateway listens");
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
        stream.write_all(request.as_bytes()).expect("the gateway reads");
        let mut reply = String::new();
        stream.read_to_string(&mut reply).expect("the gateway answers");
        let (head, content) = reply.split_once("\r\n\r\n").expect("a head");
        assert!(!head.starts_with("HTTP/1.1 2"), "not rejected: {reply}");
        serde_json::from_str(content).expect("JSON")
    }

    /// Runs the program on the service's real port, and returns what it prints.
    fn explain(&self, words: &[String]) -> String {
        let service = self.service.to_string();
        let words: Vec<&str> =
            words.iter().skip(1).map(|word| if word == SERVICE { &*service } else { &**word }).collect();
        let ended = portico(&repository(), &words);
        assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""), "{words:?}");
        ended.out.replace(&service, SERVICE)
    }
}

/// Where the document has the demo's service.
const SERVICE: &str = "localhost:50051";

/// Splits a command as a shell does that knows single quotes only.
fn words(command: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    for (index, part) in command.split('\'').enumerate() {
        if index % 2 == 1 {
            words.last_mut().expect("a word").push_str(part);
            continue;
        }
        for (gap, text) in part.split(' ').enumerate() {
            if gap > 0 {
                words.push(String::new());
            }
            words.last_mut().expect("a word").push_str(text);
        }
    }
    words.retain(|word| !word.is_empty());
    words
}
