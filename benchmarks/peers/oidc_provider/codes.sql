-- Authorization codes from number :first on, each with its grant, of one client and one account.
INSERT INTO oidc_payloads (kind, id, payload, expires_at)
SELECT kind, id, jsonb_build_object(
           'kind', kind, 'jti', id, 'accountId', 'person', 'clientId', 'exchanging', 'grantId', grant_id,
           'redirectUri', 'https://mis.example.com/callback', 'scope', 'connection:write',
           'openid', jsonb_build_object('scope', 'connection:write'),
           'iat', extract(epoch FROM now())::bigint, 'exp', extract(epoch FROM now())::bigint + 86400
       ) - CASE kind WHEN 'Grant' THEN ARRAY['grantId', 'redirectUri', 'scope'] ELSE ARRAY['openid'] END,
       now() + interval '1 day'
  FROM generate_series(:first, :last) number,
       LATERAL (SELECT 'oidc-grant-' || lpad(number::text, 32, '0') AS grant_id) named,
       LATERAL (VALUES ('Grant', grant_id), ('AuthorizationCode', 'oidc-code-' || lpad(number::text, 33, '0'))) made (kind, id);
