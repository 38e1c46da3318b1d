#!/usr/bin/env python3
"""Compares h2spec reports with the cases known to fail: h2spec.py KNOWN.txt REPORT.xml…

A case passes when it passes in one of the reports. Fails on a failing case that is not known, and on a known one that passes or does not exist. The list of known cases
only shrinks by being edited: it says what it claims.
"""
import sys
import xml.etree.ElementTree as xml


def known_cases(path):
    """A case is an unindented line `package: title`; the indented lines below it say why it cannot pass."""
    known, case = {}, None
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            if not line.strip() or line.startswith("#"):
                continue
            if not line[0].isspace():
                case = line.strip()
                known[case] = ""
            elif case is None:
                sys.exit(f"{path}: a reason stands before any case: {line.strip()}")
            else:
                known[case] += line.strip() + " "
    for case, reason in known.items():
        if not reason:
            sys.exit(f"{path}: no reason for {case}")
    return known


def verdicts_of(path):
    """`passed`, `skipped` or what went wrong, by case."""
    verdicts = {}
    for case in xml.parse(path).iter("testcase"):
        wrong = case.find("error") if case.find("error") is not None else case.find("failure")
        verdict = "skipped" if case.find("skipped") is not None else "passed" if wrong is None else wrong.text
        verdicts[f"{case.get('package')}: {case.get('classname')}"] = verdict
    return verdicts


def main():
    known_path, *reports = sys.argv[1:]
    known = known_cases(known_path)
    verdicts = {}
    for report in reports:
        passed_before = {name for name, verdict in verdicts.items() if verdict == "passed"}
        verdicts |= {name: verdict for name, verdict in verdicts_of(report).items() if name not in passed_before}
    failing = {name for name, verdict in verdicts.items() if verdict not in ("passed", "skipped")}

    for name in sorted(failing & known.keys()):
        print(f"known to fail: {name}\n    {known[name].strip()}")
    unexpected = sorted(failing - known.keys())
    for name in unexpected:
        print(f"FAILED {name}")
        for line in (verdicts[name] or "").splitlines():
            print(f"    {line}")
    stale = sorted(known.keys() - failing)
    for name in stale:
        print(f"STALE  {name}\n    listed in {known_path}, but {verdicts.get(name, 'there is no such case')}")

    passed = sum(verdict == "passed" and name not in known for name, verdict in verdicts.items())
    wrong = len(unexpected) + len(stale)
    skipped = sum(verdict == "skipped" for verdict in verdicts.values()) + len(failing & known.keys())
    print(f"{passed} passed, {wrong} failed, {skipped} skipped")
    sys.exit(1 if wrong or not verdicts else 0)


if __name__ == "__main__":
    main()
