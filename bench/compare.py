#!/usr/bin/env python3
"""Gateways side by side: the gateway alone on core 0, backend and load on core 1, all loads interleaved in one run.

Prints, and keeps in --out, what each reply costs each gateway (its own CPU time), how many there are per second, how long
they take at fixed rates, and memory, beside the first gateway; with a chart. See README.md.

  bench/setup.sh && bench/compare.py
  bench/compare.py --gateways envoy,portico --loads core
  bench/compare.py --gateways envoy,portico,old --portico old=../old/portico --loads grpc-get --rounds 5
"""
import argparse
import http.client
import os
import pathlib
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import chart
import credentials
import gateways
import h2load
import process
import report
from loads import DEFAULT, LOADS, PLAIN, SETS


def main():
    args = arguments()
    known = dict(gateways.GATEWAYS)
    for item in args.portico:
        name, _, program = item.partition("=")
        known[name] = gateways.portico_at(program)
    chosen = {name: known[name] for name in of(args.gateways, {name: {name: gateway} for name, gateway in known.items()})}
    loads = of(args.loads, SETS | {name: {name: load} for name, load in LOADS.items()})
    if not shutil.which("taskset") or not {0, 1} <= os.sched_getaffinity(0):
        sys.exit("two cores and taskset (util-linux) are needed")
    # This process looks on; the gateways have their core for themselves.
    os.sched_setaffinity(0, {int(gateways.LOAD_CORE)})
    # So that the gateways end with this process.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    # The loads with most connections need more than most shells allow.
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))

    with tempfile.TemporaryDirectory(prefix="portico-bench-") as work, Bench(chosen, loads, args, work) as bench:
        bench.run()
        memory = bench.memory()
    out = pathlib.Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    rows = report.rows(bench.results, next(iter(chosen)))
    text = report.text(rows, memory)
    print(text)
    (out / "table.txt").write_text(text + "\n", encoding="utf-8")
    (out / "chart.svg").write_text(chart.svg(rows), encoding="utf-8")
    (out / "figures.json").write_text(report.as_json(bench.results), encoding="utf-8")
    print(f"\ntable.txt, chart.svg and figures.json are in {out}")
    for line in sorted(bench.wrong):
        print(f"!! {line}", file=sys.stderr)
    sys.exit(1 if bench.wrong else 0)


def arguments():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = ",".join(name for name in gateways.GATEWAYS if name != "envoy-log")
    options.add_argument("--gateways", default=known, help=f"comma-separated; ratios are to the first; {known},envoy-log")
    options.add_argument("--portico", action="append", default=[], metavar="NAME=PROGRAM", help="another Portico, or another place of it")
    options.add_argument("--loads", default=DEFAULT, help=f"comma-separated: sets ({', '.join(SETS)}) or single loads")
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--seconds", type=float, default=2, help="length of one run")
    options.add_argument("--rates", default="0.25,0.5", help="parts of the first gateway's throughput at which latency is measured")
    options.add_argument("--out", default=str(gateways.HERE.parent / "target/bench"), metavar="FOLDER")
    return options.parse_args()


def of(names, known):
    """What comma-separated names stand for, in one dictionary."""
    unknown = [name for name in names.split(",") if name not in known]
    if unknown:
        sys.exit(f"unknown: {', '.join(unknown)}; there are {', '.join(known)}")
    return {key: value for name in names.split(",") for key, value in known[name].items()}


class Bench:
    """The backend and the gateways, as long as it is entered, and what was measured."""

    def __init__(self, chosen, loads, args, work):
        self.chosen, self.loads, self.args, self.work = chosen, loads, args, work
        self.running, self.counts, self.lengths, self.rates = {}, {}, {}, {}
        self.results, self.wrong, self.refused = {}, set(), set()

    def __enter__(self):
        credentials.certificates(self.work)
        self.token = credentials.token(self.work)
        self.direct = gateways.start("direct", gateways.BACKEND, PLAIN, (0, gateways.free_port()), self.work)
        self.ports = self.direct.place.port, self.direct.place.tls_upstream
        try:
            for load in self.loads.values():
                for name, gateway in self.chosen.items():
                    if gateway.serves(load) and load.kind != "start" and (name, load.setting) not in self.running:
                        self.running[name, load.setting] = gateways.start(name, gateway, load.setting, self.ports, self.work)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for running in [*self.running.values(), self.direct]:
            running.stop()

    def run(self):
        began = time.monotonic()
        for number in range(self.args.rounds):
            for load_name, load in self.loads.items():
                for name, gateway in self.chosen.items():
                    if gateway.serves(load) and load.kind == "start":
                        self.start(load_name, load, name)
                    elif gateway.serves(load):
                        self.closed(load_name, load, name)
                if load.direct:
                    self.paced(load_name, load)
            print(f"round {number + 1} of {self.args.rounds}: {time.monotonic() - began:.0f} s", file=sys.stderr)

    def start(self, load_name, load, name):
        """A gateway that only starts, and what it has then."""
        running = gateways.start(name, self.chosen[name], load.setting, self.ports, self.work)
        running.stop()
        self.keep(load_name, name, h2load.Figure(start_ms=running.start_ms, mib=running.mib))

    def closed(self, load_name, load, name):
        """As many requests as are answered, with as many under way as the load says."""
        running = self.running[name, load.setting]
        if not self.right(load_name, load, running):
            return
        key = load_name, name
        if key not in self.counts:
            # The first run warms up, the second says how many requests make a run of the wanted length.
            count = load.least
            for seconds in (0.5, self.args.seconds):
                rate = self.h2load(load_name, load, running, count).rate or 0
                count = max(load.least, int(rate * seconds))
            self.counts[key] = count
        self.keep(load_name, name, self.h2load(load_name, load, running, self.counts[key]))

    def paced(self, load_name, load):
        """A part of what the first gateway can do, and how long replies take then; the backend's own, too."""
        first = self.results.get((load_name, next(iter(self.chosen))))
        if not first:
            return
        subjects = [("direct", LOADS[load.direct], self.direct)]
        subjects += [(name, load, self.running[name, load.setting]) for name, gateway in self.chosen.items() if gateway.serves(load)]
        for part in map(float, filter(None, self.args.rates.split(","))):
            # As in the first round: a rate that moved would be another load.
            rate = self.rates.setdefault((load_name, part), int(first[0].rate * part))
            for name, asked, running in subjects:
                if rate and self.right(load_name, asked, running):
                    count = max(load.connections, int(rate * self.args.seconds * 1.5))
                    self.keep(f"{load_name} {rate}/s", name, self.h2load(load_name, asked, running, count, rate))

    def right(self, load_name, load, running):
        """Whether the gateway gives the right answer; asked once."""
        key = load_name, running.name
        if key not in self.lengths and key not in self.refused:
            try:
                self.lengths[key] = h2load.reply_length(load, running, self.work, self.headers(load))
            except (OSError, ValueError, http.client.HTTPException, subprocess.SubprocessError) as error:
                self.refused.add(key)
                self.wrong.add(f"{load_name}: {error}")
        return key in self.lengths

    def h2load(self, load_name, load, running, count, rate=None):
        length = self.lengths[load_name, running.name]
        return h2load.run(load, running, self.work, self.headers(load), count, length, rate)

    def headers(self, load):
        return load.headers + ([f"authorization: Bearer {self.token}"] if load.setting.guarded else [])

    def keep(self, load_name, name, figure):
        if figure.wrong:
            self.wrong.add(f"{load_name} {name}: {figure.wrong}")
        else:
            self.results.setdefault((load_name, name), []).append(figure)

    def memory(self):
        """The most that each gateway had in the plain setting, MiB."""
        return {
            name: process.memory_mib(running.child.pid, "VmHWM")
            for (name, setting), running in self.running.items() if setting == PLAIN
        }


if __name__ == "__main__":
    main()
