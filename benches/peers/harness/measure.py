"""Rounds of load, peer after peer, so that what the machine does besides hits all of them alike."""

import dataclasses
import json
import statistics
import subprocess
import time

PLAIN = ["nginx", "haproxy", "envoy", "caddy", "pingora"]
FULL = ["nginx auth_request", "haproxy full", "envoy full"]
OURS = "carta-gateway"


@dataclasses.dataclass
class Workload:
    """What is asked of which peers; the first is what the others are compared with."""

    name: str
    title: str
    peers: list
    words: list
    path: str = "/bench/echo/b/128"
    tls: bool = False
    #: Calls a second as a part of what the first peer answered at saturation.
    of_saturation: float = 0.0
    #: Calls a second.
    rate: float = 0.0
    #: Bytes that a call moves, where MB per CPU second is what counts.
    moved: int = 0


EVERYBODY = ["nginx", OURS, "carta-gateway open", *FULL, *PLAIN[1:]]

WORKLOADS = [
    Workload("small", "GET of 128 bytes, kept connections", [*EVERYBODY, "carta-gateway two workers", "carta-gateway as cargo builds it"], []),
    Workload("logged", "the same, access log on", ["nginx logged", "carta-gateway logged"], []),
    Workload("half", "the same at half of nginx's saturation", ["nginx", OURS, "haproxy", "pingora", "nginx auth_request"], [],
             of_saturation=0.5),
    Workload("tenth", "the same at a tenth of nginx's saturation", EVERYBODY, [], of_saturation=0.1),
    Workload("fresh", "1,000 calls a second, each with a token that was never seen before",
             ["carta-gateway", "carta-gateway fresh", "haproxy full", "envoy full fresh"], [], rate=1000.0),
    Workload("16k", "GET of 16 KiB", ["nginx", OURS, "haproxy"], [], path="/bench/echo/b/16384"),
    Workload("1m", "GET of 1 MiB", ["nginx", OURS, "haproxy"], ["--connections", "16"], path="/bench/echo/b/1048576",
             moved=1 << 20),
    Workload("upload", "POST of 64 KiB", ["nginx", OURS, "haproxy"], ["--upload", "65536"], path="/bench/echo/upload",
             moved=1 << 16),
    Workload("tls", "GET of 128 bytes over TLS 1.3", ["nginx", "carta-gateway tls", "haproxy", "envoy", "caddy"], [], tls=True),
    Workload("h2", "GET of 128 bytes over HTTP/2 and TLS 1.3", ["nginx", "carta-gateway tls", "haproxy", "envoy", "caddy"],
             ["--kind", "http2", "--connections", "8", "--streams", "8"], tls=True),
    Workload("close", "a connection for each GET of 128 bytes", ["nginx", OURS, "haproxy"], ["--kind", "close"]),
    Workload("websocket", "WebSocket echo of 64 bytes", ["nginx", OURS, "haproxy", "envoy", "caddy"],
             ["--kind", "websocket"], path="/bench/ws"),
]


TLS = next(workload for workload in WORKLOADS if workload.name == "tls")


@dataclasses.dataclass
class Round:
    """One peer's share of a round: microseconds of CPU a call, calls a second, latencies in microseconds, bytes held."""

    user: float
    system: float
    rate: float
    p50: float
    p99: float
    p999: float
    memory: int

    @property
    def cpu(self):
        return self.user + self.system


class Meter:
    def __init__(self, world, load, seconds):
        self.world, self.load, self.seconds = world, load, seconds

    def words(self, peer, workload, tokens):
        path = workload.path
        if peer.name == "carta-gateway open":
            path = path.replace("/echo/", "/open/")
        port = peer.tls if workload.tls else peer.plain
        words = ["taskset", "-c", self.world.load_core, self.load, "--port", port, "--path", path,
                 "--tokens", tokens, *workload.words]
        if workload.tls:
            words += ["--ca", self.world.path("cert.pem")]
        return list(map(str, words))

    def run(self, peer, workload, seconds, rate=0.0):
        tokens = self.world.path("tokens")
        if peer.fresh:
            # One for each call, and some to spare for those that come a little early.
            tokens = self.world.fresh_tokens(int(rate * seconds) + 256)
        words = [*self.words(peer, workload, tokens), "--seconds", str(seconds), "--rate", str(rate)]
        before, ran = peer.process.cpu(), peer.process.ran()
        done = subprocess.run(words, capture_output=True, text=True, timeout=seconds + 60)
        after, ran = peer.process.cpu(), peer.process.ran() - ran
        if done.returncode != 0:
            raise RuntimeError(f"load on {peer.name} ({workload.name}) failed:\n{done.stderr[-2000:]}")
        seen = json.loads(done.stdout)
        if seen["errors"] or not seen["requests"]:
            raise RuntimeError(f"{peer.name} ({workload.name}): {seen['errors']} errors: {seen['why']}")
        # The kernel splits what a process ran into user space and system by hundredths of a second.
        split = [now - then for now, then in zip(after, before)]
        micros = [1e6 * ran * part / max(sum(split), 1e-9) / seen["requests"] for part in split]
        return Round(*micros, seen["requests"] / seen["seconds"], seen["p50"], seen["p99"], seen["p999"],
                     peer.process.memory())

    def workload(self, workload, peers, rounds, told):
        """All rounds, by peer's name."""
        measured = {peer.name: [] for peer in peers}
        rate = workload.rate
        for peer in peers:
            warm = self.run(peer, workload, 1.0, rate)
            if workload.of_saturation and not rate:
                rate = warm.rate * workload.of_saturation
        for number in range(rounds):
            # Another peer begins each round, and none is always after the same one.
            turn = number % len(peers)
            order = peers[turn:] + peers[:turn]
            for peer in order if number % 2 == 0 else order[::-1]:
                measured[peer.name].append(self.run(peer, workload, self.seconds, rate))
            told(f"{workload.name}: round {number + 1} of {rounds}")
        return measured

    def idle(self, peer, connections, tls=False):
        """Bytes for each of so many connections that called once, and do nothing for some seconds."""
        port, more = (peer.tls, ["--ca", self.world.path("cert.pem")]) if tls else (peer.plain, [])
        words = ["taskset", "-c", str(self.world.load_core), self.load, "--port", port, "--kind", "idle",
                 "--connections", connections, "--tokens", self.world.path("tokens"), *more]
        before = peer.process.memory()
        holder = subprocess.Popen(list(map(str, words)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        try:
            if holder.stdout.readline().strip() != "open":
                raise RuntimeError(f"{peer.name} does not hold {connections} connections")
            time.sleep(3)
            return (peer.process.memory() - before) / connections
        finally:
            holder.stdin.close()
            holder.wait(60)


def spread(values):
    """Median, least and most."""
    return statistics.median(values), min(values), max(values)


def paired(rounds, base, value):
    """The ratio to the base in the same round: median, first and third quartile."""
    ratios = sorted(value(one) / value(other) for one, other in zip(rounds, base))
    if len(ratios) < 2:
        return ratios[0], ratios[0], ratios[0]
    low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive")
    return middle, low, high
