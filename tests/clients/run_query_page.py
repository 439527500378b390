"""Starts a server with a triple and tries its query page in headless Chromium (query_page.mjs).

    PYRALOG_BIN=target/release/pyralog python tests/clients/run_query_page.py

Needs node, npm and Chromium; playwright-core is installed by its name into a temporary directory.
"""
import os, pathlib, shutil, socket, subprocess, sys, tempfile, time, urllib.request

HERE = pathlib.Path(__file__).resolve().parent
BINARY = pathlib.Path(os.environ["PYRALOG_BIN"]).resolve()
CHROMIUM = next(filter(None, map(shutil.which, ["chromium", "chromium-browser", "google-chrome"])), None)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def post(url, media, text):
    request = urllib.request.Request(url, text.encode(), {"Content-Type": media})
    urllib.request.urlopen(request, timeout=30).read()


def wait_for(url):
    for _ in range(300):
        try:
            return urllib.request.urlopen(url, timeout=5).read()
        except OSError:
            time.sleep(0.1)
    sys.exit(f"no answer from {url}")


def main():
    if CHROMIUM is None:
        sys.exit("there is no Chromium")
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        subprocess.run(["npm", "install", "--silent", "--no-audit", "--no-fund", "playwright-core"], cwd=folder, check=True)
        shutil.copy(HERE / "query_page.mjs", folder)
        http = f"127.0.0.1:{free_port()}"
        server = subprocess.Popen([BINARY, "serve", "--data-dir", folder / "data", "--http-addr", http, "--flight-addr", f"127.0.0.1:{free_port()}"],
                                  stdout=subprocess.DEVNULL)
        try:
            wait_for(f"http://{http}/health")
            post(f"http://{http}/sql", "text/plain", "CREATE COLLECTION kb AS RDF")
            post(f"http://{http}/rdf/kb/update", "application/sparql-update", 'INSERT DATA { <urn:ann> <urn:name> "Ann" }')
            return subprocess.run(["node", "query_page.mjs", f"http://{http}", CHROMIUM], cwd=folder, timeout=120).returncode
        finally:
            server.terminate()
            server.wait(30)


sys.exit(main())
