set client_encoding = 'UTF8';
create table "größe" ("straße" text primary key, n int default 5); insert into "größe" values ('Ärger'), ('ÿ¡'), (E'tab\t'); comment on table "größe" is 'übergroß';
create type "ö" as enum ('ä', 'ß'); create table uses (e "ö"); insert into uses values ('ß');
