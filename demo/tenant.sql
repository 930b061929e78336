-- One tenant of the demo: a small firm's invoicing. psql -v tenant=acme -v scale=1 -f tenant.sql
--
-- The rows are made by arithmetic on their numbers, so that they look like a firm's, differ between tenants and are the
-- same at every run. The schema has something of each kind that a restore must bring back.
SELECT setseed(('x' || substr(md5(:'tenant'), 1, 6))::bit(24)::int / 16777216.0) \g /dev/null

CREATE EXTENSION citext;
CREATE TYPE invoice_state AS ENUM ('draft', 'sent', 'paid', 'overdue', 'void');
CREATE DOMAIN percentage AS numeric(5, 2) CHECK (VALUE BETWEEN 0 AND 100);

CREATE TABLE customers (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL,
    email citext NOT NULL UNIQUE,
    city text,
    vat_rate percentage NOT NULL,
    settings jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL
);
CREATE TABLE products (
    id bigserial PRIMARY KEY,
    sku varchar(20) NOT NULL UNIQUE,
    name text NOT NULL,
    price numeric(10, 2) NOT NULL,
    tags text[]
);
CREATE TABLE invoices (
    id bigserial PRIMARY KEY,
    customer_id bigint NOT NULL REFERENCES customers,
    number varchar(20) NOT NULL UNIQUE,
    state invoice_state NOT NULL,
    issued_on date NOT NULL,
    note text
);
CREATE TABLE invoice_lines (
    invoice_id bigint NOT NULL REFERENCES invoices ON DELETE CASCADE,
    line int NOT NULL,
    product_id bigint NOT NULL REFERENCES products,
    quantity numeric(8, 2) NOT NULL,
    unit_price numeric(10, 2) NOT NULL,
    total numeric GENERATED ALWAYS AS (quantity * unit_price) STORED,
    PRIMARY KEY (invoice_id, line)
);
CREATE TABLE events (at timestamptz NOT NULL, actor bigint, action text NOT NULL, address inet, detail jsonb)
    PARTITION BY RANGE (at);
CREATE TABLE events_2026_q1 PARTITION OF events FOR VALUES FROM ('2026-01-01') TO ('2026-04-01');
CREATE TABLE events_2026_q2 PARTITION OF events FOR VALUES FROM ('2026-04-01') TO ('2026-07-01');
CREATE TABLE events_rest PARTITION OF events DEFAULT;
CREATE TABLE attachments (id bigserial PRIMARY KEY, invoice_id bigint REFERENCES invoices, name text, content bytea);
CREATE TABLE "Odd ""names"", and values" ("à la carte" text, "two
lines" text, "select" double precision);
CREATE TABLE empty_for_now (id int PRIMARY KEY, later text);

INSERT INTO customers (name, email, city, vat_rate, settings, created_at)
SELECT
    given || ' ' || family,
    lower(given || '.' || family) || i || '@' || :'tenant' || '.example',
    (ARRAY['Lyon', 'Zürich', 'Kraków', 'Gent', 'Århus', 'İzmir'])[1 + i % 6],
    (ARRAY[20, 8.1, 23, 21, 25])[1 + i % 5],
    jsonb_build_object('language', (ARRAY['fr', 'de', 'pl'])[1 + i % 3], 'reminders', i % 4 = 0),
    timestamptz '2024-01-01 08:00+00' + i * interval '37 minutes'
FROM generate_series(1, 400 * :scale) AS i,
    LATERAL (SELECT (ARRAY['Anna', 'Bilal', 'Chloé', 'Dmitri', 'Elif', 'Felix', 'Grace'])[1 + i % 7] AS given,
        (ARRAY['Martin', 'Novak', 'Öztürk', 'Peeters', 'Rossi', 'O''Neill', 'Sato', 'Weber'])[1 + i % 8] AS family) AS person;

INSERT INTO products (sku, name, price, tags)
SELECT 'P-' || i, (ARRAY['Consulting', 'Hosting', 'Licence', 'Training'])[1 + i % 4] || ' ' || i, 5 + (i * 7919 % 40000) / 100.0,
    ARRAY['group ' || i % 9, CASE WHEN i % 3 = 0 THEN NULL ELSE 'year, "2026"' END]
FROM generate_series(1, 60 * :scale) AS i;

INSERT INTO invoices (customer_id, number, state, issued_on, note)
SELECT 1 + i * 31 % (400 * :scale), '2026-' || lpad(i::text, 6, '0'), (enum_range(NULL::invoice_state))[1 + i % 5],
    date '2026-01-01' + i % 180,
    CASE i % 10 WHEN 0 THEN E'Paid\tin two\nparts; see \\ "letter" ✉' WHEN 1 THEN '' WHEN 2 THEN '\N' END
FROM generate_series(1, 2000 * :scale) AS i;

INSERT INTO invoice_lines (invoice_id, line, product_id, quantity, unit_price)
SELECT i, line, 1 + (i * line) % (60 * :scale), 1 + i % 12 + line / 4.0, 5 + (i * line * 13 % 9000) / 100.0
FROM generate_series(1, 2000 * :scale) AS i, generate_series(1, 1 + i % 5) AS line;

INSERT INTO events (at, actor, action, address, detail)
SELECT timestamptz '2025-12-20 00:00+00' + i * interval '1 hour' / :scale, 1 + i % (400 * :scale),
    (ARRAY['login', 'invoice.sent', 'invoice.paid', 'export'])[1 + i % 4], ('10.0.' || i % 250 || '.7')::inet,
    jsonb_build_object('request', md5(:'tenant' || i), 'ms', round((random() * 900)::numeric, 3))
FROM generate_series(1, 5000 * :scale) AS i;

INSERT INTO attachments (invoice_id, name, content)
SELECT i, 'scan-' || i || '.pdf', decode(repeat(md5(:'tenant' || i), 200 + i % 300), 'hex')
FROM generate_series(1, 20 * :scale) AS i;

INSERT INTO "Odd ""names"", and values" VALUES
    ('é', E'a\nb\tc\\d', 0.1), (NULL, '', 'NaN'), ('\.', '\N', '-Infinity'), ('日本', E'\x01', 1e-300);

SELECT lo_from_bytea(4711, decode(repeat(md5(:'tenant'), 3000), 'hex')) \g /dev/null
CREATE SEQUENCE next_credit_note INCREMENT 5;
SELECT setval('next_credit_note', 1000) \g /dev/null

CREATE INDEX ON invoice_lines (product_id);
CREATE INDEX invoices_open ON invoices (issued_on) WHERE state IN ('sent', 'overdue');
CREATE INDEX ON customers USING gin (settings);
CREATE VIEW open_invoices AS SELECT * FROM invoices WHERE state IN ('sent', 'overdue');
CREATE MATERIALIZED VIEW turnover AS
    SELECT date_trunc('month', issued_on)::date AS month, sum(total) AS total
    FROM invoices JOIN invoice_lines ON invoice_id = id WHERE state = 'paid' GROUP BY 1;
CREATE FUNCTION keep_paid() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.state = 'paid' THEN RAISE EXCEPTION 'invoice % is paid', OLD.number; END IF;
    RETURN OLD;
END $$;
CREATE TRIGGER keep_paid BEFORE DELETE ON invoices FOR EACH ROW EXECUTE FUNCTION keep_paid();
ALTER TABLE customers ENABLE ROW LEVEL SECURITY;
CREATE POLICY everyone ON customers USING (true);
COMMENT ON TABLE invoices IS 'What was billed; numbers are never used twice';
GRANT SELECT ON ALL TABLES IN SCHEMA public TO demo_reports;
