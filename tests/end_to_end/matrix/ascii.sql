-- Bytes that are no text of any encoding.
set client_encoding = 'SQL_ASCII';
create table bytes (id int primary key, t text); insert into bytes select n, 'x' || chr(n) || 'y' from generate_series(1, 127) n;
insert into bytes values (200, E'\xff\xfe\x80 latin \xe9'), (201, E'\xc3\xa9 and \xe2\x98\x83'), (202, E'tab\tline\nback\\slash\x0b');
