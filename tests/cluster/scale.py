"""What a partition costs: the measurements of the page on scale. Linux only, with `ss` (iproute2).

    PYRALOG_BIN=target/release/pyralog python tests/cluster/scale.py groups [nodes [partitions ...]]
    PYRALOG_BIN=target/release/pyralog python tests/cluster/scale.py rewrites [memory limit ...]
"""

import glob
import json
import os
import re
import subprocess
import sys
import time
import urllib.request

from local import Cluster, percentile, sql

SECONDS = 30
PORT = 23400


def process(pid: int) -> dict:
    with open(f"/proc/{pid}/stat") as stat:
        fields = stat.read().rsplit(")", 1)[1].split()
    with open(f"/proc/{pid}/io") as io:
        written = dict(line.split(": ") for line in io.read().splitlines())["write_bytes"]
    cpu = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    files = len(os.listdir(f"/proc/{pid}/fd"))
    return {"cpu": cpu, "threads": int(fields[17]), "files": files, "memory": int(fields[21]) * 4096, "written": int(written)}


def between_nodes(nodes: int) -> tuple[int, int]:
    """Segments with data and bytes that nodes have sent each other so far."""
    ports = "|".join(str(PORT + 10 * node + 2) for node in range(nodes))
    lines = subprocess.run(["ss", "-tin"], capture_output=True, text=True, check=True).stdout.splitlines()
    infos = [info for head, info in zip(lines, lines[1:]) if re.search(rf"ESTAB.*:({ports})\b", head)]
    counts = [[int(found) for found in re.findall(rf"\b{name}:(\d+)", " ".join(infos))] for name in ("data_segs_out", "bytes_sent")]
    return sum(counts[0]), sum(counts[1])


def groups(node: dict) -> list[dict]:
    with urllib.request.urlopen(node["http"] + "/health", timeout=10) as answer:
        return [group for group in json.load(answer)["groups"] if group["name"] != "meta"]


def even(nodes: list[dict]) -> float:
    """Waits until the first node leads no more than its share; how long that took."""
    begun = time.monotonic()
    count = len(groups(nodes[0]))
    while time.monotonic() - begun < 300 and sum(group["leader"] for group in groups(nodes[0])) > count // len(nodes) + 1:
        time.sleep(0.5)
    return time.monotonic() - begun


def idle(nodes: list[dict]) -> None:
    pids = [node["pid"] for node in nodes]
    before, sent, begun = [process(pid) for pid in pids], between_nodes(len(nodes)), time.monotonic()
    time.sleep(SECONDS)
    after, now, took = [process(pid) for pid in pids], between_nodes(len(nodes)), time.monotonic() - begun
    cpu = [f"{100 * (new['cpu'] - old['cpu']) / took:.1f} %" for old, new in zip(before, after)]
    last = after[0]
    print(f"  idle: {', '.join(cpu)} of a core; {last['threads']} threads, {last['files']} files, {last['memory'] / 1e6:.0f} MB; all nodes", end=" ")
    print(f"send {(now[0] - sent[0]) / took:.0f} segments, {(now[1] - sent[1]) / took:.0f} bytes a second")


def timed(node: dict, statements: list[str]) -> list[float]:
    times = []
    for statement in statements:
        begun = time.monotonic()
        sql(node, statement)
        times.append(1e3 * (time.monotonic() - begun))
    return times


def measure_groups(count: int, partitions: int) -> None:
    os.environ["PYRALOG_PARTITIONS"] = str(partitions)
    cluster = Cluster(PORT, "300MB", count)
    nodes = cluster.nodes()
    print(f"{count} nodes, {partitions} partitions: leaders even after {even(nodes):.0f} s")
    time.sleep(5)
    idle(nodes)
    made = timed(nodes[0], [f"CREATE TABLE t{table} (id BIGINT PRIMARY KEY, v BIGINT)" for table in range(12)])
    sql(nodes[0], "INSERT INTO t0 VALUES (7, 7)")
    before = [process(node["pid"])["cpu"] for node in nodes]
    entries, begun = sum(group["last_index"] for group in groups(nodes[0])), time.monotonic()
    reads: list[float] = []
    while time.monotonic() - begun < 10:
        reads += timed(nodes[0], ["SELECT v FROM t0 WHERE id = 7"])
    took = time.monotonic() - begun
    entries = sum(group["last_index"] for group in groups(nodes[0])) - entries
    cpu = sum(process(node["pid"])["cpu"] for node in nodes) - sum(before)
    print(f"  CREATE TABLE {percentile(made, 0.5):.1f} ms; a read {percentile(reads, 0.5):.2f} ms (p99 {percentile(reads, 0.99):.2f}),", end=" ")
    print(f"{1e3 * cpu / len(reads):.2f} ms of all nodes' cores; meanwhile {entries / partitions / took:.2f} entries a second in each group")
    cluster.end()


def measure_rewrites(memory: str) -> None:
    """How often bytes of random keys are written, over half a gigabyte of others."""
    os.environ["PYRALOG_PARTITIONS"] = "1"
    cluster = Cluster(PORT, memory, 1)
    node, folder = cluster.nodes()[0], cluster.dir
    text = "'some text of about sixty bytes, so that a row has about hundred ' || value"
    sql(node, "CREATE TABLE big (id BIGINT PRIMARY KEY, a BIGINT, b VARCHAR)")
    sql(node, f"INSERT INTO big SELECT value * 16, value, {text} FROM generate_series(1, 5000000)")
    sql(node, "CHECKPOINT")
    time.sleep(20)
    stored = sum(map(os.path.getsize, glob.glob(folder + "/**/r*/*.arrow", recursive=True)))
    before, rows = process(node["pid"])["written"], 0
    for part in range(100):
        key = f"((value * 7919 + {part} * 104729) % 5000000) * 16 + 1 + {part % 15}"
        sql(node, f"INSERT INTO big SELECT {key}, value, {text} FROM generate_series(1, 6000) ON CONFLICT DO NOTHING")
        rows += 6000
    sql(node, "CHECKPOINT")
    time.sleep(30)
    written = process(node["pid"])["written"] - before
    print(f"memory limit {memory}: {rows * 100 / 1e6:.0f} MB of random keys over {stored / 1e6:.0f} MB: {written / 1e6:.0f} MB written")
    cluster.end()


def main() -> None:
    match sys.argv[1:]:
        case ["rewrites", *limits]:
            for limit in limits or ["4GB", "64MB"]:
                measure_rewrites(limit)
        case ["groups", *numbers]:
            count, *partitions = [int(number) for number in numbers] or [3]
            for number in partitions or [1, 16, 32, 64]:
                measure_groups(count, number)
        case _:
            raise SystemExit(__doc__)


main()
