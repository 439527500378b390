//! Random datasets and queries: small vocabularies, so that patterns meet, and every operator of the language within every other.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

const PREFIXES: &str = "PREFIX : <urn:> PREFIX xsd: <http://www.w3.org/2001/XMLSchema#> ";
const NODES: [&str; 6] = [":a", ":b", ":c", ":d", ":e", ":f"];
const PREDICATES: [&str; 4] = [":p", ":q", ":r", ":s"];
const GRAPHS: [&str; 2] = [":g", ":h"];
const VARIABLES: [&str; 5] = ["?v", "?w", "?x", "?y", "?z"];
const LITERALS: [&str; 16] = [
    "1",
    "2",
    "3",
    "-4",
    "1.5",
    "2.25",
    "'3.5'^^xsd:double",
    "'-5'^^xsd:double",
    "true",
    "false",
    "'a'",
    "'b'",
    "'ab'@en",
    "'b'@fr",
    "'2020-01-02'^^xsd:date",
    "'x'^^:type",
];

/// Queries and data from a seed.
pub struct Generator {
    random: StdRng,
    fresh: usize,
}

impl Generator {
    /// The generator of a seed.
    pub fn new(seed: u64) -> Generator {
        Generator {
            random: StdRng::seed_from_u64(seed),
            fresh: 0,
        }
    }

    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of.choose(&mut self.random).copied().unwrap_or_default()
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.random.random_range(0..100) < percent
    }

    fn upto(&mut self, most: usize) -> usize {
        self.random.random_range(0..=most)
    }

    /// A dataset as TriG's abbreviations in an update.
    pub fn data(&mut self) -> String {
        let mut text = format!("{PREFIXES}INSERT DATA {{ ");
        for _ in 0..self.random.random_range(5..40) {
            let subject = self.one(&NODES);
            let predicate = self.one(&PREDICATES);
            let object = if self.chance(55) { self.one(&NODES) } else { self.one(&LITERALS) };
            let triple = format!("{subject} {predicate} {object}");
            text += &match self.chance(60) {
                true => format!("{triple} . "),
                false => format!("GRAPH {} {{ {triple} }} ", self.one(&GRAPHS)),
            };
        }
        text + "}"
    }

    /// A query.
    pub fn query(&mut self) -> String {
        self.fresh = 0;
        let depth = self.random.random_range(1..4);
        let body = self.group(depth);
        let form = match self.upto(9) {
            0 => format!("ASK {body}"),
            1 => format!("CONSTRUCT {{ ?v :made ?w . ?x ?y ?z }} WHERE {body}"),
            2 | 3 => self.aggregate(&body),
            _ => {
                let distinct = if self.chance(30) { "DISTINCT " } else { "" };
                let order = match self.chance(20) {
                    true => format!(" ORDER BY {} DESC({})", self.one(&VARIABLES), self.one(&VARIABLES)),
                    false => String::new(),
                };
                match self.chance(30) {
                    true => format!("SELECT {distinct}* {body}{order}"),
                    false => format!("SELECT {distinct}{} {} {body}{order}", VARIABLES[0], VARIABLES[2]),
                }
            }
        };
        format!("{PREFIXES}{form}")
    }

    /// An update.
    pub fn update(&mut self) -> String {
        self.fresh = 0;
        let body = self.group(2);
        let graph = |generator: &mut Generator, triple: &str| match generator.upto(3) {
            0 => format!("GRAPH {} {{ {triple} }}", generator.one(&GRAPHS)),
            1 => format!("GRAPH ?g {{ {triple} }}"),
            _ => triple.to_owned(),
        };
        let triple = format!("{} {} {}", self.one(&VARIABLES), self.one(&PREDICATES), self.one(&VARIABLES));
        let delete = graph(self, &triple);
        let triple = format!("{} :made {}", self.one(&VARIABLES), self.one(&VARIABLES));
        let insert = graph(self, &triple);
        let text = match self.upto(7) {
            0 => format!("DELETE {{ {delete} }} WHERE {body}"),
            1 => format!("INSERT {{ {insert} }} WHERE {body}"),
            2 => format!(
                "WITH {} DELETE {{ {delete} }} INSERT {{ {insert} }} WHERE {body}",
                self.one(&GRAPHS)
            ),
            3 => format!("DELETE WHERE {{ {} {} ?x }}", self.one(&NODES), self.one(&PREDICATES)),
            4 => format!(
                "{} SILENT {} TO {}",
                self.one(&["COPY", "MOVE", "ADD"]),
                self.one(&GRAPHS),
                self.one(&GRAPHS)
            ),
            5 => format!(
                "{} SILENT {}",
                self.one(&["CLEAR", "DROP"]),
                self.one(&["DEFAULT", "NAMED", "GRAPH :g"])
            ),
            _ => format!("DELETE {{ {delete} }} INSERT {{ {insert} }} WHERE {body}"),
        };
        format!("{PREFIXES}{text}")
    }

    fn aggregate(&mut self, body: &str) -> String {
        let distinct = if self.chance(40) { "DISTINCT " } else { "" };
        let call = match self.upto(5) {
            0 => format!("COUNT({distinct}*)"),
            1 => format!("COUNT({distinct}{})", self.one(&VARIABLES)),
            2 => format!("SUM({distinct}{})", self.one(&VARIABLES)),
            3 => format!("AVG({distinct}{})", self.one(&VARIABLES)),
            // Of values that `<` does not compare each engine has an order of its own.
            4 => format!("MIN({} + 0)", self.one(&VARIABLES)),
            _ => format!("MAX({} + 0)", self.one(&VARIABLES)),
        };
        match self.chance(70) {
            true => {
                let key = self.one(&VARIABLES);
                let having = if self.chance(20) { " HAVING (COUNT(*) > 1)" } else { "" };
                format!("SELECT {key} ({call} AS ?n) {body} GROUP BY {key}{having}")
            }
            false => format!("SELECT ({call} AS ?n) {body}"),
        }
    }

    /// `{ … }`
    fn group(&mut self, depth: usize) -> String {
        let mut text = String::from("{ ");
        text += &self.triples();
        if depth > 0 {
            for _ in 0..=self.upto(2) {
                text += &self.element(depth);
            }
        }
        text + "}"
    }

    fn triples(&mut self) -> String {
        let mut text = String::new();
        for _ in 0..self.upto(2) + usize::from(self.chance(80)) {
            let (mut subject, mut object) = (self.subject(), self.object());
            let predicate = match self.upto(9) {
                0 => self.one(&VARIABLES).to_owned(),
                1 => {
                    // A term that no triple has is connected with itself by the standard, and with nothing by Oxigraph.
                    (subject, object) = (self.one(&VARIABLES), self.one(&VARIABLES));
                    self.path(2, false)
                }
                _ => self.one(&PREDICATES).to_owned(),
            };
            text += &format!("{subject} {predicate} {object} . ");
        }
        text
    }

    fn subject(&mut self) -> &'static str {
        if self.chance(80) { self.one(&VARIABLES) } else { self.one(&NODES) }
    }

    fn object(&mut self) -> &'static str {
        match self.upto(9) {
            0 => self.one(&LITERALS),
            1 | 2 => self.one(&NODES),
            _ => self.one(&VARIABLES),
        }
    }

    /// A path. What may give a pair twice stands only within what gives it once: Oxigraph takes duplicates out of `|`, and out of
    /// `!` where both ends are known, where the standard keeps them.
    fn path(&mut self, depth: usize, once: bool) -> String {
        if depth == 0 {
            return self.one(&PREDICATES).to_owned();
        }
        match self.upto(7) {
            0 => format!("({})*", self.path(depth - 1, true)),
            1 => format!("({})+", self.path(depth - 1, true)),
            2 => format!("({})?", self.path(depth - 1, true)),
            3 => format!("^({})", self.path(depth - 1, once)),
            4 if once => format!("!({}|{})", self.one(&PREDICATES), self.one(&PREDICATES)),
            5 if once => format!("!({}|^{})", self.one(&PREDICATES), self.one(&PREDICATES)),
            6 if once => format!("({}|{})", self.path(depth - 1, once), self.path(depth - 1, once)),
            _ => format!("({}/{})", self.path(depth - 1, once), self.path(depth - 1, once)),
        }
    }

    fn element(&mut self, depth: usize) -> String {
        match self.upto(11) {
            0 | 1 => format!("OPTIONAL {} ", self.group(depth - 1)),
            2 => format!("{} UNION {} ", self.group(depth - 1), self.group(depth - 1)),
            3 => match self.group(depth - 1) {
                // Within GRAPH, Oxigraph lets an empty group see the graph's variable, on either side.
                empty if empty == "{ }" => String::new(),
                group => format!("MINUS {group} "),
            },
            4 | 5 => format!("FILTER({}) ", self.condition(2)),
            6 => {
                let not = if self.chance(50) { "NOT " } else { "" };
                format!("FILTER {not}EXISTS {} ", self.group(depth - 1))
            }
            7 => {
                self.fresh += 1;
                format!("BIND({} AS ?n{}) ", self.expression(2), self.fresh)
            }
            8 => format!(
                "VALUES ({} {}) {{ ({} {}) ({} UNDEF) }} ",
                VARIABLES[self.random.random_range(0..2)],
                VARIABLES[self.random.random_range(2..5)],
                self.one(&NODES),
                self.one(&LITERALS),
                self.one(&NODES)
            ),
            9 => match self.chance(50) {
                true => format!("GRAPH {} {} ", self.one(&GRAPHS), self.group(depth - 1)),
                false => match self.group(depth - 1) {
                    first if first.starts_with("{ MINUS") => String::new(),
                    group => format!("GRAPH ?g {group} "),
                },
            },
            10 => format!("{{ SELECT {} {} {} }} ", VARIABLES[0], VARIABLES[1], self.group(depth - 1)),
            _ => self.triples(),
        }
    }

    fn condition(&mut self, depth: usize) -> String {
        if depth == 0 {
            return format!("BOUND({})", self.one(&VARIABLES));
        }
        match self.upto(10) {
            0 => format!("({} || {})", self.condition(depth - 1), self.condition(depth - 1)),
            1 => format!("({} && {})", self.condition(depth - 1), self.condition(depth - 1)),
            2 => format!("!({})", self.condition(depth - 1)),
            3 => format!("{} IN ({}, {})", self.expression(1), self.one(&LITERALS), self.one(&NODES)),
            4 => format!("{}({})", self.one(&["isIRI", "isLiteral", "isNumeric"]), self.expression(1)),
            5 => format!("sameTerm({}, {})", self.expression(1), self.expression(1)),
            6 => {
                // The truth of a text with a language is an error to Oxigraph; SPARQL 1.1 counts it as a plain literal.
                let variable = self.one(&VARIABLES);
                format!("({variable} && isNumeric({variable}))")
            }
            7 => format!("BOUND({})", self.one(&VARIABLES)),
            8 => format!("{} {} {}", self.expression(1), self.one(&["=", "!="]), self.expression(1)),
            _ => {
                // Oxigraph does not order booleans.
                let (left, operator) = (self.expression(1), self.one(&["<", "<=", ">", ">="]));
                format!("(DATATYPE({left}) != xsd:boolean && {left} {operator} {})", self.expression(1))
            }
        }
    }

    fn expression(&mut self, depth: usize) -> String {
        if depth == 0 {
            return match self.chance(60) {
                true => self.one(&VARIABLES).to_owned(),
                false => self.one(&LITERALS).to_owned(),
            };
        }
        match self.upto(10) {
            0 => {
                let operator = self.one(&["+", "-", "*"]);
                format!("({} {operator} {})", self.expression(depth - 1), self.expression(depth - 1))
            }
            1 => format!("STR({})", self.expression(depth - 1)),
            2 => format!(
                "IF({}, {}, {})",
                self.condition(depth - 1),
                self.expression(depth - 1),
                self.expression(depth - 1)
            ),
            3 => format!("COALESCE({}, {})", self.expression(depth - 1), self.expression(depth - 1)),
            4 => format!("STRLEN({})", self.expression(depth - 1)),
            5 => format!("DATATYPE({})", self.expression(depth - 1)),
            6 => format!("LANG({})", self.expression(depth - 1)),
            7 => format!("({})", self.condition(depth - 1)),
            _ => self.expression(0),
        }
    }
}
