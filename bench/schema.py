#!/usr/bin/env python3
"""Descriptor sets that no .proto file here has.

    schema.py googleapis OUT GENPROTO PROTOBUF   all Google APIs of August 2022, 6,476 HTTP bindings, out of two Go modules
    schema.py for-envoy OUT SET ENVOY            the same without the bindings of methods that Envoy refuses

The descriptors are bytes in the generated Go code: compiling that code to have them takes ten minutes.
"""
import json
import pathlib
import re
import subprocess
import sys
import tempfile

import envoy
import wire

RAW = re.compile(r"_rawDesc = \[\]byte\{([^}]*)\}")
# Numbers of fields of descriptor.proto and http.proto.
FILE, NAME, PACKAGE, DEPENDENCY, SERVICE, METHOD, OPTIONS, HTTP = 1, 1, 2, 3, 6, 2, 4, 72295728
VERBS, BODY, ADDITIONAL_BINDINGS = {"get": 2, "post": 4}, 7, 11


def googleapis(out, *modules):
    files = {}
    for root in modules:
        for path in sorted(pathlib.Path(root).rglob("*.pb.go")):
            for numbers in RAW.findall(path.read_text(encoding="utf-8")):
                raw = bytes(int(number, 16) for number in re.findall(r"0x[0-9a-f]{2}", numbers))
                files.setdefault(wire.text(raw, NAME), raw)
    done = {}
    for name in sorted(files):
        if not name.startswith("google/protobuf/"):
            add(name, files, done)
    pathlib.Path(out).write_bytes(b"".join(wire.field(FILE, raw) for raw in done.values()))


def add(name, files, done):
    """A file behind those that it imports, as Envoy wants them."""
    if name in done:
        return
    for value in wire.values(files[name], DEPENDENCY):
        add(value.decode(), files, done)
    done[name] = files[name]


def for_envoy(out, descriptors, program):
    """Envoy does not start with a method that it cannot route: take away the one that it names until it does."""
    content, refused = pathlib.Path(descriptors).read_bytes(), []
    for _ in range(100):
        pathlib.Path(out).write_bytes(content)
        with tempfile.NamedTemporaryFile("w", suffix=".json") as config:
            json.dump(envoy.transcoder_alone(out, services(content)), config)
            config.flush()
            command = [program, "--mode", "validate", "-c", config.name, "-l", "critical"]
            seen = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        if seen.returncode == 0:
            print(f"Envoy refuses {len(refused)} methods: {', '.join(refused)}")
            return
        found = re.search(r"Cannot register '([^']+)'", seen.stderr + seen.stdout)
        if not found:
            break
        refused.append(found.group(1))
        content = with_rule(content, found.group(1), b"")
    sys.exit(f"Envoy does not take {descriptors}: {seen.stderr.strip()}")


def services(descriptors):
    """The full names of the services of a descriptor set."""
    return [
        f"{wire.text(file, PACKAGE)}.{wire.text(service, NAME)}"
        for file in wire.values(descriptors, FILE)
        for service in wire.values(file, SERVICE)
    ]


def with_rule(descriptors, method, rule):
    """The descriptor set, where one method has another `google.api.HttpRule`, or none if that is empty."""
    service_name, _, method_name = method.rpartition(".")
    options = wire.field(OPTIONS, wire.field(HTTP, rule)) if rule else b""

    def in_file(file):
        package = wire.text(file, PACKAGE)
        return rewritten(file, SERVICE, lambda one: in_service(one) if f"{package}.{wire.text(one, NAME)}" == service_name else one)

    def in_service(service):
        return rewritten(service, METHOD, lambda one: bare(one) + options if wire.text(one, NAME) == method_name else one)

    def bare(one):
        return b"".join(whole for number, _, whole in wire.fields(one) if number != OPTIONS)

    return rewritten(descriptors, FILE, in_file)


def rule(verb, path, body="", further=()):
    """A `google.api.HttpRule`."""
    more = b"".join(wire.field(ADDITIONAL_BINDINGS, each) for each in further)
    return wire.field(VERBS[verb], path) + (wire.field(BODY, body) if body else b"") + more


def rewritten(message, wanted, change):
    return b"".join(wire.field(wanted, change(value)) if number == wanted else whole for number, value, whole in wire.fields(message))


if __name__ == "__main__":
    {"googleapis": googleapis, "for-envoy": for_envoy}[sys.argv[1]](*sys.argv[2:])
