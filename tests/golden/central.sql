create table tenants (id text primary key, created_at timestamptz, updated_at timestamptz, data json);
insert into tenants values ('Acme & Co', '2026-01-01Z', '2026-01-01Z', '{"tenancy_db_name": "golden_acme"}'),
  ('empty', '2026-01-01Z', '2026-01-01Z', '{"tenancy_db_name": "golden_empty"}');
