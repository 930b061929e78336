-- The rows of a benchmark tenant: psql -v k=SCALE. A scale of 1000 makes about 630 MB of text, 0.93 GB on disk.
INSERT INTO users (name, email, password, settings, created_at, updated_at)
SELECT 'User ' || i, 'u' || i || '@' || md5(i::text) || '.example', md5(i::text) || md5((i + 1)::text),
    jsonb_build_object('locale', (ARRAY['fr', 'en', 'de'])[1 + i % 3], 'theme', i % 5), now() - i * interval '1 min', now()
FROM generate_series(1, 200 * :k) AS i;
INSERT INTO venues (name, address, capacity, geo, created_at)
SELECT 'Venue ' || i, i || ' rue de la ' || md5(i::text), i * 10, point(i, i + 1), now()
FROM generate_series(1, 10 * :k) AS i;
INSERT INTO events (venue_id, title, slug, description, starts_at, ends_at, price, tags, meta, created_at, updated_at)
SELECT 1 + i % (10 * :k), 'Event ' || i, 'event-' || i,
    repeat('Lorem ipsum dolor sit amet consectetur ' || md5(i::text) || ' ', 5 + i % 10),
    now() + i * interval '1 hour', now() + i * interval '2 hour', (i % 500) / 7.0, ARRAY['music', 't' || i % 50],
    jsonb_build_object('k', i, 'h', md5(i::text)), now(), now()
FROM generate_series(1, 50 * :k) AS i;
INSERT INTO tickets (event_id, user_id, price, status, created_at)
SELECT 1 + i % (50 * :k), 1 + i % (200 * :k), (i % 300) / 3.0, (ARRAY['paid', 'void', 'used'])[1 + i % 3],
    now() - i * interval '1 s'
FROM generate_series(1, 1000 * :k) AS i;
INSERT INTO orders (user_id, total, currency, payload, created_at)
SELECT 1 + i % (200 * :k), (i % 900) / 3.0, 'EUR',
    jsonb_build_object('items', jsonb_build_array(i, i + 1), 'ref', md5(i::text), 'note', 'commande numero ' || i),
    now() - i * interval '1 s'
FROM generate_series(1, 500 * :k) AS i;
INSERT INTO audit_log (actor, action, payload, ip, at)
SELECT i % (200 * :k), (ARRAY['login', 'update', 'delete', 'create'])[1 + i % 4],
    jsonb_build_object('ua', 'Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36', 'path', '/api/v1/events/' || i % 1000,
        'h', md5(random()::text)),
    ('10.0.' || i % 256 || '.' || (i / 256) % 256)::inet, now() - i * interval '1 s'
FROM generate_series(1, 2000 * :k) AS i;
