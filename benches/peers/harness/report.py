"""The tables and the plot."""

import html

from .measure import OURS, paired, spread


def table(workload, measured):
    """Markdown of one workload."""
    first = workload.peers[0]
    base = measured[first]
    lines = [f"### {workload.title[0].upper()}{workload.title[1:]}", "",
             f"| proxy | CPU µs a call (min–max) | user | system | CPU to {first} (quartiles) | calls/s (min–max) "
             "| p50 µs | p99 µs (min–max) | p99.9 µs | MiB |",
             "|---|---|---|---|---|---|---|---|---|---|"]
    for name, rounds in measured.items():
        cpu, least, most = spread([one.cpu for one in rounds])
        ratio, low, high = paired(rounds, base, lambda one: one.cpu)
        rate, slowest, fastest = spread([one.rate for one in rounds])
        p99, best, worst = spread([one.p99 for one in rounds])
        median = lambda value: spread([value(one) for one in rounds])[0]
        lines.append(
            f"| {name} | {cpu:.1f} ({least:.1f}–{most:.1f}) | {median(lambda one: one.user):.1f} "
            f"| {median(lambda one: one.system):.1f} | {ratio:.2f} ({low:.2f}–{high:.2f}) "
            f"| {rate:,.0f} ({slowest:,.0f}–{fastest:,.0f}) | {median(lambda one: one.p50):,.0f} "
            f"| {p99:,.0f} ({best:,.0f}–{worst:,.0f}) | {median(lambda one: one.p999):,.0f} "
            f"| {median(lambda one: one.memory) / 2**20:,.0f} |")
    if workload.moved:
        lines.append("")
        for name, rounds in measured.items():
            speed, least, most = spread([workload.moved / one.cpu for one in rounds])
            lines.append(f"- {name}: {speed:,.0f} MB for each second of CPU ({least:,.0f}–{most:,.0f})")
    return "\n".join(lines) + "\n"


def idle_table(each, connections):
    lines = ["### Idle connections", "", "| proxy | connections, each asked once | KiB for each |", "|---|---|---|"]
    lines += [f"| {name} | {connections[name]:,} | {value / 1024:.1f} |" for name, value in each.items()]
    return "\n".join(lines) + "\n"


def targets(results, idle, instructions):
    """Markdown: what is promised, and what was measured of it; results by the workload's name."""
    cpu = lambda one: one.cpu
    rows = [("user-space instructions of a small GET, as `scripts/instructions` counts them", "≤ 20,000",
             f"{instructions:,}", instructions <= 20_000)]

    def ratio(what, workload, ours, theirs, most, value=cpu):
        measured = results.get(workload, {})
        if ours in measured and theirs in measured:
            middle, low, high = paired(measured[ours], measured[theirs], value)
            rows.append((what, f"≤ {most:.2f} × {theirs}", f"{middle:.2f} ({low:.2f}–{high:.2f})", middle <= most))

    def added(what, workload, ours, theirs, most):
        measured = results.get(workload, {})
        if ours in measured and theirs in measured:
            more = [one.cpu - other.cpu for one, other in zip(measured[ours], measured[theirs])]
            middle, low, high = spread(more)
            verdict = None if most is None else middle <= most
            target = "one signature check (30 µs) and nothing that grows" if most is None else f"≤ {most} µs"
            rows.append((what, target, f"{middle:.1f} µs ({low:.1f}–{high:.1f})", verdict))

    def bulk(what, workload):
        measured = results.get(workload, {})
        if OURS in measured and "nginx" in measured:
            middle, low, high = paired(measured["nginx"], measured[OURS], cpu)
            rows.append((what, "≥ 0.95 × nginx", f"{middle:.2f} ({low:.2f}–{high:.2f})", middle >= 0.95))

    ratio("CPU of a small GET", "small", OURS, "nginx", 0.90)
    ratio("CPU of a small GET", "small", OURS, "nginx auth_request", 0.48)
    ratio("CPU of a small GET", "small", OURS, "haproxy full", 0.25)
    ratio("CPU of a small GET", "small", OURS, "envoy full", 0.20)
    ratio("CPU with the access log on", "logged", "carta-gateway logged", "nginx logged", 1.00)
    added("what authorization adds to the same gateway with it off", "small", OURS, "carta-gateway open", 0.6)
    added("what a token first seen adds", "fresh", "carta-gateway fresh", OURS, None)
    bulk("MB for each second of CPU at 1 MiB", "1m")
    bulk("MB for each second of CPU, uploads of 64 KiB", "upload")
    ratio("CPU over TLS 1.3", "tls", "carta-gateway tls", "nginx", 0.90)
    ratio("CPU over HTTP/2", "h2", "carta-gateway tls", "nginx", 1.00)
    ratio("p99 at half of nginx's saturation", "half", OURS, "nginx", 1.10, lambda one: one.p99)
    ratio("CPU with two workers, both on one core", "small", "carta-gateway two workers", OURS, 1.10)
    if OURS in idle:
        kib = idle[OURS] / 1024
        rows.append(("memory of an idle connection", "≤ 12 KiB", f"{kib:.1f} KiB", kib <= 12))
    lines = ["### What is promised", "", "| what | target | measured (quartiles, or min–max) | met |", "|---|---|---|---|"]
    said = {True: "yes", False: "**no**", None: "–"}
    lines += [f"| {what} | {target} | {measured} | {said[met]} |" for what, target, measured, met in rows]
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
