-- The central database of the demo, in the shape that Stancl's tenancy package gives it.
CREATE TABLE tenants (
    id varchar(255) PRIMARY KEY,
    created_at timestamp(0),
    updated_at timestamp(0),
    data json
);
CREATE TABLE domains (
    id serial PRIMARY KEY,
    domain varchar(255) NOT NULL UNIQUE,
    tenant_id varchar(255) NOT NULL REFERENCES tenants ON UPDATE CASCADE ON DELETE CASCADE,
    created_at timestamp(0),
    updated_at timestamp(0)
);
CREATE TABLE plans (id bigserial PRIMARY KEY, name text NOT NULL, monthly_price numeric(8, 2) NOT NULL, features jsonb);
INSERT INTO plans (name, monthly_price, features) VALUES
    ('Solo', 9, '{"users": 1}'), ('Studio', 29, '{"users": 5}'), ('House', 99, '{"users": null, "api": true}');
