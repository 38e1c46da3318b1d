"""The chart: bars of what each gateway takes beside the first one, as SVG."""
from html import escape

import report

PANELS = {
    "cpu_us": "CPU per request (less is better)",
    "rate": "Requests per second (more is better)",
    "p99_us": "p99 that the gateway adds at a fixed rate (less is better)",
    "mib": "Memory (less is better)",
    "start_ms": "Start to open port (less is better)",
}
COLOURS = ["#8a8f98", "#d9480f", "#1971c2", "#2f9e44", "#9c36b5", "#e8a800", "#0c8599", "#c2255c", "#5c940d"]
LABEL, BARS, BAR, GAP, HEAD = 190, 560, 11, 9, 44
WIDTH = LABEL + BARS + 70


def svg(rows):
    # The backend alone has no ratio, and is what the others' latency is beside.
    rows = [row for row in rows if row.gateway != "direct"]
    colours = dict(zip(dict.fromkeys(row.gateway for row in rows), COLOURS * len(rows)))
    parts, top = legend(colours), 40
    for column, title in PANELS.items():
        wanted = [row for row in rows if row.ratios.get(column) is not None and shown(row, column)]
        if wanted:
            drawn, top = panel(wanted, column, title, colours, top)
            parts += drawn
    style = "text{font:11px system-ui,sans-serif;fill:#333}.h{font-size:13px;font-weight:600}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top}" width="{WIDTH}" height="{top}">'
        f'<style>{style}</style><rect width="100%" height="100%" fill="#fff"/>{"".join(parts)}</svg>\n'
    )


def shown(row, column):
    """Of the loads at a fixed rate, how long they take: CPU is that of the same load at full speed."""
    return column.startswith("p") or row.figures["p99_us"] is None


def legend(colours):
    parts, x = [], 12
    for name, colour in colours.items():
        parts.append(f'<rect x="{x}" y="12" width="10" height="10" fill="{colour}"/>' + label(x + 14, 21, name))
        x += 30 + 7 * len(name)
    return parts


def panel(wanted, column, title, colours, top):
    # A bar of four times the first gateway's ends in a figure alone: the others would be too short to compare.
    limit = min(4.0, max(1.0, max(row.ratios[column] for row in wanted)))
    parts, y, load = [label(12, top + 18, title, "h")], top + HEAD - 12, None
    one = LABEL + BARS / limit
    bottom = y + sum(BAR for _ in wanted) + GAP * len({row.load for row in wanted})
    parts.append(f'<line x1="{one:.1f}" x2="{one:.1f}" y1="{y}" y2="{bottom}" stroke="#bbb" stroke-dasharray="3 3"/>')
    for row in wanted:
        if row.load != load:
            load, y = row.load, y + GAP
            parts.append(label(LABEL - 8, y + 9, load, anchor="end"))
        value = row.ratios[column]
        width = BARS * max(0.0, min(limit, value)) / limit
        form = report.COLUMNS[column][1].format(row.figures[column])
        parts.append(f'<rect x="{LABEL}" y="{y}" width="{width:.1f}" height="{BAR - 1}" fill="{colours[row.gateway]}">')
        parts.append(f"<title>{escape(f'{row.load}, {row.gateway}: {form} {report.COLUMNS[column][0]}')}</title></rect>")
        parts.append(label(LABEL + width + 4, y + 9, f"{value:.2f}"))
        y += BAR
    return parts, y + 16


def label(x, y, words, kind="", anchor="start"):
    return f'<text x="{x:.1f}" y="{y}" text-anchor="{anchor}" class="{kind}">{escape(words)}</text>'
