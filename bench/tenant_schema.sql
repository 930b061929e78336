-- The schema of the benchmarks: a tenant of 40 tables, 6 that hold the data and 34 that most tenants hardly use.
CREATE TABLE users (id bigserial PRIMARY KEY, name varchar(255) NOT NULL, email varchar(255) UNIQUE NOT NULL,
    password varchar(255), settings jsonb DEFAULT '{}', created_at timestamptz, updated_at timestamptz);
CREATE TABLE venues (id bigserial PRIMARY KEY, name text, address text, capacity int, geo point, created_at timestamptz);
CREATE TABLE events (id bigserial PRIMARY KEY, venue_id bigint REFERENCES venues, title text, slug text UNIQUE,
    description text, starts_at timestamptz, ends_at timestamptz, price numeric(10, 2), tags text[], meta jsonb,
    created_at timestamptz, updated_at timestamptz);
CREATE TABLE tickets (id bigserial PRIMARY KEY, event_id bigint REFERENCES events, user_id bigint REFERENCES users,
    code uuid DEFAULT gen_random_uuid(), price numeric(10, 2), status varchar(20), scanned_at timestamptz,
    created_at timestamptz);
CREATE TABLE orders (id bigserial PRIMARY KEY, user_id bigint REFERENCES users, total numeric(12, 2), currency char(3),
    payload jsonb, created_at timestamptz);
CREATE TABLE audit_log (id bigserial PRIMARY KEY, actor bigint, action text, payload jsonb, ip inet, at timestamptz);
CREATE INDEX ON tickets (event_id);
CREATE INDEX ON tickets (user_id);
CREATE INDEX ON orders (user_id);
CREATE INDEX ON audit_log (at);
CREATE INDEX ON events USING gin (meta);
SELECT format('CREATE TABLE app_module_%s (id bigserial PRIMARY KEY, name text, value jsonb, active boolean DEFAULT true,
    created_at timestamptz DEFAULT now()); CREATE INDEX ON app_module_%s (name)', i, i)
FROM generate_series(1, 34) AS i \gexec
