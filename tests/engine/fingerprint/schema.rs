//! A schema with one object of every kind that a dump knows, so that a change of each is one statement.

/// Roles belong to the whole server: they are made once, and have names that no other test uses.
pub(super) const ROLES: &str = "
CREATE ROLE fingerprint_one; CREATE ROLE fingerprint_two; CREATE ROLE fingerprint_reader LOGIN;
GRANT pg_read_all_data TO fingerprint_reader;";

/// In pieces that depend only on pieces before them, as far as they depend on any: see `ORDERS`.
pub(super) const BASE: [&str; 6] = [TYPES, FUNCTIONS, TABLES, RELATED, OPERATORS, OUTSIDE];

const TYPES: &str = "
CREATE SCHEMA other; COMMENT ON SCHEMA other IS 'more'; GRANT USAGE ON SCHEMA other TO fingerprint_one;
CREATE EXTENSION hstore SCHEMA public; CREATE EXTENSION citext SCHEMA other;
CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy'); ALTER TYPE mood ADD VALUE 'fine' BEFORE 'happy';
CREATE TYPE pair AS (a int, b text COLLATE \"C\"); COMMENT ON COLUMN pair.a IS 'left';
CREATE DOMAIN positive AS numeric(8,2) DEFAULT 1 CONSTRAINT above CHECK (VALUE > 0);
COMMENT ON CONSTRAINT above ON DOMAIN positive IS 'c';
CREATE TYPE span AS RANGE (subtype = float8, subtype_diff = float8mi);
CREATE TYPE shell;
CREATE COLLATION latin (provider = icu, locale = 'und-u-ks-level2', deterministic = false);";

const FUNCTIONS: &str = "
CREATE FUNCTION add_one(i int, j int DEFAULT 1) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT i + j';
CREATE FUNCTION modern(i int) RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT i * 2; END;
CREATE PROCEDURE proc() LANGUAGE plpgsql AS 'BEGIN END';
CREATE FUNCTION fire() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE FUNCTION on_event() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
CREATE AGGREGATE total(int) (sfunc = int4pl, stype = int, initcond = '0');
CREATE EVENT TRIGGER watch ON ddl_command_end WHEN TAG IN ('CREATE INDEX') EXECUTE FUNCTION on_event();
ALTER EVENT TRIGGER watch DISABLE;
CREATE LANGUAGE own HANDLER plpgsql_call_handler;
ALTER FUNCTION add_one(int, int) DEPENDS ON EXTENSION hstore;";

const TABLES: &str = "
CREATE TABLE parent (id int GENERATED ALWAYS AS IDENTITY, name text NOT NULL DEFAULT 'x', gone int, note text,
    twice int GENERATED ALWAYS AS (3 * 2) STORED, price positive, state mood DEFAULT 'ok',
    PRIMARY KEY (id), CONSTRAINT short CHECK (length(name) < 99), CONSTRAINT once UNIQUE (note));
ALTER TABLE parent DROP COLUMN gone;
COMMENT ON TABLE parent IS 'the parent'; COMMENT ON COLUMN parent.name IS 'its name';
GRANT SELECT ON parent TO fingerprint_one; GRANT UPDATE (name) ON parent TO fingerprint_two;
CREATE TABLE child (parent_id int REFERENCES parent DEFERRABLE, label text, amount float8 DEFAULT 0.1) WITH (fillfactor = 80);
CREATE INDEX child_label ON child (lower(label)) WHERE label <> ''; CREATE INDEX child_parent ON child (parent_id); ALTER TABLE child CLUSTER ON child_parent;
CREATE TABLE base (a int, b int); CREATE TABLE derived (c int) INHERITS (base); CREATE TABLE loose (a int, b int);
CREATE TABLE parted (k int, v text) PARTITION BY RANGE (k);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (0) TO (10); CREATE TABLE parted_2 (k int, v text);
CREATE INDEX parted_v ON parted (v); CREATE INDEX parted_2_v ON parted_2 (v);
CREATE UNLOGGED TABLE fast (a int); CREATE TABLE typed OF pair; CREATE TABLE empty ();
CREATE SEQUENCE counter START 5; ALTER SEQUENCE counter OWNED BY child.parent_id; CREATE SEQUENCE free;";

const RELATED: &str = "
CREATE VIEW seen AS SELECT id, name FROM parent WHERE id > 0; CREATE VIEW over AS SELECT * FROM seen;
CREATE MATERIALIZED VIEW kept AS SELECT id FROM parent; CREATE MATERIALIZED VIEW unfilled AS SELECT 1 AS one WITH NO DATA;
CREATE RULE quiet AS ON DELETE TO child DO INSTEAD NOTHING;
CREATE TRIGGER before BEFORE UPDATE ON parent FOR EACH ROW EXECUTE FUNCTION fire();
CREATE TRIGGER each BEFORE INSERT ON parted FOR EACH ROW EXECUTE FUNCTION fire();
CREATE POLICY mine ON parent FOR SELECT TO fingerprint_one USING (id = 1);
CREATE STATISTICS together ON parent_id, label FROM child;
CREATE PUBLICATION news FOR TABLE child (label) WHERE (label <> '') WITH (publish = 'insert');
CREATE PUBLICATION area FOR TABLES IN SCHEMA other;
ALTER DEFAULT PRIVILEGES IN SCHEMA other GRANT SELECT ON TABLES TO fingerprint_one;
SELECT lo_create(4242); COMMENT ON LARGE OBJECT 4242 IS 'big';";

const OPERATORS: &str = "
CREATE FUNCTION same(mood, int) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT true';
CREATE OPERATOR === (leftarg = mood, rightarg = int, procedure = same);
CREATE FUNCTION mood_of(int) RETURNS mood LANGUAGE sql AS $$SELECT 'ok'::mood$$; CREATE CAST (int AS mood) WITH FUNCTION mood_of(int);
CREATE OPERATOR FAMILY kin USING btree;
CREATE OPERATOR CLASS backwards FOR TYPE int USING btree FAMILY kin AS OPERATOR 1 >, OPERATOR 3 =, FUNCTION 1 btint4cmp(int, int);
CREATE OPERATOR CLASS guest FOR TYPE int USING hash FAMILY text_ops AS OPERATOR 1 =, FUNCTION 1 hashint4(int);
CREATE CONVERSION convert_it FOR 'LATIN1' TO 'UTF8' FROM iso8859_1_to_utf8;
CREATE TEXT SEARCH PARSER parser (start = prsd_start, gettoken = prsd_nexttoken, end = prsd_end, lextypes = prsd_lextype);
CREATE TEXT SEARCH TEMPLATE template (lexize = dsimple_lexize, init = dsimple_init);
CREATE TEXT SEARCH DICTIONARY words (template = simple, stopwords = english);
CREATE TEXT SEARCH CONFIGURATION find (parser = default); ALTER TEXT SEARCH CONFIGURATION find ADD MAPPING FOR word WITH words, simple;
CREATE ACCESS METHOD heap_again TYPE TABLE HANDLER heap_tableam_handler;
CREATE FUNCTION from_sql(internal) RETURNS internal LANGUAGE internal IMMUTABLE AS 'int4recv';
CREATE TRANSFORM FOR mood LANGUAGE plpgsql (FROM SQL WITH FUNCTION from_sql(internal));";

const OUTSIDE: &str = "
CREATE FOREIGN DATA WRAPPER wrapper OPTIONS (debug 'true'); CREATE SERVER away TYPE 'x' FOREIGN DATA WRAPPER wrapper OPTIONS (host 'h');
CREATE USER MAPPING FOR fingerprint_one SERVER away OPTIONS (password 'first'); CREATE USER MAPPING FOR PUBLIC SERVER away;
CREATE FOREIGN TABLE far (a int OPTIONS (n 'a')) SERVER away OPTIONS (t 'far');
CREATE EXTENSION postgres_fdw SCHEMA other;
CREATE SUBSCRIPTION follow CONNECTION 'host=nowhere password=secret' PUBLICATION news WITH (connect = false, slot_name = NONE);
INSERT INTO pg_seclabel SELECT 'child'::regclass, 'pg_class'::regclass, 0, 'provider', 'label';";
