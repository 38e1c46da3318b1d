"""What the gateways are asked to do."""
import pathlib
import struct
from dataclasses import dataclass, field

import wire

HERE = pathlib.Path(__file__).parent


@dataclass(frozen=True)
class Setting:
    """What a gateway is set up for, beside forwarding and transcoding."""

    name: str = "plain"
    tls: bool = False  # on both sides
    guarded: bool = False  # by JWT and a rate limit
    web: bool = False  # gRPC-Web and Connect
    googleapis: bool = False
    many_streams: bool = False
    routes: int = 0  # bindings of GetBook
    upstreams: int = 1
    keys: int = 0  # of a rate limit for each book
    workers: int = 1
    share: float = 0  # of a core that each worker may use; 0 for all of it


PLAIN = Setting()


@dataclass
class Load:
    """A request, how many of it at once, and what a right reply has.

    `kind` is `rest`, `rest-stream`, `grpc`, `grpc-web`, `connect` or `start`, which asks for nothing.
    """

    kind: str
    paths: list
    expect: tuple = (b"", 0)  # what a right reply contains, and how often
    connections: int = 8
    streams: int = 16
    h1: bool = False
    headers: list = field(default_factory=list)
    body: bytes | None = None
    setting: Setting = PLAIN
    idle: int = 0  # further connections, on which nothing happens
    least: int = 400  # requests in a run
    direct: str | None = None  # the same call, as the backend takes it; measured at fixed rates too
    series: tuple | None = None  # what grows, and how much of it there is
    memory: bool = False  # whether the most that the gateway had is of interest


JSON = ["content-type: application/json"]
GRPC = ["content-type: application/grpc", "te: trailers"]
CONNECT = ["content-type: application/proto", "connect-protocol-version: 1"]
SMALL = (b"Small", 1)
HUNDRED = (b"Fundamental", 100)
BOOK = (HERE / "book.json").read_bytes()
GET, LIST, WATCH, CREATE = (f"/bench.v1.Library/{method}" for method in ("GetBook", "ListBooks", "WatchBooks", "CreateBook"))

H1 = {"connections": 64, "streams": 1, "h1": True}
LARGE = {"connections": 8, "streams": 4}
# Each connection goes through all paths in their order: several would be at the same ones.
ONE_AFTER_ANOTHER = {"connections": 1, "streams": 64}


def framed(message):
    return b"\0" + struct.pack(">I", len(message)) + message


def rest_get(path="/v1/shelves/1/books/7", **more):
    return Load("rest", [path], SMALL, **more)


def grpc_get(kind="grpc", path=GET, headers=GRPC, **more):
    return Load(kind, [path], SMALL, headers=headers, body=GET_BOOK, **more)


GET_BOOK = framed(wire.field(1, "shelves/1/books/7"))
LIST_100 = framed(wire.field(1, "shelves/1") + wire.field(2, 100))
# 1 MiB of both JSON and protobuf: 64 bytes of JSON for each tag, 63 of protobuf.
TAGS = [f"{number:05} " + "all the words of a long description that nobody reads " [:54] + "." for number in range(16_384)]
LARGE_JSON = b'{"title":"Large","tags":["' + '","'.join(TAGS).encode() + b'"]}'
LARGE_BOOK = wire.field(2, "Large") + b"".join(wire.field(8, tag) for tag in TAGS)
LARGE_CREATE = framed(wire.field(1, "shelves/1") + wire.field(2, LARGE_BOOK))
LAST = (TAGS[-1].encode(), 1)

CORE = {
    "rest-get-h1": rest_get(**H1, direct="grpc-get"),
    "rest-get-h2": rest_get(),
    "rest-post-h1": Load("rest", ["/v1/shelves/1/books"], (b"Fundamental", 1), headers=JSON, body=BOOK, **H1),
    "rest-post-h2": Load("rest", ["/v1/shelves/1/books"], (b"Fundamental", 1), headers=JSON, body=BOOK),
    "rest-list100-h2": Load("rest", ["/v1/shelves/1/books?page_size=100"], HUNDRED, **LARGE, direct="grpc-list100"),
    "rest-stream100-h2": Load("rest-stream", ["/v1/shelves/1/books:watch?page_size=100"], HUNDRED, **LARGE),
    "grpc-get": grpc_get(direct="grpc-get"),
    "grpc-list100": Load("grpc", [LIST], HUNDRED, headers=GRPC, body=LIST_100, **LARGE),
    "grpc-stream100": Load("grpc", [WATCH], HUNDRED, headers=GRPC, body=LIST_100, **LARGE),
}
WEB = {
    "grpc-web-get": grpc_get("grpc-web", headers=["content-type: application/grpc-web+proto"], setting=Setting("web", web=True), **H1),
    "connect-get": Load("connect", [GET], SMALL, headers=CONNECT, body=GET_BOOK[5:], setting=Setting("web", web=True), **H1),
}
SECURE = Setting("tls", tls=True)
TLS = {
    "rest-get-h1-tls": rest_get(setting=SECURE, **H1),
    "grpc-get-tls": grpc_get(setting=SECURE),
}
GUARDED = {"rest-get-h1-guarded": rest_get(setting=Setting("guarded", guarded=True), **H1)}
MEBIBYTE = {
    "rest-post-1mib": Load("rest", ["/v1/shelves/1/books"], LAST, 4, 1, headers=JSON, body=LARGE_JSON, least=40),
    "grpc-create-1mib": Load("grpc", [CREATE], LAST, 4, 1, headers=GRPC, body=LARGE_CREATE, least=40),
}
CONNECTIONS = {
    "rest-get-h1-1000-idle": rest_get(idle=1000, setting=Setting("idle"), **H1),
    "rest-get-h1-1000-busy": rest_get(connections=1000, streams=1, h1=True, least=5000, setting=Setting("busy"), memory=True),
}
START = {
    "start-4-methods": Load("start", []),
    "start-googleapis": Load("start", [], setting=Setting("googleapis", googleapis=True)),
}


def workers(number, share):
    setting = Setting(f"workers{number}", workers=number, share=share)
    return grpc_get(setting=setting, connections=32, series=("workers", number))


WORKERS = {f"workers-{number}": workers(number, 0.3) for number in (1, 2)}


def tens(series, numbers, made):
    return {f"{series}-{number}": made(number) for number in numbers}


def by_connections(number):
    setting = Setting(f"connections{number}")
    return rest_get(connections=number, streams=1, h1=True, least=5 * number, setting=setting, series=("connections", number))


def by_streams(number):
    setting = Setting(f"streams{number}", many_streams=True)
    return grpc_get(connections=1, streams=number, setting=setting, series=("streams", number))


def by_routes(number):
    setting = Setting(f"routes{number}", routes=number)
    return rest_get(f"/r{number - 1}/shelves/1/books/7", setting=setting, series=("routes", number))


def by_upstreams(number):
    setting = Setting(f"upstreams{number}", upstreams=number)
    made = grpc_get(setting=setting, series=("upstreams", number), least=max(400, number), **ONE_AFTER_ANOTHER)
    package = "/bench.u%d.Library/GetBook"
    # A single upstream has the name of the service.
    made.paths = [package % each for each in range(number)] if number > 1 else [GET]
    return made


def by_keys(number):
    setting = Setting(f"keys{number}", keys=number)
    made = rest_get(setting=setting, series=("keys", number), least=max(400, number), **ONE_AFTER_ANOTHER)
    made.paths = [f"/v1/shelves/1/books/{each:06}" for each in range(number)]
    return made


SCALE = (
    tens("connections", (10, 100, 1000, 10_000), by_connections)
    | tens("streams", (1, 10, 100, 1000), by_streams)
    | tens("routes", (10, 100, 1000, 10_000), by_routes)
    | tens("upstreams", (1, 10, 100, 1000), by_upstreams)
    | tens("keys", (10, 100, 1000, 10_000), by_keys)
)

SETS = {
    "core": CORE,
    "guarded": GUARDED,
    "tls": TLS,
    "web": WEB,
    "1mib": MEBIBYTE,
    "connections": CONNECTIONS,
    "start": START,
    "workers": WORKERS,
    "scale": SCALE,
}
DEFAULT = "core,guarded,tls,web,1mib,connections,start"
LOADS = {name: load for loads in SETS.values() for name, load in loads.items()}
