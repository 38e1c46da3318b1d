// What a page of another origin does with the library service behind the gateway. Each check throws when it fails.

import { create, createFileRegistry, fromBinary, toBinary } from "@bufbuild/protobuf";
import { FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import * as grpcWeb from "grpc-web";

const parameters = new URLSearchParams(location.search);
const gateway = parameters.get("gateway");

function equal(found, expected, what) {
  const [left, right] = [JSON.stringify(found), JSON.stringify(expected)];
  if (left !== right) throw new Error(`${what}: found ${left}, expected ${right}`);
}

function within(promise, what) {
  const late = new Promise((_, fail) => setTimeout(() => fail(new Error(`${what} took too long`)), 10_000));
  return Promise.race([promise, late]);
}

const watch = `${gateway}/v1/shelves/adventure/books:watch?max_events=2`;

async function fetchAsLines() {
  const reply = await fetch(watch, { headers: { accept: "application/x-ndjson" } });
  equal(reply.status, 200, "status");
  // Only what the gateway exposes can be read here.
  equal(/^[0-9a-f]{32}$/.test(reply.headers.get("x-request-id")), true, "the request's identifier");
  const lines = (await reply.text()).trim().split("\n").map(JSON.parse);
  equal(lines.map((line) => line.kind), ["EXISTING", "EXISTING"], "kinds");
}

async function postWithPreflight() {
  const reply = await fetch(`${gateway}/v1/shelves/adventure/books?book_id=emma`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ title: "Emma", authors: ["Jane Austen"] }),
  });
  equal([reply.status, (await reply.json()).title], [200, "Emma"], "the new book");
  const refused = await fetch(`${gateway}/v1/shelves/none/books/none`);
  equal([refused.status, (await refused.json()).code], [404, 5], "an error that the page can read");
}

async function formWithFile() {
  const form = new FormData();
  form.append("title", new File(["Persuasion"], "title.txt", { type: "text/plain" }));
  form.append("authors", "Jane Austen");
  form.append("labels[language]", "en");
  const reply = await fetch(`${gateway}/v1/shelves/adventure/books?book_id=persuasion`, { method: "POST", body: form });
  const book = await reply.json();
  equal([reply.status, book.title, book.authors, book.labels], [200, "Persuasion", ["Jane Austen"], { language: "en" }], "book");
}

function eventSource() {
  return new Promise((done, fail) => {
    const events = new EventSource(watch);
    const seen = [];
    events.onmessage = (event) => seen.push(`${event.lastEventId} ${JSON.parse(event.data).kind}`);
    events.addEventListener("end", () => {
      events.close();
      done();
    });
    events.onerror = () => fail(new Error(`the event source failed behind ${seen}`));
  });
}

function webSocket() {
  return new Promise((done, fail) => {
    const socket = new WebSocket(`${gateway.replace("http", "ws")}/v1/librarian:chat`);
    const replies = [];
    socket.onopen = () => {
      socket.send(JSON.stringify({ text: "Emma" }));
      socket.send("");
    };
    socket.onmessage = (event) => replies.push(JSON.parse(event.data));
    socket.onclose = (event) => {
      if (event.code !== 1000 || replies.length === 0) fail(new Error(`closed with ${event.code} ${event.reason}`));
      done();
    };
  });
}

async function grpcWebClient() {
  const set = new Uint8Array(await (await fetch("library.binpb")).arrayBuffer());
  const registry = createFileRegistry(fromBinary(FileDescriptorSetSchema, set));
  const message = (name) => registry.getMessage(`portico.library.v1.${name}`);
  const method = (name, kind, request, reply) =>
    new grpcWeb.MethodDescriptor(
      `/portico.library.v1.Library/${name}`, kind, Object, Object,
      (value) => toBinary(message(request), value), (bytes) => fromBinary(message(reply), bytes),
    );
  for (const format of ["text", "binary"]) {
    const client = new grpcWeb.GrpcWebClientBase({ format });
    const getShelf = method("GetShelf", "unary", "GetShelfRequest", "Shelf");
    const call = (name) =>
      client.unaryCall(
        `${gateway}/portico.library.v1.Library/GetShelf`,
        create(message("GetShelfRequest"), { name }), {}, getShelf,
      );
    equal((await call("shelves/adventure")).name, "shelves/adventure", format);
    const error = await call("shelves/none").catch((error) => error);
    equal(error.code, 5, `the code of a failed call, ${format}`);
  }
  const client = new grpcWeb.GrpcWebClientBase({ format: "text" });
  const events = client.serverStreaming(
    `${gateway}/portico.library.v1.Library/WatchBooks`,
    create(message("WatchBooksRequest"), { parent: "shelves/adventure", maxEvents: 2 }), {},
    method("WatchBooks", "server_streaming", "WatchBooksRequest", "BookEvent"),
  );
  await new Promise((done, fail) => {
    let seen = 0;
    events.on("data", () => (seen += 1));
    events.on("error", fail);
    events.on("end", () => (seen === 2 ? done() : fail(new Error(`${seen} events`))));
  });
}

async function strangersAreKeptOut() {
  const denied = await fetch(`${gateway}/v1/shelves`).then(() => "read", () => "denied");
  equal(denied, "denied", "a page of an origin that is not allowed");
  const socket = new WebSocket(`${gateway.replace("http", "ws")}/v1/librarian:chat`);
  const opened = await new Promise((done) => {
    socket.onopen = () => done(true);
    socket.onerror = () => done(false);
  });
  equal(opened, false, "a WebSocket of such a page");
}

const friendly = { fetchAsLines, postWithPreflight, formWithFile, eventSource, webSocket, grpcWebClient };
const results = {};
for (const [name, check] of Object.entries(parameters.has("stranger") ? { strangersAreKeptOut } : friendly)) {
  results[name] = await within(check(), name).then(() => "ok", (error) => String(error.message ?? error));
}
await fetch("result", { method: "POST", body: JSON.stringify(results) });
