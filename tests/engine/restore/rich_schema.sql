-- One of everything that a PostgreSQL database can hold. The roles rich_owner, rich_reader and rich_admin exist.
CREATE SCHEMA app AUTHORIZATION rich_owner;
CREATE SCHEMA "Odd ""Schema""
name";
CREATE EXTENSION hstore SCHEMA app;
CREATE EXTENSION pg_trgm;
CREATE EXTENSION btree_gist;
CREATE EXTENSION postgres_fdw;
COMMENT ON EXTENSION pg_trgm IS 'our trigrams';
COMMENT ON SCHEMA app IS E'the app\nin two lines';

-- Types.
CREATE TYPE app.mood AS ENUM ('sad', 'ok', 'happy');
CREATE TYPE app.pair AS (a integer, b text);
CREATE TYPE app.span AS RANGE (subtype = float8, subtype_diff = float8mi);
CREATE DOMAIN app.positive AS integer CONSTRAINT is_positive CHECK (VALUE > 0) DEFAULT 1;
CREATE COLLATION app.nocase (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
CREATE FUNCTION app.mood_to_int(app.mood) RETURNS integer LANGUAGE sql IMMUTABLE
    AS $$ SELECT CASE $1 WHEN 'sad' THEN 0 WHEN 'ok' THEN 1 ELSE 2 END $$;
CREATE CAST (app.mood AS integer) WITH FUNCTION app.mood_to_int(app.mood) AS ASSIGNMENT;
CREATE FUNCTION app.near(integer, integer) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$ SELECT abs($1 - $2) < 3 $$;
CREATE OPERATOR app.=~= (LEFTARG = integer, RIGHTARG = integer, FUNCTION = app.near, COMMUTATOR = OPERATOR(app.=~=));
CREATE AGGREGATE app.total(integer) (SFUNC = int4pl, STYPE = integer, INITCOND = '0');
CREATE TEXT SEARCH DICTIONARY app.stems (TEMPLATE = simple, STOPWORDS = 'english');
CREATE TEXT SEARCH CONFIGURATION app.plain (COPY = simple);
ALTER TEXT SEARCH CONFIGURATION app.plain ALTER MAPPING FOR word WITH app.stems;
CREATE PROCEDURE app.nothing() LANGUAGE plpgsql AS 'BEGIN END';
CREATE OPERATOR FAMILY app.family USING btree;

-- Tables of all shapes.
CREATE TABLE app.people (
    id bigint GENERATED ALWAYS AS IDENTITY (START 100 INCREMENT 5) PRIMARY KEY,
    name text COLLATE app.nocase NOT NULL,
    mood app.mood DEFAULT 'ok',
    tags app.hstore,
    wage money,
    level app.positive,
    pairs app.pair[],
    during tstzrange,
    shouted text GENERATED ALWAYS AS (upper(name)) STORED,
    secret bytea,
    CONSTRAINT not_twice EXCLUDE USING gist (level WITH =, during WITH &&) DEFERRABLE INITIALLY DEFERRED
);
ALTER TABLE app.people OWNER TO rich_owner;
ALTER TABLE app.people ADD COLUMN gone integer, ADD COLUMN last_seen timestamptz;
ALTER TABLE app.people DROP COLUMN gone;
ALTER TABLE app.people ALTER COLUMN secret SET STORAGE EXTERNAL, ALTER COLUMN name SET STATISTICS 500;
INSERT INTO app.people (name, mood, tags, wage, level, pairs, during, secret, last_seen)
    SELECT 'person ' || i, (ARRAY['sad', 'ok', 'happy', NULL])[1 + i % 4]::app.mood, 'a=>1, b=>NULL', i * 1.25, i,
        ARRAY[(i, E'tab\tand\\slash')::app.pair], tstzrange('2026-01-01', NULL), decode(repeat(to_hex(i % 16) || '0', 90), 'hex'),
        '2026-01-01 12:00:00.123456+05:30'
    FROM generate_series(1, 3000) i;
INSERT INTO app.people (name, level) VALUES (E'line\nend', 4000), ('', 4001), (E'\\N', 4002), ('żółć 😀', 4003);
CREATE TABLE "Odd ""Schema""
name"."select" ("from" integer, "Ünïcode" float8 DEFAULT 'NaN');
INSERT INTO "Odd ""Schema""
name"."select" VALUES (1, 0.1), (2, 'Infinity'), (NULL, NULL), (3, 1e-310);
CREATE TABLE app.no_columns ();
INSERT INTO app.no_columns SELECT FROM generate_series(1, 3);
CREATE TABLE app.all_generated (g integer GENERATED ALWAYS AS (1 + 1) STORED);
INSERT INTO app.all_generated SELECT FROM generate_series(1, 4);
CREATE TABLE app.empty (id serial PRIMARY KEY, x xml);
CREATE TABLE app.papers (id smallserial, x xml, j jsonb, i interval, b bit varying(9), p point, n numeric, u uuid, r app.span);
INSERT INTO app.papers (x, j, i, b, p, n, u, r) VALUES ('<a/><b/>', '{"a": [1, 2.50]}', '1 year -2 days', B'101', '(1,2.5)',
    'NaN', '00000000-0000-0000-0000-000000000001', '[1.5,2.5)');
CREATE UNLOGGED TABLE app.cache (k text PRIMARY KEY, v text) WITH (fillfactor = 70, autovacuum_enabled = false);
INSERT INTO app.cache VALUES ('a', 'b');
CREATE TABLE app.typed OF app.pair (PRIMARY KEY (a));

-- Inheritance: the parent's new column comes last in the child, and elsewhere after a restore.
CREATE TABLE app.parent (a text, b text);
CREATE TABLE app.child (c text) INHERITS (app.parent);
ALTER TABLE app.parent ADD COLUMN d text;
INSERT INTO app.parent VALUES ('pa', 'pb', 'pd');
INSERT INTO app.child (a, b, c, d) VALUES ('a', 'b', 'c', 'd');

-- Partitions of partitions, and hash partitions on an enum.
CREATE TABLE app.events (at date, region text, n integer, PRIMARY KEY (at, region, n)) PARTITION BY RANGE (at);
CREATE TABLE app.events_2025 PARTITION OF app.events FOR VALUES FROM ('2025-01-01') TO ('2026-01-01') PARTITION BY LIST (region);
CREATE TABLE app.events_2025_eu PARTITION OF app.events_2025 FOR VALUES IN ('eu');
CREATE TABLE app.events_2025_rest (n integer NOT NULL, region text NOT NULL, at date NOT NULL);
ALTER TABLE app.events_2025 ATTACH PARTITION app.events_2025_rest DEFAULT;
CREATE TABLE app.events_default PARTITION OF app.events DEFAULT;
INSERT INTO app.events SELECT '2025-06-01'::date + i, (ARRAY['eu', 'us'])[1 + i % 2], i FROM generate_series(1, 400) i;
CREATE TABLE app.by_mood (m app.mood, n integer) PARTITION BY HASH (m);
CREATE TABLE app.by_mood_0 PARTITION OF app.by_mood FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE app.by_mood_1 PARTITION OF app.by_mood FOR VALUES WITH (MODULUS 2, REMAINDER 1);
INSERT INTO app.by_mood SELECT (enum_range(NULL::app.mood))[1 + i % 3], i FROM generate_series(1, 30) i;

-- Constraints.
CREATE TABLE app.hen (id integer PRIMARY KEY, egg integer NOT NULL);
CREATE TABLE app.egg (id integer PRIMARY KEY, hen integer NOT NULL REFERENCES app.hen DEFERRABLE INITIALLY DEFERRED);
BEGIN;
INSERT INTO app.egg VALUES (1, 1);
INSERT INTO app.hen VALUES (1, 1);
COMMIT;
ALTER TABLE app.hen ADD CONSTRAINT from_egg FOREIGN KEY (egg) REFERENCES app.egg ON DELETE CASCADE;
ALTER TABLE app.parent ADD CONSTRAINT old_rows_break_this CHECK (a <> 'pa') NO INHERIT NOT VALID;
CREATE UNIQUE INDEX people_lower ON app.people (lower(name COLLATE "C")) WHERE level < 4000;
CREATE INDEX people_trgm ON app.people USING gin (name gin_trgm_ops);
CREATE INDEX events_n ON app.events (n);
ALTER TABLE app.people CLUSTER ON people_pkey;
ALTER TABLE app.cache REPLICA IDENTITY FULL;
CREATE STATISTICS app.related (dependencies, ndistinct) ON level, mood FROM app.people;

-- Sequences: never called, cycled, called.
CREATE SEQUENCE app.never_called START 42;
CREATE SEQUENCE app.called AS smallint MINVALUE -5 MAXVALUE 5 CYCLE CACHE 3;
SELECT setval('app.called', -3);
SELECT nextval('app.empty_id_seq') FROM generate_series(1, 9);

-- Code that runs by itself.
CREATE FUNCTION app.touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'a trigger fired during the load'; END $$;
CREATE TRIGGER fires BEFORE DELETE ON app.people FOR EACH ROW EXECUTE FUNCTION app.touch();
CREATE TRIGGER is_disabled BEFORE INSERT ON app.people FOR EACH ROW EXECUTE FUNCTION app.touch();
CREATE TRIGGER is_replica BEFORE INSERT ON app.people FOR EACH ROW EXECUTE FUNCTION app.touch();
CREATE TRIGGER is_always AFTER DELETE ON app.people FOR EACH STATEMENT EXECUTE FUNCTION app.touch();
ALTER TABLE app.people DISABLE TRIGGER is_disabled, ENABLE REPLICA TRIGGER is_replica, ENABLE ALWAYS TRIGGER is_always;
CREATE RULE no_delete AS ON DELETE TO app.cache DO INSTEAD NOTHING;
CREATE RULE off_rule AS ON UPDATE TO app.cache DO ALSO NOTIFY cache;
ALTER TABLE app.cache DISABLE RULE off_rule;
CREATE FUNCTION app.on_ddl() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
CREATE EVENT TRIGGER watches ON ddl_command_end WHEN TAG IN ('CREATE TABLE') EXECUTE FUNCTION app.on_ddl();
CREATE EVENT TRIGGER sleeps ON sql_drop EXECUTE FUNCTION app.on_ddl();
ALTER EVENT TRIGGER sleeps DISABLE;

-- Views and materialized views, one on another and one never filled.
CREATE VIEW app.happy WITH (security_barrier) AS SELECT id, name FROM app.people WHERE mood = 'happy' WITH LOCAL CHECK OPTION;
CREATE MATERIALIZED VIEW app.z_counts AS SELECT mood, count(*) AS n FROM app.people GROUP BY mood;
CREATE MATERIALIZED VIEW app.a_on_it AS SELECT sum(n) AS n FROM app.z_counts;
CREATE UNIQUE INDEX a_on_it_n ON app.a_on_it (n);
CREATE MATERIALIZED VIEW app.unfilled AS SELECT 1 AS one WITH NO DATA;
CREATE VIEW app.circle AS SELECT id FROM app.hen;
CREATE VIEW app.numbers AS WITH RECURSIVE r (n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM r WHERE n < 3) SELECT * FROM r;

-- Rights.
ALTER TABLE app.egg ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY mine ON app.egg AS RESTRICTIVE FOR SELECT TO rich_reader USING (hen = 1);
CREATE POLICY nobody ON app.egg USING (false) WITH CHECK (false);
GRANT USAGE ON SCHEMA app TO rich_reader WITH GRANT OPTION;
GRANT SELECT (id, name), UPDATE (mood) ON app.people TO rich_reader;
GRANT ALL ON app.hen TO PUBLIC;
REVOKE EXECUTE ON FUNCTION app.near(integer, integer) FROM PUBLIC;
ALTER DEFAULT PRIVILEGES FOR ROLE rich_owner IN SCHEMA app GRANT SELECT ON TABLES TO rich_reader;
ALTER DEFAULT PRIVILEGES FOR ROLE rich_owner REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
ALTER VIEW app.circle OWNER TO rich_owner;

-- Other servers.
CREATE SERVER far FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '127.0.0.1', port '1', dbname 'nowhere');
CREATE USER MAPPING FOR rich_owner SERVER far OPTIONS (user 'u', password 'p''w');
CREATE FOREIGN TABLE app.remote (id integer) SERVER far;
CREATE TABLE app.half_far (n integer) PARTITION BY RANGE (n);
CREATE FOREIGN TABLE app.is_far PARTITION OF app.half_far FOR VALUES FROM (0) TO (10) SERVER far;
CREATE TABLE app.is_near PARTITION OF app.half_far FOR VALUES FROM (10) TO (20);
INSERT INTO app.half_far VALUES (11), (12);
CREATE PUBLICATION chosen FOR TABLE app.people (id, name) WHERE (id > 5) WITH (publish = 'insert');
CREATE PUBLICATION odd FOR TABLES IN SCHEMA "Odd ""Schema""
name";
CREATE PUBLICATION everything FOR ALL TABLES;
CREATE SUBSCRIPTION waits CONNECTION 'host=127.0.0.1 port=1 password=pw' PUBLICATION p WITH (connect = false, slot_name = 'kept');

-- Large objects: ordinary, with a hole, empty, with rights.
SELECT lo_from_bytea(50001, decode(repeat('00ff10', 3000), 'hex'));
SELECT lo_create(50002);
SELECT lo_put(50002, 100000, 'far behind');
SELECT lo_create(50003);
ALTER LARGE OBJECT 50001 OWNER TO rich_owner;
GRANT SELECT ON LARGE OBJECT 50002 TO rich_reader;
COMMENT ON LARGE OBJECT 50003 IS 'empty';
COMMENT ON TABLE app.people IS 'those who
matter';
COMMENT ON COLUMN app.people.mood IS 'today''s';
