"""Measures the peers and writes what was measured."""

import argparse
import datetime
import os
import pathlib
import platform
import re
import resource
import shutil
import subprocess
import sys
import tempfile

from . import gateway, peers, report
from .measure import OURS, TLS, WORKLOADS, Meter
from .peers import haproxy_connections
from .world import World

BEGIN, END = "<!-- peers: written by benches/peers/run -->\n", "<!-- peers: end -->\n"


def main():
    options = read_options()
    raise_file_limit()
    chosen = [workload for workload in WORKLOADS if not options.only or workload.name in options.only]
    folder = pathlib.Path(tempfile.mkdtemp(prefix="peers-"))
    started = []
    try:
        world = World(folder / "world", options.users, proxy_core=0, load_core=1)
        upstream = world.start_upstream(options.traffic / "upstream")
        started.append(upstream)
        running = {}
        meter = Meter(world, options.traffic / "load", options.seconds)
        texts, first, results = [], None, {}

        def run(name):
            """The peer of that name, started when it is first asked for; None where it is not installed."""
            if name.endswith(" fresh"):
                same = run(name.removesuffix(" fresh"))
                return same and same.with_fresh_tokens(name)
            if name not in running:
                running[name] = start(name, world, options)
                if running[name] is not None:
                    started.append(running[name].process)
            return running[name]

        each = {}
        if not options.only or "idle" in options.only:
            each, connections = idle(world, meter, options)
        for workload in chosen:
            there = [peer for peer in map(run, workload.peers) if peer is not None]
            measured = meter.workload(workload, there, options.rounds, tell)
            results[workload.name] = measured
            texts.append(report.table(workload, measured))
            first = first or (workload, measured)
        if each:
            texts.append(report.idle_table(each, connections))
    finally:
        for process in reversed(started):
            process.end()
        shutil.rmtree(folder, ignore_errors=True)
    text = "\n".join([machine(options), report.targets(results, each, instructions()), *texts])
    print(text)
    if options.write and first:
        write(text, report.plot(*first), options.write)


def raise_file_limit():
    """The idle connections are files of the load and of each peer; only root may have more than the hard limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(hard, 65536),) * 2)
    except (ValueError, PermissionError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def read_options():
    parser = argparse.ArgumentParser(prog="benches/peers/run", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="rounds of each workload (7)")
    parser.add_argument("--seconds", type=float, default=2.5, help="seconds of each peer in a round (2.5)")
    parser.add_argument("--users", type=int, default=1000, help="users, each with a token of their own (1000)")
    parser.add_argument("--connections", type=int, default=10_000, help="idle connections (10000)")
    parser.add_argument("--only", nargs="*", help="workloads: " + " ".join([w.name for w in WORKLOADS] + ["idle"]))
    parser.add_argument("--write", type=pathlib.Path, help="the document that the tables go into, and the plot beside it")
    parser.add_argument("--gateway", type=pathlib.Path, required=True, help=argparse.SUPPRESS)
    parser.add_argument("--unprofiled", type=pathlib.Path, help=argparse.SUPPRESS)
    parser.add_argument("--traffic", type=pathlib.Path, required=True, help=argparse.SUPPRESS)
    parser.add_argument("--pingora", type=pathlib.Path, help=argparse.SUPPRESS)
    parser.add_argument("--envoy", type=pathlib.Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def start(name, world, options):
    """The peer of that name; none where it is not installed."""
    tell(f"starting {name}")
    match name:
        case "nginx":
            return peers.nginx(world, name)
        case "nginx logged":
            return peers.nginx(world, "nginx logged".replace(" ", "-"), log=True).called(name)
        case "nginx auth_request":
            return peers.nginx(world, "nginx-auth", auth=True).called(name)
        case "haproxy":
            return peers.haproxy(world, name)
        case "haproxy full":
            return peers.haproxy(world, "haproxy-full", full=True).called(name)
        case "envoy":
            return options.envoy and peers.envoy(world, name, options.envoy)
        case "envoy full":
            return options.envoy and peers.envoy(world, "envoy-full", options.envoy, full=True).called(name)
        case "caddy":
            return peers.caddy(world, name)
        case "pingora":
            return options.pingora and peers.pingora(world, name, options.pingora)
        case "carta-gateway":
            return gateway.gateway(world, name, options.gateway)
        case "carta-gateway as cargo builds it":
            return options.unprofiled and gateway.gateway(world, "gateway-cargo", options.unprofiled).called(name)
        case "carta-gateway open":
            return gateway.gateway(world, "gateway-open", options.gateway).called(name)
        case "carta-gateway logged":
            return gateway.gateway(world, "gateway-logged", options.gateway, log=True).called(name)
        case "carta-gateway tls":
            return gateway.gateway(world, "gateway-tls", options.gateway, tls=True).called(name)
        case "carta-gateway two workers":
            return gateway.gateway(world, "gateway-two", options.gateway, workers=2).called(name)


def idle(world, meter, options):
    """Bytes for each idle connection, and how many there were, by peer; each in a process that does nothing else, as what
    one once needed for calls it may keep, and use for connections later, and the other way round."""
    each, connections = {}, {}
    for name in ["nginx", OURS, "haproxy", "envoy", "pingora", "nginx over TLS", "carta-gateway tls"]:
        tls = name.endswith("over TLS") or name.endswith(" tls")
        peer = start(name.removesuffix(" over TLS"), world, options)
        if peer is None:
            continue
        try:
            meter.run(peer, WORKLOADS[0] if not tls else TLS, 1.0)
            # haproxy counts two files for each.
            connections[name] = min(options.connections, haproxy_connections() - 50) // (5 if tls else 1)
            each[name] = meter.idle(peer, connections[name], tls)
        finally:
            peer.process.end()
        tell(f"idle: {name}")
    return each, connections


def instructions():
    """What a warm call takes, as it is kept beside the benches."""
    kept = pathlib.Path(__file__).parents[2].joinpath("instructions.toml").read_text()
    figure = re.search(rf"^\[{platform.machine()}\]\nwarm_get = (\d+)", kept, re.MULTILINE)
    return int(figure[1]) if figure else 0


def machine(options):
    cpu = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
    load = os.getloadavg()
    versions = [line_of(words) for words in (["nginx", "-v"], ["haproxy", "-v"], ["caddy", "version"])]
    if options.envoy:
        versions.append("envoy " + "".join(re.findall(r"version: [0-9a-f]+/([0-9.]+)", line_of([options.envoy, "--version"]))))
    if options.pingora:
        locked = pathlib.Path(__file__).parents[1].joinpath("pingora", "Cargo.lock").read_text()
        versions.append("pingora " + re.search(r'name = "pingora-core"\nversion = "([^"]+)"', locked)[1])
    built = "built by `scripts/pgo`" if "pgo" in options.gateway.parts else "as cargo builds it"
    versions.append(f"carta-gateway {built}")
    return (f"{datetime.date.today()}, {cpu[1] if cpu else platform.machine()}, {os.cpu_count()} cores, Linux "
            f"{platform.release()}; load average when done {load[0]:.1f}. {'; '.join(versions)}. {options.rounds} rounds of "
            f"{options.seconds:g} s, proxy on core 0, load and upstream on core 1, {options.users} users with RS256 tokens, "
            "64 connections where nothing else is said.\n")


def line_of(words):
    done = subprocess.run(words, capture_output=True, text=True)
    return (done.stdout + done.stderr).strip().splitlines()[0].removesuffix(" - https://haproxy.org/")


def write(text, plot, document):
    """Into the place that the document keeps for it."""
    whole = document.read_text()
    before, rest = whole.split(BEGIN, 1)
    _, after = rest.split(END, 1)
    picture = document.with_name("peers.svg")
    picture.write_text(plot)
    document.write_text(f"{before}{BEGIN}\n![CPU time a call]({picture.name})\n\n{text}\n{END}{after}")


def tell(what):
    print(what, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
