"""A cluster of three nodes on this machine, through `pyralog cluster`. The binary is PYRALOG_BIN, or the release build."""

import json
import os
import subprocess
import tempfile
import urllib.request

BINARY = os.environ.get("PYRALOG_BIN", "target/release/pyralog")


class Cluster:
    def __init__(self, base_port: int, memory_limit: str, nodes: int = 3):
        self.dir = tempfile.mkdtemp(prefix="pyralog-cluster-")
        self.run("up", "--nodes", str(nodes), "--base-port", str(base_port), "--memory-limit", memory_limit)

    def run(self, *arguments: str) -> str:
        command = [BINARY, "cluster", *arguments, "--dir", self.dir]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{' '.join(command)}: {done.stdout}{done.stderr}")
        return done.stdout

    def nodes(self) -> list[dict]:
        return json.loads(self.run("status", "--json"))["nodes"]

    def leader(self) -> dict:
        return next(node for node in self.nodes() if "p0" in node["leads"])

    def end(self) -> None:
        self.run("stop")
        self.run("purge")


def sql(node: dict, text: str) -> dict:
    request = urllib.request.Request(node["http"] + "/sql", data=text.encode(), method="POST")
    with urllib.request.urlopen(request, timeout=600) as answer:
        body = answer.read()
    return json.loads(body) if body else {}


def put(node: dict, bucket: str, key: str) -> None:
    """100 bytes under a key."""
    request = urllib.request.Request(f"{node['http']}/kv/{bucket}/{key}", data=b"x" * 100, method="PUT")
    with urllib.request.urlopen(request, timeout=20) as answer:
        answer.read()


def percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0
