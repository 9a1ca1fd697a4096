-- As many client-credentials tokens as the service has targets.
CREATE TABLE IF NOT EXISTS oidc_payloads (
    kind        text        NOT NULL,
    id          text        NOT NULL,
    payload     jsonb       NOT NULL,
    expires_at  timestamptz NOT NULL,
    PRIMARY KEY (kind, id)
);
INSERT INTO oidc_payloads (kind, id, payload, expires_at)
SELECT 'ClientCredentials', value,
       jsonb_build_object('kind', 'ClientCredentials', 'jti', value, 'clientId', 'gateway', 'scope', 'connection:write',
                          'iat', extract(epoch FROM now())::bigint, 'exp', extract(epoch FROM now())::bigint + 86400),
       now() + interval '1 day'
  FROM generate_series(1, :targets) number, LATERAL (SELECT 'oidc-token-' || lpad(number::text, 32, '0') AS value) made
    ON CONFLICT DO NOTHING;
ANALYZE oidc_payloads;
