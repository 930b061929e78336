-- Everything that a database holds, one line each: what, how many, checksum. It does not depend on the order of rows on disk, on
-- that of columns (a child's may change in a restore), nor on the partition that the hash of an enum leads to.
SET extra_float_digits = 3;
SET TimeZone = 'UTC';
SET bytea_output = hex;
SELECT format(
    'SELECT %L, count(*), md5(coalesce(string_agg(row, '''' ORDER BY row), '''')) FROM (SELECT md5(ROW(%s)::text) AS row FROM %s %s) AS rows',
    regexp_replace(oid::regclass::text, '\s', ' ', 'g'),
    (SELECT string_agg(quote_ident(attname), ', ' ORDER BY attname) FROM pg_attribute
     WHERE attrelid = c.oid AND 0 < attnum AND NOT attisdropped),
    CASE WHEN relkind = 'p' THEN '' ELSE 'ONLY' END, oid::regclass)
FROM pg_class AS c
WHERE (relkind IN ('r', 'p') AND NOT relispartition OR relkind = 'm' AND relispopulated) AND relnamespace NOT IN (
    SELECT oid FROM pg_namespace WHERE nspname IN ('pg_catalog', 'information_schema', 'pg_toast'))
ORDER BY oid::regclass::text \gexec
SELECT 'empty ' || oid::regclass FROM pg_class WHERE relkind = 'm' AND NOT relispopulated ORDER BY 1;
SELECT 'sequence ' || schemaname || '.' || sequencename, last_value, md5(pg_sequences::text) FROM pg_sequences ORDER BY 1;
SELECT 'large object ' || oid, length(lo_get(oid)), md5(lo_get(oid)), lomowner::regrole, lomacl
FROM pg_largeobject_metadata ORDER BY oid;
