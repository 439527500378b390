"""Runs a check of a cluster under kills and, where it fails, tells what it takes away: python run_cluster_check.py CHECK.py

The check measures with the wall clock, and how long nothing was committed depends on the machine too: one that stops for a while, or steps its
clock, shows a gap that no node made. Such stops are watched and told. Where nothing but a gap failed, the check runs once more; whatever else
fails, fails at once. The nodes' logs are kept, and their ends printed.
"""
import os, pathlib, subprocess, sys, tempfile, threading, time

PAUSE_SECONDS, LOG_LINES = 1.0, 60
KEEP = """
import pathlib, runpy, shutil, sys
shutil.rmtree = lambda *args, **kwargs: None
check = sys.argv[1]
sys.path.insert(0, str(pathlib.Path(check).resolve().parent))
sys.argv = sys.argv[1:]
runpy.run_path(check, run_name="__main__")
"""


def watch(stop, told):
    """Notes when a short sleep took long, and when the clock was set."""
    clock, last = time.time() - time.monotonic(), time.monotonic()
    while not stop.wait(0.05):
        now, offset = time.monotonic(), time.time() - time.monotonic()
        at = time.strftime("%H:%M:%S", time.gmtime())
        if now - last > PAUSE_SECONDS:
            told.append(f"{at} this process stood still for {now - last:.1f} s")
        if abs(offset - clock) > 0.2:
            told.append(f"{at} the clock was set by {offset - clock:.1f} s")
        clock, last = offset, now


def run(check):
    """What failed, and whether that is a gap alone."""
    with tempfile.TemporaryDirectory(prefix="pyralog-cluster-check-") as scratch:
        stop, told = threading.Event(), []
        watcher = threading.Thread(target=watch, args=(stop, told))
        watcher.start()
        command = [sys.executable, "-c", KEEP, check]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "TMPDIR": scratch})
        lines = []
        for line in process.stdout:
            print(line, end="", flush=True)
            lines.append(line)
        code = process.wait()
        stop.set()
        watcher.join()
        print("\n".join(told) or "the machine did not stand still, and its clock was not set", flush=True)
        if code == 0:
            return None
        for log in sorted(pathlib.Path(scratch).glob("*/node-*.log")):
            print(f"--- {log.relative_to(scratch)}\n" + "".join(log.open(errors="replace").readlines()[-LOG_LINES:]), flush=True)
        failed = [line for line in lines if line.startswith("FAIL")]
        return failed, bool(failed) and all("gap" in line for line in failed)


check = sys.argv[1]
outcome = run(check)
if outcome and outcome[1]:
    print("nothing but a gap failed: once more", flush=True)
    outcome = run(check)
sys.exit(1 if outcome else 0)
