"""Data of the shape of BSBM (products, features, offers, reviews), as N-Triples on standard output; the same for the same number of products.

    python tests/peers/bsbm_data.py PRODUCTS > bsbm.nt

About 375 triples a product: 2,670 products are a million triples, 26,700 ten million. Classes, predicates and how many of each follow the
Berlin SPARQL Benchmark's specification; texts are made-up words.
"""
import random, sys

INSTANCES = "http://www4.wiwiss.fu-berlin.de/bizer/bsbm/v01/instances/"
BSBM = "http://www4.wiwiss.fu-berlin.de/bizer/bsbm/v01/vocabulary/"
XSD = "http://www.w3.org/2001/XMLSchema#"
RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
RDFS = "http://www.w3.org/2000/01/rdf-schema#"
DC = "http://purl.org/dc/elements/1.1/"
REV = "http://purl.org/stuff/rev#"
FOAF = "http://xmlns.com/foaf/0.1/"
COUNTRIES = ["US"] * 8 + ["GB", "JP", "CN", "DE", "FR", "ES", "RU", "KR", "AT"]
LANGUAGES = ["en", "en", "en", "ja", "zh", "de", "fr", "es", "ru", "ko"]
OFFERS, REVIEWS, REVIEWS_A_PERSON, OFFERS_A_VENDOR, PRODUCTS_A_PRODUCER = 20, 10, 20, 1_200, 40


class Writer:
    def __init__(self, out, seed):
        self.out, self.random = out, random.Random(seed)
        parts = [c + v for c in "bcdfglmnprst" for v in "aeiou"]
        self.words = ["".join(self.random.choices(parts, k=self.random.randint(2, 5))) + self.random.choice(["", "n", "s"]) for _ in range(20_000)]

    def text(self, least, most):
        return " ".join(self.random.choices(self.words, k=self.random.randint(least, most)))

    def thing(self, iri, pairs):
        self.out.write("".join(f"<{iri}> <{predicate}> {value} .\n" for predicate, value in pairs))

    def described(self, least, most):
        return [(RDFS + "label", f'"{self.text(1, 3)}"'), (RDFS + "comment", f'"{self.text(least, most)}"')]

    def published(self, by):
        return [(DC + "publisher", f"<{by}>"), (DC + "date", self.date(2000, 2008))]

    def day(self, first, last):
        return f"{self.random.randint(first, last)}-{self.random.randint(1, 12):02}-{self.random.randint(1, 28):02}"

    def date(self, first, last):
        return f'"{self.day(first, last)}"^^<{XSD}date>'

    def date_time(self, first, last):
        return f'"{self.day(first, last)}T00:00:00"^^<{XSD}dateTime>'

    def integer(self, first, last):
        return f'"{self.random.randint(first, last)}"^^<{XSD}integer>'

    def country(self):
        return f"<http://downlode.org/rdf/iso-3166/countries#{self.random.choice(COUNTRIES)}>"


def kind(name):
    return (RDF + "type", f"<{name}>")


def main(products, out):
    w = Writer(out, 7)
    standard = INSTANCES + "StandardizationInstitution1"
    types = max(8, int(151 * (products / 1000) ** 0.5))
    parent = {i: (i + 2) // 4 for i in range(2, types + 1)}
    features, of_type = 0, {}
    for i in range(1, types + 1):
        up = [(RDFS + "subClassOf", f"<{INSTANCES}ProductType{parent[i]}>")] if i in parent else []
        w.thing(f"{INSTANCES}ProductType{i}", [kind(BSBM + "ProductType")] + w.described(20, 50) + up + w.published(standard))
        count = w.random.randint(15, 45)
        of_type[i] = range(features + 1, features + count + 1)
        features += count
    for i in range(1, features + 1):
        w.thing(f"{INSTANCES}ProductFeature{i}", [kind(BSBM + "ProductFeature")] + w.described(20, 50) + w.published(standard))
    leaves = sorted(set(range(1, types + 1)) - set(parent.values()))
    iris = []
    for i in range(1, products + 1):
        maker = (i - 1) // PRODUCTS_A_PRODUCER + 1
        at = f"{INSTANCES}dataFromProducer{maker}/"
        producer = f"{at}Producer{maker}"
        if (i - 1) % PRODUCTS_A_PRODUCER == 0:
            home = (FOAF + "homepage", f"<http://www.Producer{maker}.com/>")
            w.thing(producer, [kind(BSBM + "Producer")] + w.described(20, 50) + [home, (BSBM + "country", w.country())] + w.published(producer))
        line = [w.random.choice(leaves)]
        while line[-1] in parent:
            line.append(parent[line[-1]])
        pairs = [kind(BSBM + "Product")] + w.described(50, 150) + [kind(f"{INSTANCES}ProductType{t}") for t in line]
        pairs.append((BSBM + "producer", f"<{producer}>"))
        there = [1, 2, 3] + [n for n, share in ((4, 0.5), (5, 0.5), (6, 0.2)) if w.random.random() < share]
        pairs += [(f"{BSBM}productPropertyNumeric{n}", w.integer(1, 2000)) for n in there]
        pairs += [(f"{BSBM}productPropertyTextual{n}", f'"{w.text(3, 15)}"^^<{XSD}string>') for n in there]
        own = [f for t in line for f in of_type[t] if w.random.random() < 0.2]
        pairs += [(BSBM + "productFeature", f"<{INSTANCES}ProductFeature{f}>") for f in own] + w.published(producer)
        iris.append(f"{at}Product{i}")
        w.thing(iris[-1], pairs)
    for i in range(1, products * OFFERS + 1):
        seller = (i - 1) // OFFERS_A_VENDOR + 1
        at = f"{INSTANCES}dataFromVendor{seller}/"
        vendor = f"{at}Vendor{seller}"
        if (i - 1) % OFFERS_A_VENDOR == 0:
            home = (FOAF + "homepage", f"<http://www.vendor{seller}.com/>")
            w.thing(vendor, [kind(BSBM + "Vendor")] + w.described(20, 50) + [home, (BSBM + "country", w.country())] + w.published(vendor))
        w.thing(f"{at}Offer{i}", [
            kind(BSBM + "Offer"), (BSBM + "product", f"<{w.random.choice(iris)}>"), (BSBM + "vendor", f"<{vendor}>"),
            (BSBM + "price", f'"{w.random.randint(500, 1_000_000) / 100:.2f}"^^<{BSBM}USD>'), (BSBM + "validFrom", w.date_time(2008, 2008)),
            (BSBM + "validTo", w.date_time(2008, 2009)), (BSBM + "deliveryDays", w.integer(1, 21)),
            (BSBM + "offerWebpage", f"<http://www.vendor{seller}.com/offers/Offer{i}>")] + w.published(vendor))
    for i in range(1, products * REVIEWS + 1):
        site = (i - 1) // 10_000 + 1
        at = f"{INSTANCES}dataFromRatingSite{site}/"
        who = (i - 1) // REVIEWS_A_PERSON + 1
        if (i - 1) % REVIEWS_A_PERSON == 0:
            w.thing(f"{at}Reviewer{who}", [
                kind(FOAF + "Person"), (FOAF + "name", f'"{w.text(1, 2)}"'), (FOAF + "mbox_sha1sum", f'"{w.random.getrandbits(160):040x}"'),
                (BSBM + "country", w.country())] + w.published(f"{at}RatingSite{site}"))
        language = w.random.choice(LANGUAGES)
        ratings = [(f"{BSBM}rating{n}", w.integer(1, 10)) for n in range(1, 5) if w.random.random() < 0.7]
        w.thing(f"{at}Review{i}", [
            kind(REV + "Review"), (BSBM + "reviewFor", f"<{w.random.choice(iris)}>"), (REV + "reviewer", f"<{at}Reviewer{who}>"),
            (BSBM + "reviewDate", w.date_time(2007, 2008)), (DC + "title", f'"{w.text(4, 15)}"'),
            (REV + "text", f'"{w.text(50, 200)}"@{language}')] + ratings + w.published(f"{at}RatingSite{site}"))


if __name__ == "__main__":
    if len(sys.argv) != 2 or not sys.argv[1].isdigit() or int(sys.argv[1]) == 0:
        sys.exit(__doc__)
    main(int(sys.argv[1]), sys.stdout)
