#!/usr/bin/env python3
"""A server under test for Connect's conformance runner: its own gRPC reference server behind Portico.

    connect_server.py PORTICO GRPCSERVER PROTOS

The runner writes one ServerCompatRequest to standard input and reads one ServerCompatResponse, each behind its length in
four bytes (docs/testing_servers.md of connectrpc.com/conformance). In the end it asks this process to stop.
"""

import pathlib
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time

# The reference server takes no message at all when it is told of no limit.
NO_LIMIT = 16 << 20
GRPC, HTTP2 = 2, 2


def fields(message):
    """The fields of a protobuf message that has only numbers and bytes, by their numbers."""
    found, at = {}, 0

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(message):
        tag = varint()
        value = varint()
        if tag & 7 == 2:
            value, at = message[at : at + value], at + value
        found[tag >> 3] = value
    return found


def varint(value):
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(out + bytes([value]))


def number(field, value):
    return varint(field << 3) + varint(value)


def text(field, value):
    return varint(field << 3 | 2) + varint(len(value)) + value


def read(stream):
    (length,) = struct.unpack(">I", stream.read(4))
    return fields(stream.read(length))


def write(stream, message):
    stream.write(struct.pack(">I", len(message)) + message)
    stream.flush()


def reference_server(program, limit):
    """Starts it; gives the process and its port."""
    process = subprocess.Popen([program, "-port", "0"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    write(process.stdin, number(1, GRPC) + number(2, HTTP2) + number(6, limit))
    return process, read(process.stdout)[2]


def tls(folder, request):
    """The lines of the listener's settings."""
    if not request.get(4):
        return ""
    creds = fields(request[7])
    (folder / "server.pem").write_bytes(creds[1])
    (folder / "server.key").write_bytes(creds[2])
    lines = "    tls:\n      certificate: server.pem\n      key: server.key\n"
    if request.get(5):
        (folder / "clients.pem").write_bytes(request[5])
        lines += "      client_ca: clients.pem\n"
    return lines


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def gateway(program, folder, request, upstream, protos):
    """Starts it; gives the process and its port."""
    port = free_port()
    limit = request.get(6, 0)
    limits = f"    limits: {{ request_message: {limit}B }}\n" if limit else ""
    (folder / "portico.yaml").write_text(
        f"listeners:\n  - address: 127.0.0.1:{port}\n{tls(folder, request)}admin: off\n"
        f"upstreams:\n  - name: reference\n    endpoints: ['127.0.0.1:{upstream}']\n"
        f"    schema: {{ proto: [{protos}/connectrpc/conformance/v1/service.proto], include: [{protos}] }}\n"
        # The suite counts the details of every error.
        f"errors: {{ details: false }}\n"
        f"policies:\n  - match: '*'\n    timeout: {{ unary: none }}\n{limits}"
    )
    log = open(folder / "portico.log", "w")
    process = subprocess.Popen([program, "run", "--config", folder / "portico.yaml"], stdout=log, stderr=log)
    for _ in range(300):
        if process.poll() is not None:
            break
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return process, port
        except ConnectionRefusedError:
            time.sleep(0.1)
    sys.exit("the gateway does not accept connections:\n" + (folder / "portico.log").read_text())


def main():
    portico, grpcserver, protos = sys.argv[1:]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    request = read(sys.stdin.buffer)
    processes = []
    with tempfile.TemporaryDirectory() as folder:
        try:
            reference, upstream = reference_server(grpcserver, request.get(6, 0) or NO_LIMIT)
            processes.append(reference)
            process, port = gateway(portico, pathlib.Path(folder), request, upstream, protos)
            processes.append(process)
            answer = text(1, b"127.0.0.1") + number(2, port)
            if request.get(4):
                answer += text(3, fields(request[7])[1])
            write(sys.stdout.buffer, answer)
            process.wait()
            sys.exit("the gateway died:\n" + pathlib.Path(folder, "portico.log").read_text())
        finally:
            for process in processes:
                process.kill()


main()
