create table lines (n int primary key, t text); insert into lines values (1, 'ä€𝄞'), (2, E'\\N'), (3, null), (4, ''), (5, E'\\.\n\\.'), (6, E'\t\v\f\b\r');
create table "lines of ""text""" (like lines including all); insert into "lines of ""text""" select * from lines;
