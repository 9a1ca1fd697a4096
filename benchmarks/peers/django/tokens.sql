-- As many access tokens as the service has targets, and one that may introspect.
INSERT INTO oauth2_provider_accesstoken (token, token_checksum, expires, scope, resource, created, updated)
SELECT value, encode(sha256(value::bytea), 'hex'), now() + interval '1 day',
       CASE WHEN number = 0 THEN 'introspection' ELSE 'connection:write' END, '[]', now(), now()
  FROM generate_series(0, :targets) number, LATERAL (SELECT 'django-token-' || number AS value) made
    ON CONFLICT DO NOTHING;
ANALYZE oauth2_provider_accesstoken;
