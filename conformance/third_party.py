#!/usr/bin/env python3
"""Makes the same calls to OpenFGA's own HTTP gateway and to Portico: third_party.py OWN PORTICO

A successful reply has to be the same JSON but for what the two are free to choose: names in lowerCamelCase or as
declared, empty values left out or not, and what differs from run to run (identifiers, times). A failure has to carry
the service's message; its form is Portico's own.
"""
import json
import re
import sys
import time
import urllib.error
import urllib.request

MODEL = {
    "schema_version": "1.1",
    "type_definitions": [
        {"type": "user"},
        {
            "type": "document",
            "relations": {
                "reader": {"this": {}},
                "writer": {"this": {}},
                "can_read": {
                    "union": {
                        "child": [{"computedUserset": {"relation": "reader"}}, {"computedUserset": {"relation": "writer"}}]
                    }
                },
            },
            "metadata": {
                "relations": {
                    "reader": {"directly_related_user_types": [{"type": "user"}]},
                    "writer": {"directly_related_user_types": [{"type": "user"}]},
                }
            },
        },
    ],
}


def tuple_key(relation, thing, user="user:anne"):
    return {"user": user, "relation": relation, "object": thing}


# Title, method, path, body. {store} and {model} are what the first calls made.
CALLS = [
    ("writes a model", "POST", "/stores/{store}/authorization-models", MODEL),
    ("lists models", "GET", "/stores/{store}/authorization-models?page_size=10", None),
    ("reads a model", "GET", "/stores/{store}/authorization-models/{model}", None),
    ("writes tuples", "POST", "/stores/{store}/write", {"writes": {"tuple_keys": [tuple_key("reader", "document:1"), tuple_key("writer", "document:2")]}}),
    ("checks what is allowed", "POST", "/stores/{store}/check", {"tuple_key": tuple_key("can_read", "document:1")}),
    ("checks what is not allowed", "POST", "/stores/{store}/check", {"tuple_key": tuple_key("writer", "document:1")}),
    ("checks against a named model", "POST", "/stores/{store}/check", {"tuple_key": tuple_key("can_read", "document:2"), "authorization_model_id": "{model}"}),
    ("checks a batch (map in the reply)", "POST", "/stores/{store}/batch-check", {"checks": [{"tuple_key": tuple_key("can_read", "document:1"), "correlation_id": "one"}]}),
    ("expands a relation (recursive message)", "POST", "/stores/{store}/expand", {"tuple_key": {"relation": "can_read", "object": "document:1"}}),
    ("lists objects", "POST", "/stores/{store}/list-objects", {"type": "document", "relation": "can_read", "user": "user:anne"}),
    ("lists users", "POST", "/stores/{store}/list-users", {"object": {"type": "document", "id": "1"}, "relation": "can_read", "user_filters": [{"type": "user"}]}),
    ("reads tuples", "POST", "/stores/{store}/read", {"tuple_key": {"object": "document:1"}}),
    ("reads changes (enum, time, query)", "GET", "/stores/{store}/changes?page_size=1&type=document", None),
    ("writes assertions", "PUT", "/stores/{store}/assertions/{model}", {"assertions": [{"tuple_key": tuple_key("can_read", "document:1"), "expectation": True}]}),
    ("reads assertions", "GET", "/stores/{store}/assertions/{model}", None),
    ("lists stores", "GET", "/stores", None),
    # The service's own codes: gRPC numbers from 1000 on.
    ("passes on an unknown relation", "POST", "/stores/{store}/check", {"tuple_key": tuple_key("nope", "document:1")}),
    ("passes on an invalid argument", "POST", "/stores/{store}/check", {"tuple_key": {"user": "user:anne", "relation": "can_read"}}),
    ("passes on a tuple that exists", "POST", "/stores/{store}/write", {"writes": {"tuple_keys": [tuple_key("reader", "document:1")]}}),
    ("passes on a store that does not exist", "GET", "/stores/01ARZ3NDEKTSV4RRFFQ69G5FAV", None),
    ("deletes a store", "DELETE", "/stores/{store}", None),
]

# What Portico refuses itself: title, method, path, body, status.
REFUSALS = [
    ("refuses a body that is no JSON", "POST", "/stores", b'{"name', 400),
    ("refuses an unknown field", "POST", "/stores", {"nam": "demo"}, 400),
    ("refuses a path that nobody serves", "GET", "/nothing", None, 404),
    ("refuses a method that the path does not have", "PATCH", "/stores", {}, 405),
]


class Side:
    """One of the two gateways, with a store of its own."""

    def __init__(self, base):
        self.base = base
        self.names = {}

    def call(self, method, path, body=None):
        """Status and text of the reply."""
        for key, value in self.names.items():
            path = path.replace("{%s}" % key, value)
        headers = {"accept": "application/json"}
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body)
            for key, value in self.names.items():
                body = body.replace("{%s}" % key, value)
            body = body.encode()
        if body is not None:
            headers["content-type"] = "application/json"
        request = urllib.request.Request(self.base + path, body, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=10) as reply:
                return reply.status, reply.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()


# OpenFGA's gateway writes fields that stand at their default, Portico leaves them out as the JSON mapping has it.
DEFAULTS = ("", None, [], {}, False, 0, "TUPLE_OPERATION_WRITE")


def comparable(value):
    """Without what the two are free to choose, and without what differs from run to run."""
    if isinstance(value, dict):
        if "objects" in value:  # comes in any order
            value = value | {"objects": sorted(value["objects"])}
        pairs = ((re.sub("[A-Z]", lambda upper: "_" + upper[0].lower(), key), comparable(item)) for key, item in value.items())
        return {key: item for key, item in pairs if item not in DEFAULTS}
    if isinstance(value, list):
        return [comparable(item) for item in value]
    if isinstance(value, str):
        value = re.sub(r"\b[0-9A-HJKMNP-TV-Z]{26}\b", "<id>", value)
        value = re.sub(r"^\d{4}-\d\d-\d\dT[\d:.]+Z$", "<time>", value)
        return re.sub(r"^[A-Za-z0-9+/]{28,}=*$", "<token>", value)
    return value


def parsed(text):
    """An object, or one that holds the text when it is none."""
    try:
        reply = json.loads(text)
    except ValueError:
        reply = None
    return reply if isinstance(reply, dict) else {"no object": text}


def meaning(status, text):
    """What has to be equal. Of a message, the last cause: OpenFGA's gateway leaves out what was around it."""
    reply = parsed(text)
    return f"failed: {str(reply.get('message')).split('caused by: ')[-1]}" if status >= 400 else comparable(reply)


def created(side, path, body, field):
    status, text = side.call("POST", path, body)
    reply = parsed(text)
    for name in (field, re.sub("_(.)", lambda letter: letter[1].upper(), field)):
        if name in reply:
            return reply[name]
    sys.exit(f"{side.base}{path} answers {status} {text}")


def await_schema(side):
    """The gateway may still be fetching the descriptors."""
    for _ in range(100):
        status, text = side.call("GET", "/stores")
        if status == 200:
            return
        time.sleep(0.1)
    sys.exit(f"{side.base}/stores answers {status} {text}")


def main():
    own, portico = map(Side, sys.argv[1:])
    passed = failed = 0

    def verdict(title, problem):
        nonlocal passed, failed
        print(f"third-party {title} ... {'FAILED' if problem else 'ok'}")
        if problem:
            failed += 1
            print("    " + problem.replace("\n", "\n    "))
        else:
            passed += 1

    await_schema(portico)
    for side in (own, portico):
        side.names["store"] = created(side, "/stores", {"name": "demo"}, "id")
        side.names["model"] = created(side, "/stores/{store}/authorization-models", MODEL, "authorization_model_id")
    for title, method, path, body in CALLS:
        want, got = (side.call(method, path, body) for side in (own, portico))
        same = meaning(*want) == meaning(*got) and (want[0] < 300) != title.startswith("passes on")
        verdict(title, "" if same else f"OpenFGA: {want[0]} {want[1]}\nPortico: {got[0]} {got[1]}")
        if own.base != portico.base and got[0] >= 400:
            # No HTTP status stands for a code outside the table: it is 500, and the number is kept.
            code = parsed(got[1]).get("code")
            kept = isinstance(code, int) and (got[0] == 500) == (code >= 1000)
            verdict(f"{title}: keeps the number {code}", "" if kept else f"{got[0]} {got[1]}")
    if own.base != portico.base:
        for title, method, path, body, status in REFUSALS:
            got = portico.call(method, path, body)
            verdict(title, "" if got[0] == status else f"{got[0]} {got[1]}, expected {status}")
    print(f"{passed} passed, {failed} failed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
