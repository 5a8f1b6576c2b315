"""The tables and the plot."""

import html

from .measure import paired, spread


def table(workload, measured):
    """Markdown of one workload."""
    base = measured[workload.peers[0]]
    lines = [f"### {workload.title}", "",
             "| proxy | CPU µs a call (min–max) | user | system | CPU to nginx (quartiles) | calls/s | p50 µs | p99 µs | p99.9 µs |",
             "|---|---|---|---|---|---|---|---|---|"]
    for name, rounds in measured.items():
        cpu, least, most = spread([one.cpu for one in rounds])
        ratio, low, high = paired(rounds, base, lambda one: one.cpu)
        median = lambda value: spread([value(one) for one in rounds])[0]
        lines.append(
            f"| {name} | {cpu:.1f} ({least:.1f}–{most:.1f}) | {median(lambda one: one.user):.1f} "
            f"| {median(lambda one: one.system):.1f} | {ratio:.2f} ({low:.2f}–{high:.2f}) "
            f"| {median(lambda one: one.rate):,.0f} | {median(lambda one: one.p50):,.0f} "
            f"| {median(lambda one: one.p99):,.0f} | {median(lambda one: one.p999):,.0f} |")
    if workload.moved:
        lines.append("")
        for name, rounds in measured.items():
            speed, _, _ = spread([workload.moved / one.cpu for one in rounds])
            lines.append(f"- {name}: {speed:,.0f} MB for each second of CPU")
    return "\n".join(lines) + "\n"


def idle_table(bytes_each, connections):
    lines = [f"### {connections:,} idle connections", "", "| proxy | KiB a connection |", "|---|---|"]
    lines += [f"| {name} | {value / 1024:.1f} |" for name, value in bytes_each.items()]
    return "\n".join(lines) + "\n"


def plot(workload, measured):
    """Bars of CPU time a call, split into user space and system, as SVG."""
    rows = []
    for name, rounds in measured.items():
        user, _, _ = spread([one.user for one in rounds])
        system, _, _ = spread([one.system for one in rounds])
        rows.append((name, user, system))
    rows.sort(key=lambda row: row[1] + row[2])
    left, width, row, top = 170, 520, 26, 44
    scale = width / max(user + system for _, user, system in rows)
    height = top + row * len(rows) + 20
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + width + 90}" height="{height}" '
             f'viewBox="0 0 {left + width + 90} {height}" font-family="sans-serif" font-size="13">',
             f'<rect width="100%" height="100%" fill="#ffffff"/>',
             f'<text x="8" y="20" font-weight="bold">CPU microseconds a call: {html.escape(workload.title)}</text>',
             '<text x="8" y="37" fill="#666666" font-size="11">dark: user space; light: the kernel; median of the rounds</text>']
    for number, (name, user, system) in enumerate(rows):
        y = top + row * number
        dark, light = ("#b4451f", "#eab79f") if name.startswith("carta") else ("#3b5b7a", "#b3c4d6")
        parts.append(f'<text x="{left - 8}" y="{y + 17}" text-anchor="end">{html.escape(name)}</text>')
        parts.append(f'<rect x="{left}" y="{y + 4}" width="{user * scale:.1f}" height="{row - 8}" fill="{dark}"/>')
        parts.append(f'<rect x="{left + user * scale:.1f}" y="{y + 4}" width="{system * scale:.1f}" height="{row - 8}" '
                     f'fill="{light}"/>')
        parts.append(f'<text x="{left + (user + system) * scale + 6:.1f}" y="{y + 17}">{user + system:.1f}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"
