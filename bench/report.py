"""The table: medians over the rounds, and how they stand to the first gateway's."""
import json
import statistics
from dataclasses import dataclass

from loads import LOADS

# What is measured, its heading, and its form.
COLUMNS = {
    "cpu_us": ("CPU us", "{:.1f}"),
    "rate": ("req/s", "{:.0f}"),
    "p50_us": ("p50 us", "{:.0f}"),
    "p99_us": ("p99 us", "{:.0f}"),
    "p999_us": ("p99.9 us", "{:.0f}"),
    "mib": ("MiB", "{:.1f}"),
    "start_ms": ("start ms", "{:.0f}"),
}
RATIOS = {column: heading.removesuffix(" us").removesuffix(" ms") + " x" for column, (heading, _) in COLUMNS.items()}


@dataclass
class Row:
    """A gateway under a load."""

    load: str
    gateway: str
    figures: dict  # by column
    ratios: dict  # the same to those of the first gateway


def rows(results, first):
    made, base, direct = [], {}, {}
    for (load, name), seen in sorted(results.items(), key=lambda item: order(results, item[0])):
        figures = {column: median(seen, column) for column in COLUMNS}
        if name == "direct":
            direct[load] = figures
            made.append(Row(load, name, figures, {}))
            continue
        if name == first:
            base[load] = figures
        ratios = {column: ratio(column, figures, base.get(load), direct.get(load)) for column in COLUMNS}
        made.append(Row(load, name, figures, ratios))
    return made


def order(results, key):
    """Loads as they were run first; the backend alone before all gateways."""
    loads = list(dict.fromkeys(load for load, _ in results))
    names = list(results)
    return loads.index(key[0]), key[1] != "direct", names.index(key)


def median(seen, column):
    found = [value for figure in seen if (value := getattr(figure, column)) is not None]
    return statistics.median(found) if found else None


def ratio(column, figures, base, direct):
    """Of times at a fixed rate, what the gateway adds to the backend's own; None without what it is the ratio to."""
    mine, its = figures[column], base and base[column]
    own = (direct and direct[column]) if column.startswith("p") else 0
    if mine is None or its is None or own is None:
        return None
    return (mine - own) / (its - own) if its > own else None


def text(all_rows, memory):
    lines = []
    for loads in (lambda row: row.figures["p99_us"] is None, lambda row: row.figures["p99_us"] is not None):
        wanted = [row for row in all_rows if loads(row)]
        if wanted:
            lines += [table(wanted), ""]
    lines += growth(all_rows)
    if memory:
        most = ", ".join(f"{name} {mib:.0f} MiB" for name, mib in memory.items())
        lines.append(f"most memory of all loads in the plain setting: {most}")
    return "\n".join(lines).rstrip()


def table(wanted):
    columns = [column for column in COLUMNS if any(row.figures[column] is not None for row in wanted)]
    head = ["load", "gateway", *(COLUMNS[column][0] for column in columns), *(RATIOS[column] for column in columns)]
    body = []
    for row in wanted:
        cells = [cell(COLUMNS[column][1], row.figures[column]) for column in columns]
        body.append([row.load, row.gateway, *cells, *(cell("{:.2f}", row.ratios.get(column)) for column in columns)])
    return aligned([head, *body])


def growth(all_rows):
    """How cost and throughput change as one thing grows, for each gateway beside its own smallest."""
    series = {}
    for row in all_rows:
        if row.load in LOADS and LOADS[row.load].series:
            what, size = LOADS[row.load].series
            series.setdefault((what, row.gateway), []).append((size, row.figures))
    lines = [["what grows", "gateway", "to", "CPU x", "req/s x", "MiB"]]
    for (what, name), seen in sorted(series.items()):
        seen.sort(key=lambda each: each[0])
        smallest = seen[0][1]
        for size, figures in seen:
            changes = (cell("{:.2f}", ratio(column, figures, smallest, None)) for column in ("cpu_us", "rate"))
            lines.append([what, name, str(size), *changes, cell("{:.0f}", figures["mib"])])
    return [aligned(lines), ""] if series else []


def aligned(lines):
    widths = [max(map(len, column)) for column in zip(*lines)]
    return "\n".join(
        "  ".join(part.ljust(width) if place < 2 else part.rjust(width) for place, (part, width) in enumerate(zip(line, widths)))
        for line in lines
    )


def cell(form, value):
    return "-" if value is None else form.format(value)


def as_json(results):
    return json.dumps({f"{load}|{name}": [vars(figure) for figure in seen] for (load, name), seen in results.items()}, indent=1)
