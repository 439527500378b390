//! What the demo shows, in order: text only, so that a scene can be read like a script.

/// One thing that is shown.
#[derive(Debug, Clone, Copy)]
pub struct Scene {
    /// What it shows.
    pub title: &'static str,
    /// Its steps.
    pub steps: &'static [Step],
}

/// A step of a scene.
#[derive(Debug, Clone, Copy)]
pub enum Step {
    /// A statement; its result is printed.
    Sql(&'static str),
    /// CSV text into a table.
    Load {
        /// The table.
        table: &'static str,
        /// The text.
        csv: &'static str,
    },
    /// Keys into a bucket.
    Put {
        /// The bucket.
        bucket: &'static str,
        /// Keys and values.
        entries: &'static [(&'static str, &'static str)],
    },
}

/// Countries: code, name, continent, inhabitants, area. Figures of about 2023, rounded.
pub const COUNTRIES: &str = include_str!("countries.csv");
/// Cities: name, country, inhabitants (city proper or agglomeration, rounded), position.
pub const CITIES: &str = include_str!("cities.csv");

/// All scenes.
pub const SCENES: &[Scene] = &[
    Scene {
        title: "Tables: make them, load them",
        steps: &[
            Step::Sql(
                "CREATE TABLE countries (code VARCHAR, name VARCHAR NOT NULL, continent VARCHAR, population BIGINT, area_km2 BIGINT,\n\
                 PRIMARY KEY (code))",
            ),
            Step::Sql(
                "CREATE TABLE cities (name VARCHAR, country VARCHAR, population BIGINT, latitude DOUBLE, longitude DOUBLE, capital BOOLEAN,\n\
                 PRIMARY KEY (country, name))",
            ),
            Step::Load {
                table: "countries",
                csv: COUNTRIES,
            },
            Step::Load {
                table: "cities",
                csv: CITIES,
            },
        ],
    },
    Scene {
        title: "Joins and aggregates",
        steps: &[Step::Sql(
            "SELECT c.continent, count(DISTINCT c.code) AS countries, count(*) AS cities, sum(t.population) AS in_cities\n\
             FROM countries c JOIN cities t ON t.country = c.code\n\
             GROUP BY c.continent ORDER BY in_cities DESC",
        )],
    },
    Scene {
        title: "Window functions",
        steps: &[Step::Sql(
            "SELECT continent, rank, name, population FROM (\n\
             SELECT c.continent, t.name, t.population, rank() OVER (PARTITION BY c.continent ORDER BY t.population DESC) AS rank\n\
             FROM cities t JOIN countries c ON c.code = t.country) ranked\n\
             WHERE rank <= 2 ORDER BY continent, rank",
        )],
    },
    Scene {
        title: "A transaction with an upsert",
        steps: &[
            Step::Sql("BEGIN"),
            Step::Sql(
                "INSERT INTO cities VALUES ('Reykjavík', 'IS', 140000, 64.15, -21.94, true), ('Oslo', 'NO', 717000, 59.91, 10.75, true)\n\
                 ON CONFLICT (country, name) DO UPDATE SET population = excluded.population",
            ),
            Step::Sql("SELECT name, country, population FROM cities WHERE country IN ('IS', 'NO') ORDER BY name"),
            Step::Sql("ROLLBACK"),
            Step::Sql("SELECT count(*) AS icelandic_cities FROM cities WHERE country = 'IS' AND population = 140000"),
        ],
    },
    Scene {
        title: "Keys and values, joined with tables in one statement",
        steps: &[
            Step::Sql("CREATE COLLECTION mottos AS KV"),
            Step::Put {
                bucket: "mottos",
                entries: &[
                    ("motto:CH", "Unus pro omnibus, omnes pro uno"),
                    ("motto:FR", "Liberté, égalité, fraternité"),
                    ("motto:IN", "Satyameva Jayate"),
                    ("motto:BR", "Ordem e Progresso"),
                    ("motto:CA", "A mari usque ad mare"),
                    ("motto:KE", "Harambee"),
                    ("motto:GR", "Elefthería i thánatos"),
                ],
            },
            Step::Sql(
                "SELECT c.name, CAST(m.value AS VARCHAR) AS motto, t.name AS capital\n\
                 FROM mottos m JOIN countries c ON m.key = concat('motto:', c.code)\n\
                 JOIN cities t ON t.country = c.code AND t.capital\n\
                 WHERE c.population > 8000000 ORDER BY c.population DESC",
            ),
            Step::Sql(
                "EXPLAIN SELECT c.name, CAST(m.value AS VARCHAR) AS motto\n\
                 FROM mottos m JOIN countries c ON m.key = concat('motto:', c.code)\n\
                 WHERE c.population > 8000000 ORDER BY c.population DESC LIMIT 3",
            ),
        ],
    },
];
