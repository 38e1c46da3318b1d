#!/usr/bin/env python3
"""Gateways side by side: the gateway alone on core 0, backend and load on core 1, all loads interleaved in one run.

Prints for each load and gateway: requests per second, the gateway's CPU time per request (microseconds, all its
processes), mean and worst latency, and the first two as ratios to the first gateway; then each gateway's peak memory.
CPU per request is the figure to trust on a noisy machine.

  bench/setup.sh && bench/compare.py                                  Envoy and Portico (target/dist/portico)
  bench/setup.sh all && bench/compare.py --gateways envoy,grpc-gateway,vanguard,nginx,haproxy,portico
  bench/compare.py --gateways portico,old --command 'old=../old/portico run --listen 127.0.0.1:@PORT@ --upstream 127.0.0.1:@UPSTREAM@ --descriptor-set @DESCRIPTORS@ --workers 1 --admin off'
"""
import argparse
import json
import os
import re
import shlex
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field

HERE = os.path.dirname(os.path.abspath(__file__))
TOOLS = os.environ.get("BENCH_TOOLS", os.path.expanduser("~/.cache/portico-bench"))

GATEWAY_CORE, LOAD_CORE = "0", "1"
QUIET = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


@dataclass
class Gateway:
    """A command with @PORT@, @UPSTREAM@, @DESCRIPTORS@ and @CONFIG@ (its file of config/, filled in) to fill in.

    `can` names the kinds of load, or single loads.
    """

    command: str
    can: tuple = ("rest", "grpc")
    config: str | None = None
    port: int = 0
    process: subprocess.Popen | None = None


@dataclass
class Load:
    """What h2load is asked to do."""

    kind: str
    path: str
    options: list
    headers: list = field(default_factory=list)


@dataclass
class Figure:
    """One run of h2load, and what it cost the gateway."""

    count: int
    answered: int
    rate: float
    cpu_us: float
    mean: str
    worst: str
    bytes_per_reply: float


PORTICO = f"{HERE}/../target/dist/portico run --listen 127.0.0.1:@PORT@ --upstream 127.0.0.1:@UPSTREAM@ --descriptor-set @DESCRIPTORS@ --workers 1 --admin off"
# It refuses server streams over REST.
VANGUARD_CAN = ("grpc", "rest-get-h1", "rest-get-h2", "rest-post-h1", "rest-post-h2", "rest-list100-h2")
GATEWAYS = {
    "portico": Gateway(PORTICO),
    "envoy": Gateway(f"{TOOLS}/venv/bin/envoy -c @CONFIG@ --concurrency 1 -l error --disable-hot-restart", config="envoy.yaml"),
    "grpc-gateway": Gateway(f"{TOOLS}/bin/gogw -mode grpc-gateway -address 127.0.0.1:@PORT@ -upstream 127.0.0.1:@UPSTREAM@", ("rest",)),
    "vanguard": Gateway(f"{TOOLS}/bin/gogw -mode vanguard -address 127.0.0.1:@PORT@ -upstream 127.0.0.1:@UPSTREAM@", VANGUARD_CAN),
    "nginx": Gateway("nginx -c @CONFIG@ -g 'daemon off;'", ("grpc",), "nginx.conf"),
    "haproxy": Gateway("haproxy -f @CONFIG@ -q", ("grpc",), "haproxy.cfg"),
}

H1 = ["--h1", "-c", "64"]
H2 = ["-c", "8", "-m", "16"]
H2_LARGE = ["-c", "8", "-m", "4"]
BOOK = ["-d", f"{HERE}/book.json"]
GET = ["-d", "@WORK@/get.bin"]
LIST = ["-d", "@WORK@/list100.bin"]
JSON = ["content-type: application/json"]
GRPC = ["content-type: application/grpc", "te: trailers"]
LOADS = {
    "rest-get-h1": Load("rest", "/v1/shelves/1/books/7", H1),
    "rest-get-h2": Load("rest", "/v1/shelves/1/books/7", H2),
    "rest-post-h1": Load("rest", "/v1/shelves/1/books", H1 + BOOK, JSON),
    "rest-post-h2": Load("rest", "/v1/shelves/1/books", H2 + BOOK, JSON),
    "rest-list100-h2": Load("rest", "/v1/shelves/1/books?page_size=100", H2_LARGE),
    "rest-stream100-h2": Load("rest", "/v1/shelves/1/books:watch?page_size=100", H2_LARGE),
    "grpc-get": Load("grpc", "/bench.v1.Library/GetBook", H2 + GET, GRPC),
    "grpc-list100": Load("grpc", "/bench.v1.Library/ListBooks", H2_LARGE + LIST, GRPC),
    "grpc-stream100": Load("grpc", "/bench.v1.Library/WatchBooks", H2_LARGE + LIST, GRPC),
}


def main():
    args = arguments()
    gateways = dict(GATEWAYS)
    for item in args.command:
        name, _, command = item.partition("=")
        gateways[name] = Gateway(command, tuple(args.can.split()))
    unknown = [name for name in args.gateways.split(",") if name not in gateways]
    unknown += [name for name in args.loads.split(",") if name not in LOADS and name != "all"]
    if unknown:
        sys.exit(f"unknown: {', '.join(unknown)}; gateways: {', '.join(gateways)}; loads: {', '.join(LOADS)}")
    chosen = {name: gateways[name] for name in args.gateways.split(",")}
    loads = {name: load for name, load in LOADS.items() if args.loads == "all" or name in args.loads.split(",")}

    with tempfile.TemporaryDirectory(prefix="portico-bench-") as work:
        write_messages(work)
        running = []
        try:
            upstream = free_port()
            backend = ["taskset", "-c", LOAD_CORE, f"{TOOLS}/bin/bench-backend", f"127.0.0.1:{upstream}"]
            running.append(subprocess.Popen(backend, **QUIET))
            await_port("backend", running[0], upstream)
            for name, gateway in chosen.items():
                start(name, gateway, upstream, work)
                running.append(gateway.process)
                await_port(name, gateway.process, gateway.port)
            results, sound = measure(chosen, loads, args, work)
            memory = {name: peak_mib(gateway.process.pid) for name, gateway in chosen.items()}
        finally:
            for process in running:
                process.terminate()
            for process in running:
                try:
                    process.wait(10)
                except subprocess.TimeoutExpired:
                    process.kill()
    report(results, memory)
    if args.json:
        with open(args.json, "w", encoding="utf-8") as out:
            json.dump({f"{load}|{name}": [vars(figure) for figure in seen] for (load, name), seen in results.items()}, out)
    sys.exit(0 if sound else 1)


def arguments():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--gateways", default="envoy,portico", help="comma-separated; ratios are to the first")
    options.add_argument("--command", action="append", default=[], metavar="NAME=COMMAND", help="another gateway")
    options.add_argument("--can", default="rest grpc", help="what the gateways given with --command can do")
    options.add_argument("--loads", default="all", help=f"comma-separated: {', '.join(LOADS)}")
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--seconds", type=float, default=2, help="length of one run")
    options.add_argument("--json", metavar="FILE", help="every single figure")
    return options.parse_args()


def measure(gateways, loads, args, work):
    """All figures by load and gateway, and whether every request was answered in full."""
    results, expected, sound = {}, {}, True
    for _ in range(args.rounds):
        for load_name, load in loads.items():
            for name, gateway in gateways.items():
                if load.kind not in gateway.can and load_name not in gateway.can:
                    continue
                seen = results.setdefault((load_name, name), [])
                # The first run warms up and says how many requests make a run of the wanted length.
                count = seen[0].count if seen else max(400, int(run(400, load, gateway, work).rate * args.seconds))
                figure = run(count, load, gateway, work)
                seen.append(figure)
                if figure.answered != count:
                    sound = False
                    print(f"!! {load_name} {name}: {figure.answered} of {count} answered 2xx", file=sys.stderr)
                # A fast refusal is not an answer.
                least = expected.setdefault(load_name, figure.bytes_per_reply) * 0.7
                if figure.bytes_per_reply < least:
                    sound = False
                    print(f"!! {load_name} {name}: {figure.bytes_per_reply:.0f} bytes a reply, {least:.0f} expected", file=sys.stderr)
    return results, sound


def run(count, load, gateway, work):
    options = [option.replace("@WORK@", work) for option in load.options]
    headers = [part for header in load.headers for part in ("-H", header)]
    url = f"http://127.0.0.1:{gateway.port}{load.path}"
    before = cpu_seconds(gateway.process.pid)
    command = ["taskset", "-c", LOAD_CORE, "h2load", "-n", str(count), *options, *headers, url]
    out = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False).stdout
    spent = cpu_seconds(gateway.process.pid) - before

    def found(pattern, default):
        match = re.search(pattern, out)
        return match.group(1) if match else default

    answered = int(found(r"(\d+) 2xx", "0"))
    return Figure(
        count=count,
        answered=answered,
        rate=float(found(r"finished in [\d.]+\w+, ([\d.]+) req/s", "0")),
        cpu_us=spent / max(1, answered) * 1e6,
        worst=found(r"time for request:\s+\S+\s+(\S+)", "?"),
        mean=found(r"time for request:\s+\S+\s+\S+\s+(\S+)", "?"),
        bytes_per_reply=int(found(r"traffic: .*\((\d+)\) data", "0")) / max(1, answered),
    )


def report(results, memory):
    print(f"{'load':18}{'gateway':14}{'req/s':>9}{'cpu us/req':>12}{'mean':>10}{'worst':>10}{'req/s x':>9}{'cpu x':>8}")
    base = {}
    for (load, name), seen in results.items():
        rate = statistics.median(figure.rate for figure in seen)
        cpu = statistics.median(figure.cpu_us for figure in seen)
        base_rate, base_cpu = base.setdefault(load, (rate or 1, cpu or 1))
        latency = f"{seen[-1].mean:>10}{seen[-1].worst:>10}"
        print(f"{load:18}{name:14}{rate:9.0f}{cpu:12.1f}{latency}{rate / base_rate:9.2f}{cpu / base_cpu:8.2f}")
    print("peak memory:", ", ".join(f"{name} {mib:.0f} MiB" for name, mib in memory.items()))


def start(name, gateway, upstream, work):
    gateway.port = free_port()
    filling = {
        "@PORT@": str(gateway.port),
        "@UPSTREAM@": str(upstream),
        "@DESCRIPTORS@": f"{TOOLS}/bench.binpb",
        "@CONFIG@": f"{work}/{gateway.config}",
        "@WORK@": work,
    }

    def fill(text):
        for key, value in filling.items():
            text = text.replace(key, value)
        return text

    if gateway.config:
        with open(f"{HERE}/config/{gateway.config}.in", encoding="utf-8") as template:
            text = fill(template.read())
        with open(f"{work}/{gateway.config}", "w", encoding="utf-8") as out:
            out.write(text)
    try:
        gateway.process = subprocess.Popen(["taskset", "-c", GATEWAY_CORE, *shlex.split(fill(gateway.command))], **QUIET)
    except FileNotFoundError:
        sys.exit("taskset (util-linux) is missing")


def await_port(name, process, port):
    for _ in range(300):
        if process.poll() is not None:
            sys.exit(f"{name} ended with {process.returncode}: {shlex.join(process.args)}")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    sys.exit(f"{name} does not accept connections")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def write_messages(folder):
    """The gRPC requests, each in its five-byte frame."""
    name = b"shelves/1/books/7"
    messages = {"get.bin": b"\x0a" + bytes([len(name)]) + name, "list100.bin": b"\x0a\x09shelves/1\x10\x64"}
    for file, message in messages.items():
        with open(f"{folder}/{file}", "wb") as out:
            out.write(b"\0" + struct.pack(">I", len(message)) + message)


def tree(root):
    """The process and all its descendants."""
    found = [root]
    for pid in found:
        try:
            for task in os.listdir(f"/proc/{pid}/task"):
                with open(f"/proc/{pid}/task/{task}/children", encoding="ascii") as children:
                    found += map(int, children.read().split())
        except FileNotFoundError:
            pass
    return found


def cpu_seconds(root):
    total = 0
    for pid in tree(root):
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/schedstat", encoding="ascii") as schedstat:
                total += int(schedstat.read().split()[0])
    return total / 1e9


def peak_mib(root):
    peak = 0
    for pid in tree(root):
        with open(f"/proc/{pid}/status", encoding="ascii") as status:
            found = re.search(r"VmHWM:\s+(\d+)", status.read())
            peak += int(found.group(1)) if found else 0
    return peak / 1024


if __name__ == "__main__":
    main()
