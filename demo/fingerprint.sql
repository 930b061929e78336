-- Everything that a database holds, one line each: what, how many, checksum. It does not depend on the order of rows on disk.
SET extra_float_digits = 3;
SET TimeZone = 'UTC';
SELECT format(
    'SELECT %L, count(*), md5(coalesce(string_agg(row, '''' ORDER BY row), '''')) FROM (SELECT md5(t::text) AS row FROM ONLY %s AS t) AS rows',
    regexp_replace(oid::regclass::text, '\s', ' ', 'g'), oid::regclass)
FROM pg_class
WHERE relkind IN ('r', 'm') AND relnamespace = 'public'::regnamespace ORDER BY oid::regclass::text \gexec
SELECT 'sequence ' || schemaname || '.' || sequencename, last_value, md5(pg_sequences::text) FROM pg_sequences ORDER BY 1;
SELECT 'large object ' || oid, length(lo_get(oid)), md5(lo_get(oid)) FROM pg_largeobject_metadata ORDER BY oid;
