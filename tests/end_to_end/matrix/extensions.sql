-- Extensions as tenants use them, in schemas of their own, with data of their types.
create schema extensions; create extension hstore schema extensions; create extension citext; create extension pg_trgm schema extensions; create extension ltree;
create extension pgcrypto; create extension "uuid-ossp"; create extension unaccent; create extension btree_gist; create extension btree_gin; create extension cube; create extension earthdistance;
create extension intarray; create extension fuzzystrmatch; create extension tablefunc; create extension isn; create extension seg; create extension bloom; create extension dblink;
set search_path = public, extensions;
create table things (id uuid primary key default uuid_generate_v4(), name citext unique, tags hstore, path ltree, place cube, book isbn13, words text, number int[], at tsrange, room int,
  exclude using gist (room with =, at with &&));
insert into things (name, tags, path, place, book, words, number, at, room) values ('Äpfel', 'a=>1, "b c"=>NULL', 'top.science', '(1,2),(3,4)', '978-0-306-40615-7', 'quick brown fox', '{1,2,3}', '[2026-01-01,2026-01-02)', 1),
  ('other', '', 'top', '0', null, null, null, null, null);
create index on things using gin (words gin_trgm_ops); create index on things using gist (path); create index on things using gin (tags); create index on things using bloom (room); create index on things using gin (number gin__int_ops);
create function folded(text) returns text language sql immutable as $$ select public.unaccent('public.unaccent', $1) $$; create index on things (folded(words));
comment on extension citext is 'no case';
