#!/usr/bin/env python3
"""Runs what asks for one server against a cluster: a stand-in for the binary, whose `serve` is the third node of three.

The node is not the founder, and follows at first, so that what it is asked goes to another one. The other two start with it, keep running
when it is killed and restarted, and end when its data directory is gone. All else goes to the binary itself, PYRALOG_REAL_BIN or the release
build, as it is."""

import os
import socket
import subprocess
import sys
import time
import urllib.request

BINARY = os.environ.get("PYRALOG_REAL_BIN", "target/release/pyralog")


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def ready(http: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{http}/health", timeout=2) as answer:
            return answer.status == 200
    except OSError:
        return False


def start(base: str, number: int, join: list[str], alike: list[str]) -> tuple[subprocess.Popen, str]:
    directory, peer, http = f"{base}.others/{number}", f"127.0.0.1:{free_port()}", free_port()
    os.makedirs(directory, exist_ok=True)
    log = open(f"{base}.others/{number}.log", "ab")
    command = [BINARY, "serve", "--data-dir", directory, "--peer-addr", peer, "--flight-addr", f"127.0.0.1:{free_port()}"]
    command += ["--http-addr", f"127.0.0.1:{http}", *alike, *(["--join", ",".join(join)] if join else [])]
    process = subprocess.Popen(command, stdout=log, stderr=log)
    until = time.time() + 60
    while not ready(http):
        if process.poll() is not None or time.time() > until:
            raise SystemExit(f"a companion did not start; see {log.name}")
        time.sleep(0.05)
    return process, peer


def companions(base: str, alike: list[str]) -> None:
    """Starts them, tells their addresses in a file, and ends them once the directory is gone."""
    first, one = start(base, 1, [], alike)
    second, two = start(base, 2, [one], alike)
    with open(f"{base}.others/peers.new", "w") as file:
        file.write(f"{one},{two}")
    os.rename(f"{base}.others/peers.new", f"{base}.others/peers")
    while os.path.isdir(base):
        time.sleep(0.5)
    for process in (first, second):
        process.terminate()
        process.wait(30)
    subprocess.run(["rm", "-rf", f"{base}.others"], check=True)


def value(arguments: list[str], name: str) -> str | None:
    return arguments[arguments.index(name) + 1] if name in arguments else None


def main() -> None:
    arguments = sys.argv[1:]
    base = value(arguments, "--data-dir")
    if arguments[:1] == ["serve"] and base and "--peer-addr" not in arguments:
        alike = [(name, value(arguments, name)) for name in ("--memory-limit", "--partitions")]
        os.makedirs(base, exist_ok=True)
        if not os.path.isdir(f"{base}.others"):
            os.makedirs(f"{base}.others")
            if os.fork() == 0:
                os.setsid()
                companions(base, [text for name, given in alike if given for text in (name, given)])
                os._exit(0)
        told = f"{base}.others/peers"
        while not os.path.exists(told):
            time.sleep(0.05)
        with open(told) as file:
            peers = file.read()
        own = f"{base}.others/own"
        if not os.path.exists(own):
            with open(own, "w") as file:
                file.write(f"127.0.0.1:{free_port()}")
        with open(own) as file:
            arguments += ["--peer-addr", file.read(), "--join", peers]
    os.execv(BINARY, [BINARY, *arguments])


main()
