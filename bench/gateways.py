"""The gateways, and how each is started for a setting."""
import json
import os
import pathlib
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field

import credentials
import envoy
import portico
import process
import schema

HERE = pathlib.Path(__file__).parent
TOOLS = os.environ.get("BENCH_TOOLS", os.path.expanduser("~/.cache/portico-bench"))
GATEWAY_CORE, LOAD_CORE, BOTH = "0", "1", "0,1"
EVERYTHING = ("rest", "rest-stream", "grpc", "grpc-web", "connect", "start")
# Settings in which nothing is to be set.
PLAINLY = ("plain", "idle", "busy")
# structured-proxy takes templates of single segments only.
SINGLE_SEGMENTS = {
    "GetBook": schema.rule("get", "/v1/books/{name}"),
    "CreateBook": schema.rule("post", "/v1/shelves/{parent}/books", "book"),
    "ListBooks": schema.rule("get", "/v1/shelves/{parent}/books"),
    "WatchBooks": schema.rule("get", "/v1/shelves/{parent}/books:watch"),
}


@dataclass
class Place:
    """Where one gateway runs: its folder, its ports, and the files that its configuration names."""

    folder: str
    shared: str  # the folder of what all of them use
    port: int
    upstream: int
    tls_upstream: int
    descriptors: str
    issuer: str = credentials.ISSUER

    def __post_init__(self):
        self.log = f"{self.folder}/log"
        self.certificate, self.key = f"{self.shared}/server.pem", f"{self.shared}/server.key"
        self.authority = f"{self.shared}/authority.pem"
        self.jwks = f"{self.shared}/jwks.json"

    @property
    def services(self):
        return schema.services(pathlib.Path(self.descriptors).read_bytes())

    def write(self, name, content):
        """The path of a new file in the folder; a configuration is written as JSON, which YAML includes."""
        path = f"{self.folder}/{name}"
        with open(path, "w", encoding="utf-8") as out:
            out.write(content if isinstance(content, str) else json.dumps(content, indent=1))
        return path

    def fill(self, name):
        """The path of a file of config/, with this place filled in."""
        text = (HERE / "config" / f"{name}.in").read_text(encoding="utf-8")
        upstream = self.tls_upstream if "-tls" in name else self.upstream
        filling = {"@PORT@": str(self.port), "@UPSTREAM@": str(upstream), "@FOLDER@": self.folder, "@SHARED@": self.shared}
        for key, value in filling.items():
            text = text.replace(key, value)
        return self.write(name, text)


@dataclass
class Gateway:
    """`command` makes the command line for a setting and a place, and the files that it needs."""

    command: object
    kinds: tuple = EVERYTHING
    settings: tuple | None = None  # by name; all of them if not given
    paths: dict = field(default_factory=dict)  # its own in place of those of the loads
    googleapis: str = "googleapis.binpb"
    rules: dict = field(default_factory=dict)  # by method, likewise

    def serves(self, load):
        return load.kind in self.kinds and (self.settings is None or load.setting.name in self.settings)

    def descriptors(self, setting, folder):
        """The path of the descriptor set, which is made where it differs from the usual one."""
        if setting.googleapis:
            return f"{TOOLS}/{self.googleapis}"
        rules = dict(self.rules)
        if setting.routes:
            each = [schema.rule("get", f"/r{number}/{{name=shelves/*/books/*}}") for number in range(setting.routes)]
            rules["GetBook"] = schema.rule("get", "/v1/{name=shelves/*/books/*}", further=each)
        if not rules:
            return f"{TOOLS}/bench.binpb"
        content = pathlib.Path(f"{TOOLS}/bench.binpb").read_bytes()
        for method, rule in rules.items():
            content = schema.with_rule(content, f"bench.v1.Library.{method}", rule)
        path = pathlib.Path(folder, "bench.binpb")
        path.write_bytes(content)
        return str(path)


@dataclass
class Running:
    """A gateway at work."""

    name: str
    gateway: Gateway
    setting: object
    place: Place
    child: subprocess.Popen
    start_ms: float = 0  # from the start of the process to the open port
    mib: float = 0  # resident once it had started

    def path(self, path):
        return self.gateway.paths.get(path, path)

    def forget_log(self):
        """Empties the access log, and says how many bytes it had; the gateway appends, so that it goes on at the start."""
        size = os.path.getsize(self.place.log)
        os.truncate(self.place.log, 0)
        return size

    def stop(self):
        self.child.terminate()
        try:
            self.child.wait(10)
        except subprocess.TimeoutExpired:
            self.child.kill()


def start(name, gateway, setting, ports, work):
    """A gateway whose port is open, alone on its core; or the backend, on the other."""
    folder = f"{work}/{name}-{setting.name}-{time.monotonic_ns()}"
    os.makedirs(folder)
    place = Place(folder, work, free_port(), *ports, gateway.descriptors(setting, folder))
    cores = BOTH if setting.share else LOAD_CORE if gateway is BACKEND else GATEWAY_CORE
    command = ["taskset", "-c", cores, *gateway.command(setting, place)]
    with open(place.log, "ab") as log, open(f"{folder}/errors", "wb") as errors:
        then = time.monotonic()
        running = Running(name, gateway, setting, place, subprocess.Popen(command, stdout=log, stderr=errors))
    try:
        await_port(name, running.child, place.port, folder)
        running.start_ms = (time.monotonic() - then) * 1000
        time.sleep(0.5)
        running.mib = process.memory_mib(running.child.pid, "VmRSS")
    except BaseException:
        running.stop()
        raise
    return running


def await_port(name, child, port, folder):
    for _ in range(30_000):
        if child.poll() is not None:
            with open(f"{folder}/errors", encoding="utf-8", errors="replace") as errors:
                sys.exit(f"{name} ended with {child.returncode}: {errors.read()[-2000:]}")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.001)
    sys.exit(f"{name} does not accept connections")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def portico_at(program):
    return Gateway(lambda setting, place: [program, "run", "--config", place.write("portico.yaml", portico.config(setting, place))])


def envoy_with(access_log):
    def command(setting, place):
        path = place.write("envoy.json", envoy.config(setting, place, access_log))
        return [f"{TOOLS}/bin/envoy", "-c", path, "--concurrency", str(setting.workers), "-l", "error", "--disable-hot-restart"]

    return Gateway(command, googleapis="googleapis-envoy.binpb")


def in_go(mode):
    return lambda _, place: [
        f"{TOOLS}/bin/gogw", "-mode", mode, "-address", f"127.0.0.1:{place.port}", "-upstream", f"127.0.0.1:{place.upstream}",
    ]


def nginx(setting, place):
    return ["nginx", "-c", place.fill("nginx-tls.conf" if setting.tls else "nginx.conf"), "-e", "stderr", "-g", "daemon off;"]


def haproxy(setting, place):
    return ["haproxy", "-q", "-f", place.fill("haproxy-tls.cfg" if setting.tls else "haproxy.cfg")]


def structured_proxy(setting, place):
    config = {
        "listen": {"http": f"127.0.0.1:{place.port}"},
        "upstream": {"default": f"http://127.0.0.1:{place.upstream}"},
        "descriptors": [{"file": place.descriptors}],
        "service": {"name": "bench"},
        "runtime": {"worker_threads": setting.workers},
        "grpc_web": {"translate": setting.web},
    }
    return [f"{TOOLS}/bin/structured-proxy", "--config", place.write("structured-proxy.yaml", config)]


def backend(_, place):
    return [f"{TOOLS}/bin/bench-backend", f"127.0.0.1:{place.port}", f"127.0.0.1:{place.tls_upstream}", place.certificate, place.key]


# Without a gateway before it, it is what latency is compared with.
BACKEND = Gateway(backend, ("grpc",))
GATEWAYS = {
    "envoy": envoy_with(access_log=False),
    "envoy-log": envoy_with(access_log=True),
    "portico": portico_at(f"{HERE.parent}/target/dist/portico"),
    "structured-proxy": Gateway(
        structured_proxy, ("rest", "rest-stream", "grpc", "grpc-web", "start"), (*PLAINLY, "web"), {"/v1/shelves/1/books/7": "/v1/books/7"},
        rules=SINGLE_SEGMENTS,
    ),
    "grpc-gateway": Gateway(in_go("grpc-gateway"), ("rest", "rest-stream", "start"), PLAINLY),
    # It refuses server streams over REST.
    "vanguard": Gateway(in_go("vanguard"), ("rest", "grpc", "grpc-web", "connect", "start"), (*PLAINLY, "web")),
    "nginx": Gateway(nginx, ("grpc", "start"), ("plain", "tls")),
    "haproxy": Gateway(haproxy, ("grpc", "start"), ("plain", "tls")),
}
