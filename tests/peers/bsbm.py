"""BSBM over HTTP beside pyoxigraph in this process, in one run: load, bytes a triple, explore and business queries, some analytic ones.

    PYRALOG_BIN=target/release/pyralog python tests/peers/bsbm.py [FILE.nt]

Without FILE with the 374,911 triples in `shared`; bsbm_data.py makes larger ones. Both answer with SPARQL JSON as text, both from one thread of questions;
every query is asked once to warm up and then PYRALOG_RUNS times (5).
PYRALOG_BSBM names the parts to run (explore business analytic), PYRALOG_QUERIES what is to be in the names of their queries (a regular expression). Values of a
query's parameters for which the peer has no answer in PYRALOG_PEER_LIMIT seconds (120) do not count; how long they take here is printed. With PYRALOG_FRESH=1 no text comes twice (each
ends with another comment), so that no plan that was kept is used. Needs pyoxigraph and `shared` beside the repository, or PYRALOG_SHARED, for data and queries.
"""
import gzip, http.client, itertools, math, os, pathlib, random, re, signal, statistics, sys, tempfile, time, urllib.parse

import pyoxigraph as ox

SHARED = pathlib.Path(os.environ.get("PYRALOG_SHARED", pathlib.Path(__file__).resolve().parents[2].parent / "shared"))
sys.path.insert(0, str(SHARED / "checks"))
from pyralog import Server

RUNS = int(os.environ.get("PYRALOG_RUNS", "5"))
PEER_LIMIT = int(os.environ.get("PYRALOG_PEER_LIMIT", "120"))
FRESH = itertools.count() if os.environ.get("PYRALOG_FRESH") == "1" else None
QUERIES = re.compile(os.environ.get("PYRALOG_QUERIES", ""))
FILLS = 4
DATA = SHARED / "data/bsbm/bsbm-1000.nt.gz"
VOCABULARY = "PREFIX b: <http://www4.wiwiss.fu-berlin.de/bizer/bsbm/v01/vocabulary/> "
ANALYTIC = {
    "count": "SELECT (COUNT(*) AS ?c) {?s ?p ?o}",
    "group by predicate": "SELECT ?p (COUNT(*) AS ?c) {?s ?p ?o} GROUP BY ?p",
    "distinct objects": "SELECT (COUNT(DISTINCT ?o) AS ?c) {?s ?p ?o}",
    "optional": VOCABULARY + "SELECT (COUNT(?x) AS ?n) {?v b:rating1 ?r OPTIONAL {?v b:rating3 ?x}}",
    "not exists": VOCABULARY + "SELECT (COUNT(*) AS ?n) {?v b:rating1 ?r FILTER NOT EXISTS {?v b:rating2 ?x}}",
    "minus": VOCABULARY + "SELECT (COUNT(*) AS ?n) {?v b:rating1 ?r MINUS {?v b:rating2 ?x}}",
    "path +": "PREFIX rdfs: <http://www.w3.org/2000/01/rdf-schema#> SELECT (COUNT(*) AS ?n) {?t rdfs:subClassOf+ ?u}",
    "three-way join, average": VOCABULARY + "PREFIX rev: <http://purl.org/stuff/rev#> SELECT ?c (AVG(?r) AS ?a) "
    "(COUNT(?v) AS ?n) {?v b:rating1 ?r ; rev:reviewer ?w . ?w b:country ?c} GROUP BY ?c",
    "order, offset, limit": VOCABULARY + "SELECT ?o ?d {?o b:deliveryDays ?d} ORDER BY DESC(?d) ?o OFFSET 100 LIMIT 20",
}


class Parameters:
    """Values for the parameters of BSBM's queries, from the data, so that the queries have answers."""

    def __init__(self, store):
        self.store, self.random = store, random.Random(7)
        self.products = self.column("SELECT ?x {?x a b:Product}")
        self.offers = self.column("SELECT ?x {?x a b:Offer}")
        self.reviews = self.column("SELECT ?x {?x b:reviewFor ?p}")
        self.makers = self.column("SELECT ?x {?x a b:Producer}")

    def column(self, query):
        return sorted(str(row[0]) for row in self.store.query(VOCABULARY + query))

    def fill(self, text):
        product = self.random.choice(self.products)
        features = self.random.sample(self.column(f"SELECT ?f {{{product} b:productFeature ?f}}"), 3)
        kind = self.random.choice(self.column(f"SELECT ?t {{{product} a ?t . ?t a b:ProductType}}"))
        country = "<http://downlode.org/rdf/iso-3166/countries#%s>"
        date = '"%s"^^<http://www.w3.org/2001/XMLSchema#date>'
        values = {"ProductXYZ": product, "Product": product, "ProductType": kind, "x": "100", "y": "1900", "word1": "ab", "Word1": "ab",
                  "ProductFeature1": features[0], "ProductFeature2": features[1], "ProductFeature3": features[2],
                  "Producer": self.random.choice(self.makers), "OfferXYZ": self.random.choice(self.offers),
                  "ReviewXYZ": self.random.choice(self.reviews), "Country": country % "US", "Country1": country % "US", "Country2": country % "GB",
                  "ConsecutiveMonth_0": date % "2008-01-01", "ConsecutiveMonth_1": date % "2008-02-01", "ConsecutiveMonth_2": date % "2008-03-01",
                  "Date": date % "2008-06-20", "currentDate": '"2008-06-20T00:00:00"^^<http://www.w3.org/2001/XMLSchema#dateTime>'}
        def quoted(match):
            """Where the template has the quotes already, only what stands between them."""
            value = values.get(match[1], match[0])
            return '"' + (value.split('"')[1] if value.startswith('"') else value) + '"'

        text = re.sub(r'"%(\w+)%"', quoted, text)
        return re.sub(r"%(\w+)%", lambda match: values.get(match[1], match[0]), text)


class Endpoint:
    """One connection that stays open."""

    def __init__(self, url):
        address = urllib.parse.urlparse(url)
        self.connection, self.last = http.client.HTTPConnection(address.hostname, address.port), 0

    def seconds(self, query):
        """How long an answer takes; none where it takes longer than PYRALOG_PEER_LIMIT."""
        started = time.perf_counter()
        try:
            self.ask(query, {"X-Pyralog-Timeout-Ms": str(1000 * PEER_LIMIT)})
        except RuntimeError as error:
            if "57014" in str(error):
                return None
            raise
        return time.perf_counter() - started

    def ask(self, query, more={}):
        if time.time() - self.last > 30:
            # The peer had its turn meanwhile, and the server closes what is idle.
            self.connection.close()
        self.last = time.time()
        headers = {"Content-Type": "application/sparql-query", "Accept": "application/sparql-results+json, application/n-triples", **more}
        text = query if FRESH is None else f"{query}\n# {next(FRESH)}"
        self.connection.request("POST", "/rdf/kb/query", text.encode(), headers)
        answer = self.connection.getresponse()
        body = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"{answer.status}: {body[:300]}\n{query}")


def ask_peer(store, query):
    results = store.query(query)
    if isinstance(results, ox.QueryTriples):
        ox.serialize(results, format=ox.RdfFormat.N_TRIPLES)
    else:
        results.serialize(format=ox.QueryResultsFormat.JSON)


def is_within_limit(store, query):
    """Whether the peer answers in time: tried in a copy of this process, which can be stopped."""
    child = os.fork()
    if child == 0:
        try:
            ask_peer(store, query)
        finally:
            os._exit(0)
    deadline = time.time() + PEER_LIMIT
    while time.time() < deadline:
        if os.waitpid(child, os.WNOHANG)[0]:
            return True
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return False


def median(ask, queries):
    """Milliseconds a query."""
    times = []
    for query in queries:
        ask(query)  # to warm up
        for _ in range(RUNS):
            started = time.perf_counter()
            ask(query)
            times.append(1e3 * (time.perf_counter() - started))
    return statistics.median(times)


def compare(title, named, endpoint, store):
    ratios = []
    for name, queries in named:
        if not QUERIES.search(name):
            continue
        answered = [query for query in queries if is_within_limit(store, query)]
        if answered:
            ours, theirs = median(endpoint.ask, answered), median(lambda query: ask_peer(store, query), answered)
            ratios.append(theirs / ours)
            print(f"{title:9} {name:24} {ours:9.2f} ms {theirs:9.2f} ms  {theirs / ours:7.2f} times as fast")
        for query in queries:
            if query not in answered:
                seconds = endpoint.seconds(query)
                ours = "none here either" if seconds is None else f"{1e3 * seconds:.2f} ms"
                print(f"{title:9} {name:24} {ours}; no answer there in {PEER_LIMIT} s, not counted")
    if ratios:
        print(f"{title:9} {'geometric mean':24} {'':27} {math.exp(statistics.mean(map(math.log, ratios))):7.2f}\n")


def templates(kind, count, parameters):
    for i in range(1, count + 1):
        file = SHARED / f"data/bsbm/queries/{kind}/query{i}.txt"
        if file.exists():
            queries = [parameters.fill(file.read_text()) for _ in range(FILLS)]
            if not any(re.search(r"%\w+%", query) for query in queries):
                yield f"query {i}", queries


def main():
    sys.stdout.reconfigure(line_buffering=True)
    with tempfile.NamedTemporaryFile(suffix=".nt") as plain, Server() as server:
        file = sys.argv[1] if len(sys.argv) > 1 else plain.name
        if file == plain.name:
            plain.write(gzip.open(DATA).read())
            plain.flush()
        # So that both read it from the kernel's cache.
        with open(file, "rb") as whole:
            while whole.read(1 << 24):
                pass
        started = time.perf_counter()
        store = ox.Store()
        store.bulk_load(path=file, format=ox.RdfFormat.N_TRIPLES)
        theirs = time.perf_counter() - started
        server.sql("CREATE COLLECTION kb AS RDF")
        started = time.perf_counter()
        loaded = server.cli("import", "--url", server.flight, "--into", "kb", file)
        ours = time.perf_counter() - started
        assert loaded.returncode == 0, loaded.stderr
        count = len(store)
        print(f"load      {count} triples: {ours:.2f} s here, {theirs:.2f} s there (in memory): {theirs / ours:.2f} times as fast")
        server.sql("CHECKPOINT")
        server.sql("COMPACT kb")
        stored = sum(file.stat().st_size for file in pathlib.Path(server.dir, "partitions").rglob("*") if file.is_file())
        print(f"on disk   {stored / count:.0f} bytes a triple, all orders and the dictionary")
        endpoint = Endpoint(server.http)
        chosen = os.environ.get("PYRALOG_BSBM", "explore business analytic").split()
        if "explore" in chosen:
            compare("explore", templates("explore", 12, Parameters(store)), endpoint, store)
        if "business" in chosen:
            compare("business", templates("bi", 8, Parameters(store)), endpoint, store)
        if "analytic" in chosen:
            compare("analytic", [(name, [query]) for name, query in ANALYTIC.items()], endpoint, store)


main()
