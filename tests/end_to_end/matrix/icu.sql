create table words (w text primary key, v text collate "C"); insert into words select w, w from unnest(array['Österreich', 'Zebra', 'ostern', 'ß', 'ss', '☃', 'a b', 'ab']) w;
create index on words (lower(w)); create materialized view ordered as select string_agg(w, '|' order by w) from words; create unique index on words (v desc);
