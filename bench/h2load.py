"""h2load and nghttp: whether a gateway answers a load rightly, and how fast."""
import http.client
import math
import re
import socket
import ssl
import subprocess
from contextlib import ExitStack
from dataclasses import dataclass

import gateways
import process


# Seconds; a run is meant to take two.
LONGEST = 120


@dataclass
class Figure:
    """What one run was and what it cost the gateway; what was not measured is None."""

    count: int = 0
    answered: int = 0
    rate: float | None = None  # replies per second
    cpu_us: float | None = None  # of the gateway, per reply
    p50_us: float | None = None
    p99_us: float | None = None
    p999_us: float | None = None
    mib: float | None = None
    start_ms: float | None = None
    log_bytes: float | None = None  # in the access log, per reply; the last lines may come later
    wrong: str = ""  # why this is no figure


def reply_length(load, running, folder, headers):
    """Asks for each path once; bytes of the reply, which has to contain what is expected."""
    for path in {running.path(load.paths[0]), running.path(load.paths[-1])}:
        body = (over_http1 if load.h1 else over_http2)(load, running, path, folder, headers)
        needle, times = load.expect
        if body.count(needle) != times:
            raise ValueError(f"{running.name} answers {path} with {body[:300]!r}")
    return len(body)


def over_http1(load, running, path, _, headers):
    if load.setting.tls:
        context = ssl._create_unverified_context()
        connection = http.client.HTTPSConnection("127.0.0.1", running.place.port, timeout=30, context=context)
    else:
        connection = http.client.HTTPConnection("127.0.0.1", running.place.port, timeout=30)
    connection.request("POST" if load.body else "GET", path, load.body, dict(header.split(": ", 1) for header in headers))
    reply = connection.getresponse()
    body = reply.read()
    connection.close()
    if not 200 <= reply.status < 300:
        raise ValueError(f"{running.name} answers {path} with {reply.status} {body[:300]!r}")
    return body


def over_http2(load, running, path, folder, headers):
    command = ["nghttp", "-t", "30", "-y", *options(headers, load, folder), url(running, path)]
    return subprocess.run(command, capture_output=True, timeout=60, check=False).stdout


def run(load, running, folder, headers, count, length, rate=None):
    """One run of h2load; `rate` is how many requests per second are sent, instead of as many as are answered."""
    log = f"{folder}/latency.log"
    # Each connection looks every 10 ms at what is due: with fewer than this it would send several at once.
    connections = max(load.connections, math.ceil(rate / 100)) if rate else min(load.connections, count)
    command = ["h2load", "-n", str(count), "-c", str(connections), "-m", str(load.streams), *(["--h1"] * load.h1)]
    if rate:
        open(log, "wb").close()
        # Connections that were opened at the same instant would all send at the same instants.
        apart = ["-r", "1", "--rate-period=1ms"]
        command += ["--rps", f"{rate / connections:.3f}", f"--log-file={log}", *apart]
    if len(load.paths) > 1:
        with open(f"{folder}/urls", "w", encoding="ascii") as out:
            out.writelines(f"{url(running, running.path(path))}\n" for path in load.paths)
        command += ["-i", f"{folder}/urls", *options(headers, load, folder)]
    else:
        command += [*options(headers, load, folder), url(running, running.path(load.paths[0]))]
    share = load.setting.share * load.setting.workers
    cores = gateways.BOTH if share else gateways.LOAD_CORE
    pid = running.child.pid
    with ExitStack() as held:
        for _ in range(load.idle):
            held.enter_context(idle_connection(running, load))
        if share:
            held.enter_context(process.Quota(pid, share))
        before = process.cpu_seconds(pid)
        try:
            out = subprocess.run(["taskset", "-c", cores, *command], capture_output=True, text=True, timeout=LONGEST, check=False).stdout
        except subprocess.TimeoutExpired:
            return Figure(count, wrong=f"not done after {LONGEST} s")
        spent = process.cpu_seconds(pid) - before
        mib = process.memory_mib(pid, "VmRSS" if load.idle else "VmHWM") if load.idle or load.memory or load.series else None
    figure = figures(out, count, spent, length)
    figure.log_bytes = running.forget_log() / count
    figure.mib = mib
    if rate:
        (figure.p50_us, figure.p99_us, figure.p999_us), reached = percentiles(log)
        if reached < rate * 0.95:
            figure.wrong = figure.wrong or f"{reached:.0f} requests per second instead of {rate}"
        # It is what was asked for, and no result.
        figure.rate = None
    return figure


def figures(out, count, spent, length):
    def found(pattern):
        match = re.search(pattern, out)
        return float(match.group(1)) if match else 0

    answered = int(found(r"(\d+) 2xx"))
    each = found(r"traffic: .*\((\d+)\) data") / max(1, answered)
    figure = Figure(count, answered, found(r"finished in [\d.]+\w+, ([\d.]+) req/s"), spent / max(1, answered) * 1e6)
    if answered != count or found(r"(\d+) succeeded") != count:
        figure.wrong = f"{answered} of {count} answered 2xx"
    # gRPC has its errors behind a status of 200: their replies are shorter.
    elif abs(each - length) > length * 0.002:
        figure.wrong = f"{each:.1f} bytes a reply instead of {length}"
    return figure


def percentiles(log):
    """Microseconds, and the rate of what they are of; the first tenth of the requests warm up.

    Of a percentile that less than ten requests are above, nothing is said.
    """
    with open(log, encoding="ascii") as lines:
        seen = [tuple(map(int, line.split("\t"))) for line in lines]
    seen = seen[len(seen) // 10 :]
    began, times = sorted(line[0] for line in seen), sorted(line[2] for line in seen)
    if len(times) < 2:
        return (None, None, None), 0
    parts = (0.5, 0.99, 0.999)
    enough = [float(times[int(len(times) * part)]) if len(times) * (1 - part) >= 10 else None for part in parts]
    return enough, (len(began) - 1) / (began[-1] - began[0]) * 1e6


def idle_connection(running, load):
    connection = socket.create_connection(("127.0.0.1", running.place.port), timeout=30)
    connection.sendall(f"GET {running.path(load.paths[0])} HTTP/1.1\r\nhost: bench\r\n\r\n".encode())
    connection.recv(65_536)
    return connection


def options(headers, load, folder):
    made = [part for header in headers for part in ("-H", header)]
    if load.body:
        path = f"{folder}/body"
        with open(path, "wb") as out:
            out.write(load.body)
        made += ["-d", path]
    return made


def url(running, path):
    return f"{'https' if running.setting.tls else 'http'}://127.0.0.1:{running.place.port}{path}"
