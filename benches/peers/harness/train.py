"""Puts a gateway that counts what it does under each load once, for `scripts/pgo`: what no load shows is built to be small."""

import argparse
import pathlib
import shutil
import tempfile

from . import gateway
from .measure import WORKLOADS, Meter
from .world import World

USERS = 300

#: By how the gateway is set up: the loads, and how long each goes on, in seconds.
TURNS = [
    ("plain", {}, {"small": 5, "16k": 2, "1m": 2, "upload": 2, "close": 2, "websocket": 1}),
    ("tls", {"tls": True}, {"tls": 3, "h2": 3}),
    ("logged", {"log": True}, {"logged": 2}),
]


def main():
    parser = argparse.ArgumentParser(prog="harness.train", description=__doc__)
    parser.add_argument("--gateway", type=pathlib.Path, required=True)
    parser.add_argument("--traffic", type=pathlib.Path, required=True)
    options = parser.parse_args()
    workloads = {workload.name: workload for workload in WORKLOADS}
    folder = pathlib.Path(tempfile.mkdtemp(prefix="train-"))
    started = []
    try:
        world = World(folder / "world", USERS, proxy_core=0, load_core=1)
        started.append(world.start_upstream(options.traffic / "upstream"))
        meter = Meter(world, options.traffic / "load", 1.0)
        for name, setup, turns in TURNS:
            peer = gateway.gateway(world, name, options.gateway, **setup)
            started.append(peer.process)
            for workload, seconds in turns.items():
                meter.run(peer, workloads[workload], seconds)
            # It writes down what it counted as it ends.
            peer.process.end()
            if peer.process.child.returncode != 0:
                raise RuntimeError(f"{name} did not end by itself, and wrote no counts")
    finally:
        for process in reversed(started):
            process.end()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
