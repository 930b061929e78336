-- Everything that is no table.
create function app.double(i int) returns int language sql immutable strict parallel safe cost 7 as 'select i * 2';
create function app.total(variadic numeric[]) returns numeric language sql as 'select sum(x) from unnest($1) x';
create procedure app.nothing(inout x int default 3) language plpgsql security definer set search_path = pg_catalog as $body$ begin x := x + 1; end $body$;
create function app.atomic(a int) returns int begin atomic select a + count(*)::int from public.self; end;
create aggregate app.multiply(float8) (sfunc = float8mul, stype = float8, initcond = '1');
create operator app.<%> (leftarg = int, rightarg = int, function = int4pl, commutator = operator(app.<%>));
create cast (app.pair as text) with inout as assignment;
create collation app.german (provider = icu, locale = 'de-DE', deterministic = false);
create text search configuration app.words (copy = simple); create text search dictionary app.short (template = pg_catalog.simple, accept = false);
alter text search configuration app.words alter mapping for asciiword with app.short;
create statistics app.related (dependencies, ndistinct) on at, place from measured;
create access method heap2 type table handler heap_tableam_handler; create table in_heap2 (i int) using heap2; insert into in_heap2 values (4);
create view app.seen with (security_barrier, check_option = local) as select * from kinds where i is not null; comment on column app.seen.i is 'of a view';
create recursive view app.counted (n) as select 1 union all select n + 1 from counted where n < 5;
create materialized view app.first as select place, count(*) as n from measured group by place; create unique index on app.first (place);
create materialized view app.a_second as select sum(n) as n, app.double(3) as six from app.first; create materialized view app.third as select * from app.a_second with no data;
create materialized view app.zero as select max(n) from app.a_second;
create view app.around_self as select id, up from self; create rule around_insert as on insert to app.around_self do instead insert into self values (new.id, new.up);
create rule quiet as on delete to empty_one do instead nothing; alter table empty_one disable rule quiet;
create function app.changed() returns trigger language plpgsql as $$ begin if tg_op = 'DELETE' then return old; end if; raise exception 'a trigger fired while rows were loaded'; end $$;
create table triggered (i int); insert into triggered values (1), (2);
create trigger usual before insert on triggered for each row execute function app.changed();
create trigger off after delete on triggered referencing old table as gone for each statement execute function app.changed(); alter table triggered disable trigger off;
create trigger always before update of i on triggered for each row when (old.i is distinct from new.i) execute function app.changed('x', '1'); alter table triggered enable always trigger always;
create trigger replica after insert on triggered for each row execute function app.changed(); alter table triggered enable replica trigger replica;
create constraint trigger late after update on triggered deferrable initially deferred for each row execute function app.changed();
create function app.noticed() returns event_trigger language plpgsql as $$ begin raise debug '%', tg_tag; end $$;
create event trigger noticing on ddl_command_end when tag in ('CREATE TABLE', 'ALTER TABLE') execute function app.noticed();
create event trigger dropping on sql_drop execute function app.noticed(); alter event trigger dropping disable;
-- Row security, forced: even the owner sees nothing without a policy.
create table secured (tenant text, v int); insert into secured values ('a', 1), ('b', 2); alter table secured owner to m_owner;
alter table secured enable row level security; alter table secured force row level security;
create policy own on secured as restrictive for select to m_reader, "m Odd""role" using (tenant = current_user); create policy every on secured with check (v > 0);
-- Rights.
grant select, update (v) on secured to m_reader with grant option; grant usage on schema app to "m Odd""role"; grant execute on function app.double(int) to m_reader;
revoke all on function app.total(numeric[]) from public; grant usage on sequence app.plain to m_member; grant usage on type app.colour to m_reader; revoke usage on domain app.positive from public;
alter default privileges for role m_owner in schema app grant select on tables to m_reader; alter default privileges for role m_owner revoke execute on functions from public;
revoke create on schema public from public; grant all on schema public to m_owner; alter schema app owner to m_owner; revoke select on pg_catalog.pg_enum from public;
-- Replication.
create publication everything for all tables with (publish = 'insert, update'); create publication "some" for table secured (tenant) where (tenant <> 'x'); create publication of_schema for tables in schema auth;
create subscription far_away connection 'host=far.invalid password=''a secret''' publication theirs with (connect = false, slot_name = none, binary = true);
-- Foreign data.
create extension postgres_fdw; create foreign data wrapper dummy; create server far foreign data wrapper postgres_fdw options (host 'far.invalid', dbname 'x');
create user mapping for m_owner server far options (user 'u', password 'p''w'); create foreign table app.abroad (i int options (column_name 'j'), t text collate "C") server far options (table_name 'z');
grant usage on foreign server far to m_reader;
-- Comments, storage, the rest.
comment on table secured is 'secured ''rows'''; comment on column kinds.i is 'small'; comment on function app.double(int) is 'twice'; comment on policy own on secured is 'a policy';
comment on constraint late on checked is 'not valid'; comment on trigger usual on triggered is 'a trigger'; comment on type app.pair is 'two'; comment on schema app is 'ours'; comment on extension postgres_fdw is 'changed by us';
create index kinds_json on kinds using gin (jb jsonb_path_ops); create index kinds_expression on kinds (lower(cr) desc nulls last) include (i) where b; create index kinds_plain on kinds (n) with (fillfactor = 70);
alter table kinds cluster on kinds_plain; alter table kinds alter by set storage external, alter x set compression pglz, alter i set statistics 77, alter i set (n_distinct = 5); alter table dropped set (fillfactor = 60, autovacuum_enabled = off);
alter table self replica identity nothing; create table of_type of app.pair; insert into of_type values (1, 'typed'); create table other_collation (t text collate app.german); insert into other_collation values ('ä'), ('A');
