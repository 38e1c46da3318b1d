"""Calls through two gateways that ask the same rate-limit service; see ratelimit.sh.

ratelimit.py URL URL
"""

import json
import sys
import urllib.error
import urllib.request

METHOD = "/grpc.testing.TestService/EmptyCall"
failures = 0


def call(gateway, tenant):
    """One call by REST: status, headers and body."""
    headers = {"content-type": "application/json"}
    if tenant:
        headers["x-tenant"] = tenant
    request = urllib.request.Request(gateway + METHOD, b"{}", headers)
    try:
        with urllib.request.urlopen(request, timeout=20) as reply:
            return reply.status, reply.headers, reply.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()


def check(what, found, expected):
    global failures
    good = found == expected
    print(f"ratelimit {what} ... {'ok' if good else 'FAILED'}")
    if not good:
        print(f"    expected {expected!r}, found {found!r}")
        failures += 1


def main():
    first, second = sys.argv[1:]
    statuses = [call(gateway, "large")[0] for gateway in (first, second, first, second, first)]
    check("two gateways share three calls an hour", statuses, [200, 200, 200, 429, 429])
    check("a tenant that has a limit of its own", [call(first, "small")[0] for _ in range(2)], [200, 429])
    check("a tenant that has not called yet", call(second, "other")[0], 200)
    check("calls without a tenant", [call(first, None)[0] for _ in range(5)], [200] * 5)

    status, headers, body = call(second, "large")
    check("a refusal", status, 429)
    check("when to come back", 0 < int(headers["retry-after"]) <= 3600, True)
    check("its code", json.loads(body)["code"], 8)
    check("the fields of the standard", "tenant" in headers["ratelimit-policy"], True)
    check("the service's own headers", headers["ratelimit-limit"] is not None, True)
    sys.exit(1 if failures else 0)


main()
