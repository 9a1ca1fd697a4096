-- Authorization codes from number :first on, of one client, which has a plain secret: its hash is slow on purpose.
INSERT INTO auth_user (id, password, is_superuser, username, first_name, last_name, email, is_staff, is_active, date_joined)
VALUES (1, '', false, 'person', '', '', '', false, true, now())
    ON CONFLICT DO NOTHING;
INSERT INTO oauth2_provider_application (id, client_id, client_secret, hash_client_secret, client_type,
                                         authorization_grant_type, redirect_uris, post_logout_redirect_uris, name,
                                         skip_authorization, algorithm, allowed_origins, registration_source,
                                         created, updated)
VALUES (1, 'exchanging', 'exchanging-secret', false, 'confidential', 'authorization-code',
        'https://mis.example.com/callback', '', '', true, '', '', 'manual', now(), now())
    ON CONFLICT DO NOTHING;
INSERT INTO oauth2_provider_grant (code, user_id, application_id, expires, redirect_uri, scope, created, updated,
                                   code_challenge, code_challenge_method, nonce, claims, resource)
SELECT 'django-code-' || lpad(number::text, 10, '0'), 1, 1, now() + interval '1 day',
       'https://mis.example.com/callback', 'connection:write', now(), now(), '', '', '', '', '[]'
  FROM generate_series(:first, :last) number;
