SET statement_timeout = 0;
SET lock_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SET transaction_timeout = 0;
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
SET check_function_bodies = false;
SET xmloption = content;
SET client_min_messages = warning;
SET row_security = off;
CREATE FUNCTION public.audit_events_only_grow() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    RAISE EXCEPTION 'audit_events only grows: % is refused', TG_OP USING ERRCODE = 'insufficient_privilege';
END
$$;
SET default_tablespace = '';
SET default_table_access_method = heap;
CREATE TABLE public.alembic_version (
    version_num character varying(32) NOT NULL
);
CREATE TABLE public.apps (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    user_id uuid NOT NULL,
    client_id uuid NOT NULL,
    scope text NOT NULL,
    inserted_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL
);
CREATE TABLE public.attempts (
    key text NOT NULL,
    started_at timestamp with time zone DEFAULT now() NOT NULL,
    count integer DEFAULT 1 NOT NULL
);
CREATE TABLE public.audit_events (
    id bigint NOT NULL,
    occurred_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    action text NOT NULL,
    subject_id uuid NOT NULL,
    client_id uuid,
    actor_user_id uuid,
    actor_client_id uuid,
    api_key_client_id uuid,
    request_id text,
    network_address text,
    old jsonb,
    new jsonb
);
ALTER TABLE public.audit_events ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.audit_events_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE public.authentication_factors (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    user_id uuid NOT NULL,
    type text NOT NULL,
    factor text,
    is_active boolean DEFAULT true NOT NULL,
    inserted_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT authentication_factors_type_check CHECK ((type = 'SMS'::text))
);
CREATE TABLE public.client_types (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    name text NOT NULL,
    scope text NOT NULL,
    inserted_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT client_types_name_check CHECK ((name <> ''::text))
);
CREATE TABLE public.clients (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    name text NOT NULL,
    settings jsonb DEFAULT '{}'::jsonb NOT NULL,
    priv_settings jsonb DEFAULT '{"access_type": "BROKER"}'::jsonb NOT NULL,
    user_id uuid NOT NULL,
    client_type_id uuid NOT NULL,
    is_blocked boolean DEFAULT false NOT NULL,
    block_reason text,
    inserted_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT clients_name_check CHECK ((name <> ''::text)),
    CONSTRAINT clients_priv_settings_check CHECK (((priv_settings ->> 'access_type'::text) = ANY (ARRAY['DIRECT'::text, 'BROKER'::text])))
);
CREATE TABLE public.connections (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    client_id uuid NOT NULL,
    consumer_id uuid NOT NULL,
    redirect_uri text NOT NULL,
    secret_digest bytea NOT NULL,
    secret_tail text NOT NULL,
    previous_secret_digest bytea,
    previous_secret_expires_at timestamp with time zone,
    version bigint DEFAULT 1 NOT NULL,
    inserted_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT connections_check CHECK (((previous_secret_digest IS NULL) = (previous_secret_expires_at IS NULL))),
    CONSTRAINT connections_redirect_uri_check CHECK ((redirect_uri <> ''::text))
)
WITH (fillfactor='85');
CREATE TABLE public.global_user_roles (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    user_id uuid NOT NULL,
    role_id uuid NOT NULL,
    inserted_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL
);
CREATE TABLE public.nonces (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    client_id uuid NOT NULL,
    expires_at timestamp with time zone NOT NULL,
    used_at timestamp with time zone,
    inserted_at timestamp with time zone DEFAULT now() NOT NULL
);
CREATE TABLE public.otp (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    key text NOT NULL,
    code_digest bytea NOT NULL,
    code_expired_at timestamp with time zone NOT NULL,
    status text NOT NULL,
    active boolean DEFAULT true NOT NULL,
    attempts_count integer DEFAULT 0 NOT NULL,
    inserted_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT otp_status_check CHECK ((status = ANY (ARRAY['NEW'::text, 'VERIFIED'::text, 'UNVERIFIED'::text, 'CANCELED'::text, 'EXPIRED'::text, 'COMPLETED'::text])))
);
CREATE TABLE public.password_hstr (
    id bigint NOT NULL,
    user_id uuid NOT NULL,
    password_hash text NOT NULL,
    inserted_at timestamp with time zone DEFAULT now() NOT NULL
);
ALTER TABLE public.password_hstr ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.password_hstr_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE public.roles (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    name text NOT NULL,
    scope text NOT NULL,
    inserted_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT roles_name_check CHECK ((name <> ''::text))
);
CREATE TABLE public.tokens (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    name text NOT NULL,
    digest bytea NOT NULL,
    user_id uuid NOT NULL,
    client_id uuid NOT NULL,
    connection_id uuid,
    family_id uuid,
    scope text,
    details jsonb DEFAULT '{}'::jsonb NOT NULL,
    expires_at timestamp with time zone NOT NULL,
    used_at timestamp with time zone,
    inserted_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT tokens_name_check CHECK ((name <> ''::text))
);
CREATE TABLE public.user_roles (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    user_id uuid NOT NULL,
    role_id uuid NOT NULL,
    client_id uuid NOT NULL,
    inserted_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL
);
CREATE TABLE public.users (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    email text NOT NULL,
    password_hash text,
    password_set_at timestamp with time zone DEFAULT now() NOT NULL,
    tax_id text DEFAULT ''::text NOT NULL,
    person_id text DEFAULT ''::text NOT NULL,
    settings jsonb DEFAULT '{}'::jsonb NOT NULL,
    priv_settings jsonb DEFAULT '{}'::jsonb NOT NULL,
    otp_error_count integer DEFAULT 0 NOT NULL,
    is_blocked boolean DEFAULT false NOT NULL,
    block_reason text,
    inserted_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT users_email_check CHECK (((email = lower(email)) AND (email <> ''::text)))
);
INSERT INTO public.alembic_version VALUES ('0003');
INSERT INTO public.apps VALUES ('b80c8fef-a677-5340-85fb-2c162d75df03', '0c1f4c33-6a8e-4d0b-9a53-5a3f0c9d2b01', '1380df72-275a-11e7-93ae-92361f002671', 'legal_entity:read client:read connection:read connection:write connection:refresh_secret connection:delete', '2026-11-29 00:00:00+00', '2026-11-29 00:00:00+00');
INSERT INTO public.apps VALUES ('ff6c5a08-b2fa-56b6-ac00-6830f4074b6a', 'afca48e9-59ea-5a28-b8a4-88e0cc6eda1c', 'c6577abe-8c0f-5a02-ac84-aa94c2247b1e', 'scope', '2026-11-29 00:00:00+00', '2026-11-29 00:00:00+00');
INSERT INTO public.apps VALUES ('5bd20866-3478-53f7-bc79-d2aae304b443', 'c06243dc-eaed-5ddf-bc34-c28ae6c89ede', 'b756dcb0-3600-525d-bacb-285c0f1a07e2', 'scope', '2026-11-29 00:00:00+00', '2026-11-29 00:00:00+00');
INSERT INTO public.apps VALUES ('e1e5b788-f429-5a32-9f7e-63865921a5e5', '2342aa20-6cb6-53c8-9764-61bcac17bdcc', '3a8b9d4c-b292-5153-b160-70f43a18999e', 'scope', '2026-11-29 00:00:00+00', '2026-11-29 00:00:00+00');
INSERT INTO public.apps VALUES ('12f18104-36a2-5810-a811-e616e5314449', 'fc340cae-d629-53ca-bfc2-f46c1a22d325', '6d5f64e6-d53b-5df6-8005-7d9a26547399', 'scope', '2026-11-29 00:00:00+00', '2026-11-29 00:00:00+00');
INSERT INTO public.attempts VALUES ('1', '2026-11-29 00:00:00+00', 1);
INSERT INTO public.attempts VALUES ('2', '2026-11-29 00:00:00+00', 1);
INSERT INTO public.attempts VALUES ('3', '2026-11-29 00:00:00+00', 1);
INSERT INTO public.attempts VALUES ('4', '2026-11-29 00:00:00+00', 1);
INSERT INTO public.audit_events OVERRIDING SYSTEM VALUE VALUES (1, '2026-11-29 00:00:00+00', 'client_type.create', '7fb92d73-86ec-5509-ba7b-7be21db93784', NULL, NULL, NULL, NULL, 'import', NULL, NULL, '{"name": "MSP", "scope": "app:authorize legal_entity:read employee:read declaration:read client:read connection:read connection:write connection:refresh_secret connection:delete"}');
INSERT INTO public.audit_events OVERRIDING SYSTEM VALUE VALUES (2, '2026-11-29 00:00:00+00', 'client_type.create', '071beeb1-b1ed-5e7c-87e3-30a0877942b4', NULL, NULL, NULL, NULL, 'import', NULL, NULL, '{"name": "PHARMACY", "scope": "app:authorize legal_entity:read medication_dispense:read client:read connection:read connection:write connection:refresh_secret connection:delete"}');
INSERT INTO public.audit_events OVERRIDING SYSTEM VALUE VALUES (3, '2026-11-29 00:00:00+00', 'client_type.create', '70ede393-d226-5e56-9f16-31b79e2b724b', NULL, NULL, NULL, NULL, 'import', NULL, NULL, '{"name": "MIS", "scope": "app:authorize legal_entity:read legal_entity:write legal_entity:mis_verify role:read client:read connection:read connection:write connection:refresh_secret connection:delete"}');
INSERT INTO public.audit_events OVERRIDING SYSTEM VALUE VALUES (4, '2026-11-29 00:00:00+00', 'client_type.create', '38a01d76-c518-5afc-9b94-14cb038b4370', NULL, NULL, NULL, NULL, 'import', NULL, NULL, '{"name": "MSP_LIMITED", "scope": "legal_entity:read client:read connection:read"}');
INSERT INTO public.audit_events OVERRIDING SYSTEM VALUE VALUES (5, '2026-11-29 00:00:00+00', 'client_type.create', '289dd7fb-89ab-53ff-803d-2fd731906127', NULL, NULL, NULL, NULL, 'import', NULL, NULL, '{"name": "NHS ADMIN", "scope": "app:authorize legal_entity:read legal_entity:nhs_verify client:read connection:read connection:write connection:refresh_secret connection:delete"}');
INSERT INTO public.audit_events OVERRIDING SYSTEM VALUE VALUES (6, '2026-11-29 00:00:00+00', 'client_type.create', '2c6e5af1-5b9d-5891-90d2-786607a2882e', NULL, NULL, NULL, NULL, 'import', NULL, NULL, '{"name": "MITHRIL ADMIN", "scope": "app:authorize app:read app:write app:delete client:read client:write client:delete client_type:read client_type:write client_type:delete role:read role:write role:delete token:read token:write token:delete user:read user:write user:delete user:block user:unblock connection:read connection:write connection:refresh_secret connection:delete"}');
INSERT INTO public.audit_events OVERRIDING SYSTEM VALUE VALUES (7, '2026-11-29 00:00:00+00', 'client_type.create', '51e4ac9a-92ed-5ca5-95ab-f9260e15f813', NULL, NULL, NULL, NULL, 'import', NULL, NULL, '{"name": "Auth_FE", "scope": "app:authorize"}');
INSERT INTO public.audit_events OVERRIDING SYSTEM VALUE VALUES (8, '2026-11-29 00:00:00+00', 'client_type.create', 'b6c956a2-a400-45ca-9966-f0030a968eec', NULL, NULL, NULL, NULL, 'import', NULL, NULL, '{"name": "CABINET", "scope": "cabinet:read app:authorize user:change_password declaration:read person:read"}');
INSERT INTO public.audit_events OVERRIDING SYSTEM VALUE VALUES (9, '2026-11-29 00:00:00+00', 'role.create', '1fdaa47a-21ac-5365-934a-42c53f6d327f', NULL, NULL, NULL, NULL, 'import', NULL, NULL, '{"name": "OWNER", "scope": "app:authorize legal_entity:read employee:read declaration:read client:read connection:read connection:write connection:refresh_secret connection:delete"}');
INSERT INTO public.audit_events OVERRIDING SYSTEM VALUE VALUES (10, '2026-11-29 00:00:00+00', 'role.create', '163990cd-9f59-57e1-acf2-23648195c146', NULL, NULL, NULL, NULL, 'import', NULL, NULL, '{"name": "DOCTOR", "scope": "app:authorize legal_entity:read employee:read declaration:read"}');
INSERT INTO public.audit_events OVERRIDING SYSTEM VALUE VALUES (11, '2026-11-29 00:00:00+00', 'role.create', '0c49e57f-9f0c-56d4-8fdb-7d3ae6246ec9', NULL, NULL, NULL, NULL, 'import', NULL, NULL, '{"name": "PHARMACY_OWNER", "scope": "app:authorize legal_entity:read medication_dispense:read client:read connection:read connection:write connection:refresh_secret connection:delete"}');
INSERT INTO public.audit_events OVERRIDING SYSTEM VALUE VALUES (12, '2026-11-29 00:00:00+00', 'role.create', 'fb5ee05b-8ff0-5a2d-8e7a-a74358a96b3b', NULL, NULL, NULL, NULL, 'import', NULL, NULL, '{"name": "MIS USER", "scope": "app:authorize legal_entity:read legal_entity:write legal_entity:mis_verify role:read client:read connection:read connection:write connection:refresh_secret connection:delete"}');
INSERT INTO public.audit_events OVERRIDING SYSTEM VALUE VALUES (13, '2026-11-29 00:00:00+00', 'role.create', 'ab827ed2-86c2-5c7f-8eee-0326d169f0da', NULL, NULL, NULL, NULL, 'import', NULL, NULL, '{"name": "NHS ADMIN", "scope": "app:authorize legal_entity:read legal_entity:nhs_verify client:read connection:read connection:write connection:refresh_secret connection:delete"}');
INSERT INTO public.audit_events OVERRIDING SYSTEM VALUE VALUES (14, '2026-11-29 00:00:00+00', 'role.create', '31c1fa49-8635-5943-b57e-c7e667e181db', NULL, NULL, NULL, NULL, 'import', NULL, NULL, '{"name": "MITHRIL ADMIN", "scope": "app:authorize app:read app:write app:delete client:read client:write client:delete client_type:read client_type:write client_type:delete role:read role:write role:delete token:read token:write token:delete user:read user:write user:delete user:block user:unblock connection:read connection:write connection:refresh_secret connection:delete"}');
INSERT INTO public.audit_events OVERRIDING SYSTEM VALUE VALUES (15, '2026-11-29 00:00:00+00', 'user.create', '4261eacf-8008-4e62-899f-de1e2f7065f0', NULL, NULL, NULL, NULL, 'import', NULL, NULL, '{"email": "system@mithril.example", "tax_id": "", "settings": {}, "person_id": "", "is_blocked": false, "block_reason": null, "priv_settings": {}, "password_set_at": "2026-11-29T00:00:00+00:00"}');
INSERT INTO public.audit_events OVERRIDING SYSTEM VALUE VALUES (16, '2026-11-29 00:00:00+00', 'user.create', '0c1f4c33-6a8e-4d0b-9a53-5a3f0c9d2b01', NULL, NULL, NULL, NULL, 'import', NULL, NULL, '{"email": "owner@clinic.example", "tax_id": "3067305998", "settings": {}, "person_id": "", "is_blocked": false, "block_reason": null, "priv_settings": {}, "password_set_at": "2026-11-29T00:00:00+00:00"}');
INSERT INTO public.audit_events OVERRIDING SYSTEM VALUE VALUES (17, '2026-11-29 00:00:00+00', 'user.create', '0c1f4c33-6a8e-4d0b-9a53-5a3f0c9d2b02', NULL, NULL, NULL, NULL, 'import', NULL, NULL, '{"email": "doctor@clinic.example", "tax_id": "", "settings": {}, "person_id": "", "is_blocked": false, "block_reason": null, "priv_settings": {}, "password_set_at": "2026-11-29T00:00:00+00:00"}');
INSERT INTO public.audit_events OVERRIDING SYSTEM VALUE VALUES (18, '2026-11-29 00:00:00+00', 'user.create', '0c1f4c33-6a8e-4d0b-9a53-5a3f0c9d2b03', NULL, NULL, NULL, NULL, 'import', NULL, NULL, '{"email": "owner@pharmacy.example", "tax_id": "", "settings": {}, "person_id": "", "is_blocked": false, "block_reason": null, "priv_settings": {}, "password_set_at": "2026-11-29T00:00:00+00:00"}');
INSERT INTO public.audit_events OVERRIDING SYSTEM VALUE VALUES (19, '2026-11-29 00:00:00+00', 'user.create', '0c1f4c33-6a8e-4d0b-9a53-5a3f0c9d2b04', NULL, NULL, NULL, NULL, 'import', NULL, NULL, '{"email": "developer@mis.example", "tax_id": "", "settings": {}, "person_id": "", "is_blocked": false, "block_reason": null, "priv_settings": {}, "password_set_at": "2026-11-29T00:00:00+00:00"}');
INSERT INTO public.audit_events OVERRIDING SYSTEM VALUE VALUES (20, '2026-11-29 00:00:00+00', 'user.create', '0c1f4c33-6a8e-4d0b-9a53-5a3f0c9d2b05', NULL, NULL, NULL, NULL, 'import', NULL, NULL, '{"email": "admin@nhs.example", "tax_id": "", "settings": {}, "person_id": "", "is_blocked": false, "block_reason": null, "priv_settings": {}, "password_set_at": "2026-11-29T00:00:00+00:00"}');
INSERT INTO public.audit_events OVERRIDING SYSTEM VALUE VALUES (21, '2026-11-29 00:00:00+00', 'user.create', '0c1f4c33-6a8e-4d0b-9a53-5a3f0c9d2b06', NULL, NULL, NULL, NULL, 'import', NULL, NULL, '{"email": "blocked@clinic.example", "tax_id": "", "settings": {}, "person_id": "", "is_blocked": true, "block_reason": "left the clinic", "priv_settings": {}, "password_set_at": "2026-11-29T00:00:00+00:00"}');
INSERT INTO public.audit_events OVERRIDING SYSTEM VALUE VALUES (22, '2026-11-29 00:00:00+00', 'client.create', '1380df72-275a-11e7-93ae-92361f002671', '1380df72-275a-11e7-93ae-92361f002671', NULL, NULL, NULL, 'import', NULL, NULL, '{"name": "Клініка «Здоров''я»", "user_id": "0c1f4c33-6a8e-4d0b-9a53-5a3f0c9d2b01", "settings": {}, "is_blocked": false, "block_reason": null, "priv_settings": {"access_type": "BROKER"}, "client_type_id": "7fb92d73-86ec-5509-ba7b-7be21db93784"}');
INSERT INTO public.audit_events OVERRIDING SYSTEM VALUE VALUES (23, '2026-11-29 00:00:00+00', 'client.create', '25c03af6-69bd-439e-b0dd-f1669b3dbbfd', '25c03af6-69bd-439e-b0dd-f1669b3dbbfd', NULL, NULL, NULL, 'import', NULL, NULL, '{"name": "МІС «Приклад»", "user_id": "0c1f4c33-6a8e-4d0b-9a53-5a3f0c9d2b04", "settings": {}, "is_blocked": false, "block_reason": null, "priv_settings": {"access_type": "DIRECT", "broker_scope": "app:authorize legal_entity:read employee:read declaration:read medication_dispense:read client:read connection:read connection:write connection:refresh_secret connection:delete"}, "client_type_id": "70ede393-d226-5e56-9f16-31b79e2b724b"}');
INSERT INTO public.audit_events OVERRIDING SYSTEM VALUE VALUES (24, '2026-11-29 00:00:00+00', 'client.create', 'df9f70ee-4b12-4740-b0f5-bb5aea116863', 'df9f70ee-4b12-4740-b0f5-bb5aea116863', NULL, NULL, NULL, 'import', NULL, NULL, '{"name": "Аптека 199", "user_id": "0c1f4c33-6a8e-4d0b-9a53-5a3f0c9d2b03", "settings": {}, "is_blocked": false, "block_reason": null, "priv_settings": {"access_type": "BROKER"}, "client_type_id": "071beeb1-b1ed-5e7c-87e3-30a0877942b4"}');
INSERT INTO public.audit_events OVERRIDING SYSTEM VALUE VALUES (25, '2026-11-29 00:00:00+00', 'client.create', 'c4a6d45f-2cf2-4e6d-909a-5962604ad63b', 'c4a6d45f-2cf2-4e6d-909a-5962604ad63b', NULL, NULL, NULL, 'import', NULL, NULL, '{"name": "НСЗУ", "user_id": "0c1f4c33-6a8e-4d0b-9a53-5a3f0c9d2b05", "settings": {}, "is_blocked": false, "block_reason": null, "priv_settings": {"access_type": "DIRECT"}, "client_type_id": "289dd7fb-89ab-53ff-803d-2fd731906127"}');
INSERT INTO public.audit_events OVERRIDING SYSTEM VALUE VALUES (26, '2026-11-29 00:00:00+00', 'client.create', 'e2e1d2c8-9bac-43c6-adef-83239940b30a', 'e2e1d2c8-9bac-43c6-adef-83239940b30a', NULL, NULL, NULL, 'import', NULL, NULL, '{"name": "Sign-in", "user_id": "4261eacf-8008-4e62-899f-de1e2f7065f0", "settings": {"allowed_grant_types": ["password", "change_password"]}, "is_blocked": false, "block_reason": null, "priv_settings": {"access_type": "DIRECT"}, "client_type_id": "51e4ac9a-92ed-5ca5-95ab-f9260e15f813"}');
INSERT INTO public.audit_events OVERRIDING SYSTEM VALUE VALUES (27, '2026-11-29 00:00:00+00', 'client.create', '30074b6e-fbab-4dc1-9d37-88c21dab1847', '30074b6e-fbab-4dc1-9d37-88c21dab1847', NULL, NULL, NULL, 'import', NULL, NULL, '{"name": "Кабінет", "user_id": "4261eacf-8008-4e62-899f-de1e2f7065f0", "settings": {"allowed_grant_types": ["password", "digital_signature"]}, "is_blocked": false, "block_reason": null, "priv_settings": {"access_type": "DIRECT"}, "client_type_id": "b6c956a2-a400-45ca-9966-f0030a968eec"}');
INSERT INTO public.audit_events OVERRIDING SYSTEM VALUE VALUES (28, '2026-11-29 00:00:00+00', 'connection.create', 'e5372365-d47a-467f-81d0-f35117864352', '1380df72-275a-11e7-93ae-92361f002671', NULL, NULL, NULL, 'import', NULL, NULL, '{"client_id": "1380df72-275a-11e7-93ae-92361f002671", "consumer_id": "25c03af6-69bd-439e-b0dd-f1669b3dbbfd", "secret_tail": "Zz09", "redirect_uri": "https://example2.com"}');
INSERT INTO public.audit_events OVERRIDING SYSTEM VALUE VALUES (29, '2026-11-29 00:00:00+00', 'connection.create', '7c0f3a52-3b57-4b0c-8f0a-6f2f6d0f9a11', '25c03af6-69bd-439e-b0dd-f1669b3dbbfd', NULL, NULL, NULL, 'import', NULL, NULL, '{"client_id": "25c03af6-69bd-439e-b0dd-f1669b3dbbfd", "consumer_id": "25c03af6-69bd-439e-b0dd-f1669b3dbbfd", "secret_tail": "c4en", "redirect_uri": "https://mis.example.com/callback"}');
INSERT INTO public.audit_events OVERRIDING SYSTEM VALUE VALUES (30, '2026-11-29 00:00:00+00', 'connection.create', '7c0f3a52-3b57-4b0c-8f0a-6f2f6d0f9a12', 'df9f70ee-4b12-4740-b0f5-bb5aea116863', NULL, NULL, NULL, 'import', NULL, NULL, '{"client_id": "df9f70ee-4b12-4740-b0f5-bb5aea116863", "consumer_id": "25c03af6-69bd-439e-b0dd-f1669b3dbbfd", "secret_tail": "2c91", "redirect_uri": "https://mis.example.com/pharmacy"}');
INSERT INTO public.audit_events OVERRIDING SYSTEM VALUE VALUES (31, '2026-11-29 00:00:00+00', 'user_role.create', 'cfff2af7-ed85-5f59-8246-88bfc5a0d398', '1380df72-275a-11e7-93ae-92361f002671', NULL, NULL, NULL, 'import', NULL, NULL, '{"role_id": "1fdaa47a-21ac-5365-934a-42c53f6d327f", "user_id": "0c1f4c33-6a8e-4d0b-9a53-5a3f0c9d2b01", "client_id": "1380df72-275a-11e7-93ae-92361f002671"}');
INSERT INTO public.audit_events OVERRIDING SYSTEM VALUE VALUES (32, '2026-11-29 00:00:00+00', 'user_role.create', '3fb5eb5f-71f9-55de-8c4c-4792d4269ff5', '1380df72-275a-11e7-93ae-92361f002671', NULL, NULL, NULL, 'import', NULL, NULL, '{"role_id": "163990cd-9f59-57e1-acf2-23648195c146", "user_id": "0c1f4c33-6a8e-4d0b-9a53-5a3f0c9d2b02", "client_id": "1380df72-275a-11e7-93ae-92361f002671"}');
INSERT INTO public.audit_events OVERRIDING SYSTEM VALUE VALUES (33, '2026-11-29 00:00:00+00', 'user_role.create', '3d04c8a6-cc47-53ca-acab-6be3481dca5f', 'df9f70ee-4b12-4740-b0f5-bb5aea116863', NULL, NULL, NULL, 'import', NULL, NULL, '{"role_id": "0c49e57f-9f0c-56d4-8fdb-7d3ae6246ec9", "user_id": "0c1f4c33-6a8e-4d0b-9a53-5a3f0c9d2b03", "client_id": "df9f70ee-4b12-4740-b0f5-bb5aea116863"}');
INSERT INTO public.audit_events OVERRIDING SYSTEM VALUE VALUES (34, '2026-11-29 00:00:00+00', 'user_role.create', '3d930c8b-a9eb-525d-8dcd-ff696fd2e68a', '25c03af6-69bd-439e-b0dd-f1669b3dbbfd', NULL, NULL, NULL, 'import', NULL, NULL, '{"role_id": "fb5ee05b-8ff0-5a2d-8e7a-a74358a96b3b", "user_id": "0c1f4c33-6a8e-4d0b-9a53-5a3f0c9d2b04", "client_id": "25c03af6-69bd-439e-b0dd-f1669b3dbbfd"}');
INSERT INTO public.audit_events OVERRIDING SYSTEM VALUE VALUES (35, '2026-11-29 00:00:00+00', 'global_user_role.create', '2018fde1-193b-547d-aca1-cbccfabe029d', NULL, NULL, NULL, NULL, 'import', NULL, NULL, '{"role_id": "ab827ed2-86c2-5c7f-8eee-0326d169f0da", "user_id": "0c1f4c33-6a8e-4d0b-9a53-5a3f0c9d2b05"}');
INSERT INTO public.audit_events OVERRIDING SYSTEM VALUE VALUES (36, '2026-11-29 00:00:00+00', 'approval.create', 'b80c8fef-a677-5340-85fb-2c162d75df03', '1380df72-275a-11e7-93ae-92361f002671', NULL, NULL, NULL, 'import', NULL, NULL, '{"scope": "legal_entity:read client:read connection:read connection:write connection:refresh_secret connection:delete", "user_id": "0c1f4c33-6a8e-4d0b-9a53-5a3f0c9d2b01", "client_id": "1380df72-275a-11e7-93ae-92361f002671"}');
INSERT INTO public.audit_events OVERRIDING SYSTEM VALUE VALUES (37, '2026-11-29 00:00:00+00', 'connection.update', 'e2ca9033-3f0f-5b89-bd7d-96cf9e2530b0', 'c6577abe-8c0f-5a02-ac84-aa94c2247b1e', 'afca48e9-59ea-5a28-b8a4-88e0cc6eda1c', NULL, NULL, NULL, NULL, NULL, NULL);
INSERT INTO public.audit_events OVERRIDING SYSTEM VALUE VALUES (38, '2026-11-29 00:00:00+00', 'connection.update', '1191d1bc-0dde-52ed-9a2e-9a7ef299e46b', 'b756dcb0-3600-525d-bacb-285c0f1a07e2', 'c06243dc-eaed-5ddf-bc34-c28ae6c89ede', NULL, NULL, NULL, NULL, NULL, NULL);
INSERT INTO public.audit_events OVERRIDING SYSTEM VALUE VALUES (39, '2026-11-29 00:00:00+00', 'connection.update', '0216aff8-5cd5-58b0-861f-3d66c1248d03', '3a8b9d4c-b292-5153-b160-70f43a18999e', '2342aa20-6cb6-53c8-9764-61bcac17bdcc', NULL, NULL, NULL, NULL, NULL, NULL);
INSERT INTO public.audit_events OVERRIDING SYSTEM VALUE VALUES (40, '2026-11-29 00:00:00+00', 'connection.update', 'fc13841d-8ea7-5f38-a819-5ae8e6605a41', '6d5f64e6-d53b-5df6-8005-7d9a26547399', 'fc340cae-d629-53ca-bfc2-f46c1a22d325', NULL, NULL, NULL, NULL, NULL, NULL);
INSERT INTO public.audit_events OVERRIDING SYSTEM VALUE VALUES (41, '2026-11-29 00:00:00+00', 'client.update', 'c6577abe-8c0f-5a02-ac84-aa94c2247b1e', NULL, NULL, NULL, 'b756dcb0-3600-525d-bacb-285c0f1a07e2', 'a-request-id-of-20-chars', '192.0.2.1', '{"is_blocked": false}', '{"is_blocked": true}');
INSERT INTO public.authentication_factors VALUES ('eba453ca-db1c-51d8-b9d4-0c09adf52b9c', 'afca48e9-59ea-5a28-b8a4-88e0cc6eda1c', 'SMS', '1', true, '2026-11-29 00:00:00+00', '2026-11-29 00:00:00+00');
INSERT INTO public.authentication_factors VALUES ('a6845065-8407-57da-9cf5-e5cd1b0e69c4', 'c06243dc-eaed-5ddf-bc34-c28ae6c89ede', 'SMS', '2', true, '2026-11-29 00:00:00+00', '2026-11-29 00:00:00+00');
INSERT INTO public.authentication_factors VALUES ('7f8da4f9-2af1-5075-be8a-06481bbeeafc', '2342aa20-6cb6-53c8-9764-61bcac17bdcc', 'SMS', '3', true, '2026-11-29 00:00:00+00', '2026-11-29 00:00:00+00');
INSERT INTO public.authentication_factors VALUES ('6c2adc87-91d0-56a3-809e-dab65d517dbd', 'fc340cae-d629-53ca-bfc2-f46c1a22d325', 'SMS', '4', true, '2026-11-29 00:00:00+00', '2026-11-29 00:00:00+00');
INSERT INTO public.client_types VALUES ('7fb92d73-86ec-5509-ba7b-7be21db93784', 'MSP', 'app:authorize legal_entity:read employee:read declaration:read client:read connection:read connection:write connection:refresh_secret connection:delete', '2026-11-29 00:00:00+00', '2026-11-29 00:00:00+00');
INSERT INTO public.client_types VALUES ('071beeb1-b1ed-5e7c-87e3-30a0877942b4', 'PHARMACY', 'app:authorize legal_entity:read medication_dispense:read client:read connection:read connection:write connection:refresh_secret connection:delete', '2026-11-29 00:00:00+00', '2026-11-29 00:00:00+00');
INSERT INTO public.client_types VALUES ('70ede393-d226-5e56-9f16-31b79e2b724b', 'MIS', 'app:authorize legal_entity:read legal_entity:write legal_entity:mis_verify role:read client:read connection:read connection:write connection:refresh_secret connection:delete', '2026-11-29 00:00:00+00', '2026-11-29 00:00:00+00');
INSERT INTO public.client_types VALUES ('38a01d76-c518-5afc-9b94-14cb038b4370', 'MSP_LIMITED', 'legal_entity:read client:read connection:read', '2026-11-29 00:00:00+00', '2026-11-29 00:00:00+00');
INSERT INTO public.client_types VALUES ('289dd7fb-89ab-53ff-803d-2fd731906127', 'NHS ADMIN', 'app:authorize legal_entity:read legal_entity:nhs_verify client:read connection:read connection:write connection:refresh_secret connection:delete', '2026-11-29 00:00:00+00', '2026-11-29 00:00:00+00');
INSERT INTO public.client_types VALUES ('2c6e5af1-5b9d-5891-90d2-786607a2882e', 'MITHRIL ADMIN', 'app:authorize app:read app:write app:delete client:read client:write client:delete client_type:read client_type:write client_type:delete role:read role:write role:delete token:read token:write token:delete user:read user:write user:delete user:block user:unblock connection:read connection:write connection:refresh_secret connection:delete', '2026-11-29 00:00:00+00', '2026-11-29 00:00:00+00');
INSERT INTO public.client_types VALUES ('51e4ac9a-92ed-5ca5-95ab-f9260e15f813', 'Auth_FE', 'app:authorize', '2026-11-29 00:00:00+00', '2026-11-29 00:00:00+00');
INSERT INTO public.client_types VALUES ('b6c956a2-a400-45ca-9966-f0030a968eec', 'CABINET', 'cabinet:read app:authorize user:change_password declaration:read person:read', '2026-11-29 00:00:00+00', '2026-11-29 00:00:00+00');
INSERT INTO public.client_types VALUES ('6aa2703b-d2f7-5206-be18-ccdb8c7553a9', 'TYPE 0', 'scope', '2026-11-29 00:00:00+00', '2026-11-29 00:00:00+00');
INSERT INTO public.client_types VALUES ('5bccf91e-aec8-5b2d-b5e9-376e477ba198', 'TYPE 1', 'scope', '2026-11-29 00:00:00+00', '2026-11-29 00:00:00+00');
INSERT INTO public.client_types VALUES ('88d39dc9-3c4b-5bb4-afef-b92b34a5f62d', 'TYPE 2', 'scope', '2026-11-29 00:00:00+00', '2026-11-29 00:00:00+00');
INSERT INTO public.client_types VALUES ('6f172386-e968-5c41-baff-803a3b4fb6d0', 'TYPE 3', 'scope', '2026-11-29 00:00:00+00', '2026-11-29 00:00:00+00');
INSERT INTO public.client_types VALUES ('4905e95e-da65-51e6-97af-5003dcf070c1', 'TYPE 4', 'scope', '2026-11-29 00:00:00+00', '2026-11-29 00:00:00+00');
INSERT INTO public.client_types VALUES ('76ec6198-b83d-5cd6-9da7-61096298b7b7', 'TYPE 5', 'scope', '2026-11-29 00:00:00+00', '2026-11-29 00:00:00+00');
INSERT INTO public.client_types VALUES ('f6d5d99e-cfd8-5ce2-825d-900ed8d255b6', 'TYPE 6', 'scope', '2026-11-29 00:00:00+00', '2026-11-29 00:00:00+00');
INSERT INTO public.client_types VALUES ('c9e8e711-4c57-57f0-9376-095d44e81a07', 'TYPE 7', 'scope', '2026-11-29 00:00:00+00', '2026-11-29 00:00:00+00');
INSERT INTO public.client_types VALUES ('1fd49624-f6dc-511d-94bc-226237ab4a4d', 'TYPE 8', 'scope', '2026-11-29 00:00:00+00', '2026-11-29 00:00:00+00');
INSERT INTO public.client_types VALUES ('c0203319-5ef0-5c04-bdbf-be9de6d3bc2f', 'TYPE 9', 'scope', '2026-11-29 00:00:00+00', '2026-11-29 00:00:00+00');
INSERT INTO public.client_types VALUES ('9a600b23-bba0-5d09-b15b-c508131f10a2', 'TYPE 10', 'scope', '2026-11-29 00:00:00+00', '2026-11-29 00:00:00+00');
INSERT INTO public.client_types VALUES ('71d3d747-4c18-5f1c-bd22-d634ad535dd3', 'TYPE 11', 'scope', '2026-11-29 00:00:00+00', '2026-11-29 00:00:00+00');
INSERT INTO public.client_types VALUES ('5a58e235-5df7-5c06-ac06-d7a36b76485a', 'TYPE 12', 'scope', '2026-11-29 00:00:00+00', '2026-11-29 00:00:00+00');
INSERT INTO public.client_types VALUES ('f834e664-473a-5d23-8dfa-785e823614e1', 'TYPE 13', 'scope', '2026-11-29 00:00:00+00', '2026-11-29 00:00:00+00');
INSERT INTO public.client_types VALUES ('3c7ea849-af4c-57de-993f-6062c2e37152', 'TYPE 14', 'scope', '2026-11-29 00:00:00+00', '2026-11-29 00:00:00+00');
INSERT INTO public.client_types VALUES ('1604bfeb-dd14-52d5-87d5-922dea42209d', 'TYPE 15', 'scope', '2026-11-29 00:00:00+00', '2026-11-29 00:00:00+00');
INSERT INTO public.client_types VALUES ('898b1280-9e95-5140-acb8-345b37d4af86', 'TYPE 16', 'scope', '2026-11-29 00:00:00+00', '2026-11-29 00:00:00+00');
INSERT INTO public.client_types VALUES ('cca0cc0a-8d45-5ac9-b775-52b84a45cd1d', 'TYPE 17', 'scope', '2026-11-29 00:00:00+00', '2026-11-29 00:00:00+00');
INSERT INTO public.client_types VALUES ('dc6ddbd1-8732-575f-8694-8e48527b5998', 'TYPE 18', 'scope', '2026-11-29 00:00:00+00', '2026-11-29 00:00:00+00');
INSERT INTO public.client_types VALUES ('a545a5ac-9ea0-5b65-adb0-04afa85f25e0', 'TYPE 19', 'scope', '2026-11-29 00:00:00+00', '2026-11-29 00:00:00+00');
INSERT INTO public.clients VALUES ('1380df72-275a-11e7-93ae-92361f002671', 'Клініка «Здоров''я»', '{}', '{"access_type": "BROKER"}', '0c1f4c33-6a8e-4d0b-9a53-5a3f0c9d2b01', '7fb92d73-86ec-5509-ba7b-7be21db93784', false, NULL, '2026-11-29 00:00:00+00', '2026-11-29 00:00:00+00');
INSERT INTO public.clients VALUES ('25c03af6-69bd-439e-b0dd-f1669b3dbbfd', 'МІС «Приклад»', '{}', '{"access_type": "DIRECT", "broker_scope": "app:authorize legal_entity:read employee:read declaration:read medication_dispense:read client:read connection:read connection:write connection:refresh_secret connection:delete"}', '0c1f4c33-6a8e-4d0b-9a53-5a3f0c9d2b04', '70ede393-d226-5e56-9f16-31b79e2b724b', false, NULL, '2026-11-29 00:00:00+00', '2026-11-29 00:00:00+00');
INSERT INTO public.clients VALUES ('df9f70ee-4b12-4740-b0f5-bb5aea116863', 'Аптека 199', '{}', '{"access_type": "BROKER"}', '0c1f4c33-6a8e-4d0b-9a53-5a3f0c9d2b03', '071beeb1-b1ed-5e7c-87e3-30a0877942b4', false, NULL, '2026-11-29 00:00:00+00', '2026-11-29 00:00:00+00');
INSERT INTO public.clients VALUES ('c4a6d45f-2cf2-4e6d-909a-5962604ad63b', 'НСЗУ', '{}', '{"access_type": "DIRECT"}', '0c1f4c33-6a8e-4d0b-9a53-5a3f0c9d2b05', '289dd7fb-89ab-53ff-803d-2fd731906127', false, NULL, '2026-11-29 00:00:00+00', '2026-11-29 00:00:00+00');
INSERT INTO public.clients VALUES ('e2e1d2c8-9bac-43c6-adef-83239940b30a', 'Sign-in', '{"allowed_grant_types": ["password", "change_password"]}', '{"access_type": "DIRECT"}', '4261eacf-8008-4e62-899f-de1e2f7065f0', '51e4ac9a-92ed-5ca5-95ab-f9260e15f813', false, NULL, '2026-11-29 00:00:00+00', '2026-11-29 00:00:00+00');
INSERT INTO public.clients VALUES ('30074b6e-fbab-4dc1-9d37-88c21dab1847', 'Кабінет', '{"allowed_grant_types": ["password", "digital_signature"]}', '{"access_type": "DIRECT"}', '4261eacf-8008-4e62-899f-de1e2f7065f0', 'b6c956a2-a400-45ca-9966-f0030a968eec', false, NULL, '2026-11-29 00:00:00+00', '2026-11-29 00:00:00+00');
INSERT INTO public.clients VALUES ('c6577abe-8c0f-5a02-ac84-aa94c2247b1e', 'Clinic 1', '{}', '{"access_type": "BROKER"}', 'afca48e9-59ea-5a28-b8a4-88e0cc6eda1c', '5bccf91e-aec8-5b2d-b5e9-376e477ba198', false, NULL, '2026-11-29 00:00:00+00', '2026-11-29 00:00:00+00');
INSERT INTO public.clients VALUES ('b756dcb0-3600-525d-bacb-285c0f1a07e2', 'Clinic 2', '{}', '{"access_type": "BROKER"}', 'c06243dc-eaed-5ddf-bc34-c28ae6c89ede', '88d39dc9-3c4b-5bb4-afef-b92b34a5f62d', false, NULL, '2026-11-29 00:00:00+00', '2026-11-29 00:00:00+00');
INSERT INTO public.clients VALUES ('3a8b9d4c-b292-5153-b160-70f43a18999e', 'Clinic 3', '{}', '{"access_type": "BROKER"}', '2342aa20-6cb6-53c8-9764-61bcac17bdcc', '6f172386-e968-5c41-baff-803a3b4fb6d0', false, NULL, '2026-11-29 00:00:00+00', '2026-11-29 00:00:00+00');
INSERT INTO public.clients VALUES ('6d5f64e6-d53b-5df6-8005-7d9a26547399', 'Clinic 4', '{}', '{"access_type": "BROKER"}', 'fc340cae-d629-53ca-bfc2-f46c1a22d325', '4905e95e-da65-51e6-97af-5003dcf070c1', false, NULL, '2026-11-29 00:00:00+00', '2026-11-29 00:00:00+00');
INSERT INTO public.connections VALUES ('e5372365-d47a-467f-81d0-f35117864352', '1380df72-275a-11e7-93ae-92361f002671', '25c03af6-69bd-439e-b0dd-f1669b3dbbfd', 'https://example2.com', '\x062f5b29174734a827b8a103c466b1f3729bc1a26c574ccbe00e9c9bebc955cf', 'Zz09', NULL, NULL, 1, '2026-11-29 00:00:00+00', '2026-11-29 00:00:00+00');
INSERT INTO public.connections VALUES ('7c0f3a52-3b57-4b0c-8f0a-6f2f6d0f9a11', '25c03af6-69bd-439e-b0dd-f1669b3dbbfd', '25c03af6-69bd-439e-b0dd-f1669b3dbbfd', 'https://mis.example.com/callback', '\x868ea5f148180e2053df9190d82b474e5d7382b136807de4f4e095fdd87f1b87', 'c4en', NULL, NULL, 1, '2026-11-29 00:00:00+00', '2026-11-29 00:00:00+00');
INSERT INTO public.connections VALUES ('7c0f3a52-3b57-4b0c-8f0a-6f2f6d0f9a12', 'df9f70ee-4b12-4740-b0f5-bb5aea116863', '25c03af6-69bd-439e-b0dd-f1669b3dbbfd', 'https://mis.example.com/pharmacy', '\xca9344089f43d1ec31a139801f04da4ebe283fa13f0f44f8c26f02c124881fd8', '2c91', NULL, NULL, 1, '2026-11-29 00:00:00+00', '2026-11-29 00:00:00+00');
INSERT INTO public.connections VALUES ('e2ca9033-3f0f-5b89-bd7d-96cf9e2530b0', 'c6577abe-8c0f-5a02-ac84-aa94c2247b1e', 'c6577abe-8c0f-5a02-ac84-aa94c2247b1e', 'https://example.com/1', '\xe8bc163c82eee18733288c7d4ac636db3a6deb013ef2d37b68322be20edc45cc', 'tail', NULL, NULL, 1, '2026-11-29 00:00:00+00', '2026-11-29 00:00:00+00');
INSERT INTO public.connections VALUES ('1191d1bc-0dde-52ed-9a2e-9a7ef299e46b', 'b756dcb0-3600-525d-bacb-285c0f1a07e2', 'b756dcb0-3600-525d-bacb-285c0f1a07e2', 'https://example.com/2', '\xad328846aa18b32a335816374511cac1063c704b8c57999e51da9f908290a7a4', 'tail', NULL, NULL, 1, '2026-11-29 00:00:00+00', '2026-11-29 00:00:00+00');
INSERT INTO public.connections VALUES ('0216aff8-5cd5-58b0-861f-3d66c1248d03', '3a8b9d4c-b292-5153-b160-70f43a18999e', '3a8b9d4c-b292-5153-b160-70f43a18999e', 'https://example.com/3', '\x41242b9fae56fad4e6e77dfe33cb18d1c3fc583f988cf25ef9f2d9be0d440bbb', 'tail', NULL, NULL, 1, '2026-11-29 00:00:00+00', '2026-11-29 00:00:00+00');
INSERT INTO public.connections VALUES ('fc13841d-8ea7-5f38-a819-5ae8e6605a41', '6d5f64e6-d53b-5df6-8005-7d9a26547399', '6d5f64e6-d53b-5df6-8005-7d9a26547399', 'https://example.com/4', '\x5b840157e7e86aef3b3fd0fc24f3add34d3e7f210370d429475ed1bcd3e7fca2', 'tail', NULL, NULL, 1, '2026-11-29 00:00:00+00', '2026-11-29 00:00:00+00');
INSERT INTO public.global_user_roles VALUES ('2018fde1-193b-547d-aca1-cbccfabe029d', '0c1f4c33-6a8e-4d0b-9a53-5a3f0c9d2b05', 'ab827ed2-86c2-5c7f-8eee-0326d169f0da', '2026-11-29 00:00:00+00', '2026-11-29 00:00:00+00');
INSERT INTO public.global_user_roles VALUES ('3a242dce-7e7f-5644-bcf4-1c0c7baf3033', 'afca48e9-59ea-5a28-b8a4-88e0cc6eda1c', 'dbca4363-10c1-527d-a9ee-818c1f682b7c', '2026-11-29 00:00:00+00', '2026-11-29 00:00:00+00');
INSERT INTO public.global_user_roles VALUES ('22a299e0-1845-536f-8d8a-59034e52e600', 'c06243dc-eaed-5ddf-bc34-c28ae6c89ede', 'b0d51db1-d570-5537-9e1e-65c692c2f32c', '2026-11-29 00:00:00+00', '2026-11-29 00:00:00+00');
INSERT INTO public.global_user_roles VALUES ('77a518ae-f6ee-5192-bb05-665bdbfb4a28', '2342aa20-6cb6-53c8-9764-61bcac17bdcc', '6186515d-3998-59f2-b07a-4efc424ed936', '2026-11-29 00:00:00+00', '2026-11-29 00:00:00+00');
INSERT INTO public.global_user_roles VALUES ('407ed4d0-c606-5251-b0e3-2354489a3ef3', 'fc340cae-d629-53ca-bfc2-f46c1a22d325', '49c1477c-efb6-5a29-a062-fe2c918a4ffa', '2026-11-29 00:00:00+00', '2026-11-29 00:00:00+00');
INSERT INTO public.nonces VALUES ('b818df3e-d4f7-5046-95b7-47f4882a35a7', 'b756dcb0-3600-525d-bacb-285c0f1a07e2', '2026-11-29 00:00:00+00', NULL, '2026-11-29 00:00:00+00');
INSERT INTO public.nonces VALUES ('b8c8050b-3989-53e7-a8b2-e70e9a7fd126', '3a8b9d4c-b292-5153-b160-70f43a18999e', '2026-11-29 00:00:00+00', NULL, '2026-11-29 00:00:00+00');
INSERT INTO public.nonces VALUES ('d86f9a2b-a2bc-5f35-b882-e612474e6e5f', '6d5f64e6-d53b-5df6-8005-7d9a26547399', '2026-11-29 00:00:00+00', NULL, '2026-11-29 00:00:00+00');
INSERT INTO public.nonces VALUES ('064d2598-0b74-552f-8777-1270881d55c6', 'c6577abe-8c0f-5a02-ac84-aa94c2247b1e', '2026-11-29 00:00:00+00', '2026-11-29 00:00:00+00', '2026-11-29 00:00:00+00');
INSERT INTO public.otp VALUES ('2bfc074e-a3aa-5852-935d-77aafcaaa814', '1', '\x636f6465', '2026-11-29 00:00:00+00', 'VERIFIED', false, 0, '2026-11-29 00:00:00+00');
INSERT INTO public.otp VALUES ('b420fd97-db8e-5fe3-a020-238c8e5ba39c', '2', '\x636f6465', '2026-11-29 00:00:00+00', 'NEW', true, 0, '2026-11-29 00:00:00+00');
INSERT INTO public.otp VALUES ('24e53689-8364-5252-8f24-c461d661e1c5', '3', '\x636f6465', '2026-11-29 00:00:00+00', 'VERIFIED', false, 0, '2026-11-29 00:00:00+00');
INSERT INTO public.otp VALUES ('fb8962fa-ab9d-582a-9c85-fa761496670d', '4', '\x636f6465', '2026-11-29 00:00:00+00', 'NEW', true, 0, '2026-11-29 00:00:00+00');
INSERT INTO public.otp VALUES ('30f2511f-e7f2-59e5-b55a-e1687813f809', 'UNVERIFIED', '\x636f6465', '2026-11-29 00:00:00+00', 'UNVERIFIED', false, 1, '2026-11-29 00:00:00+00');
INSERT INTO public.otp VALUES ('f9d78e51-cc61-58cc-910f-5aac419f1d70', 'CANCELED', '\x636f6465', '2026-11-29 00:00:00+00', 'CANCELED', false, 1, '2026-11-29 00:00:00+00');
INSERT INTO public.otp VALUES ('271e98a9-3b7a-5bd5-bfa9-c0047b5f235f', 'EXPIRED', '\x636f6465', '2026-11-29 00:00:00+00', 'EXPIRED', false, 1, '2026-11-29 00:00:00+00');
INSERT INTO public.otp VALUES ('1ed0470d-5bb2-58b9-8539-2f9c0a60a345', 'COMPLETED', '\x636f6465', '2026-11-29 00:00:00+00', 'COMPLETED', false, 1, '2026-11-29 00:00:00+00');
INSERT INTO public.password_hstr OVERRIDING SYSTEM VALUE VALUES (1, '0c1f4c33-6a8e-4d0b-9a53-5a3f0c9d2b01', '$argon2id$v=19$m=8,t=1,p=1$c2FsdCBvZiB0aGUgZHVtcA$l7z8KEA+8BiJvIIqzyF6shgqiPErFw9AIQBnKZ0Jtyc', '2026-11-29 00:00:00+00');
INSERT INTO public.password_hstr OVERRIDING SYSTEM VALUE VALUES (2, '0c1f4c33-6a8e-4d0b-9a53-5a3f0c9d2b02', '$argon2id$v=19$m=8,t=1,p=1$c2FsdCBvZiB0aGUgZHVtcA$l7z8KEA+8BiJvIIqzyF6shgqiPErFw9AIQBnKZ0Jtyc', '2026-11-29 00:00:00+00');
INSERT INTO public.password_hstr OVERRIDING SYSTEM VALUE VALUES (3, '0c1f4c33-6a8e-4d0b-9a53-5a3f0c9d2b03', '$argon2id$v=19$m=8,t=1,p=1$c2FsdCBvZiB0aGUgZHVtcA$l7z8KEA+8BiJvIIqzyF6shgqiPErFw9AIQBnKZ0Jtyc', '2026-11-29 00:00:00+00');
INSERT INTO public.password_hstr OVERRIDING SYSTEM VALUE VALUES (4, '0c1f4c33-6a8e-4d0b-9a53-5a3f0c9d2b04', '$argon2id$v=19$m=8,t=1,p=1$c2FsdCBvZiB0aGUgZHVtcA$l7z8KEA+8BiJvIIqzyF6shgqiPErFw9AIQBnKZ0Jtyc', '2026-11-29 00:00:00+00');
INSERT INTO public.password_hstr OVERRIDING SYSTEM VALUE VALUES (5, '0c1f4c33-6a8e-4d0b-9a53-5a3f0c9d2b05', '$argon2id$v=19$m=8,t=1,p=1$c2FsdCBvZiB0aGUgZHVtcA$l7z8KEA+8BiJvIIqzyF6shgqiPErFw9AIQBnKZ0Jtyc', '2026-11-29 00:00:00+00');
INSERT INTO public.password_hstr OVERRIDING SYSTEM VALUE VALUES (6, '0c1f4c33-6a8e-4d0b-9a53-5a3f0c9d2b06', '$argon2id$v=19$m=8,t=1,p=1$c2FsdCBvZiB0aGUgZHVtcA$l7z8KEA+8BiJvIIqzyF6shgqiPErFw9AIQBnKZ0Jtyc', '2026-11-29 00:00:00+00');
INSERT INTO public.password_hstr OVERRIDING SYSTEM VALUE VALUES (7, 'afca48e9-59ea-5a28-b8a4-88e0cc6eda1c', 'hash', '2026-11-29 00:00:00+00');
INSERT INTO public.password_hstr OVERRIDING SYSTEM VALUE VALUES (8, 'c06243dc-eaed-5ddf-bc34-c28ae6c89ede', 'hash', '2026-11-29 00:00:00+00');
INSERT INTO public.password_hstr OVERRIDING SYSTEM VALUE VALUES (9, '2342aa20-6cb6-53c8-9764-61bcac17bdcc', 'hash', '2026-11-29 00:00:00+00');
INSERT INTO public.password_hstr OVERRIDING SYSTEM VALUE VALUES (10, 'fc340cae-d629-53ca-bfc2-f46c1a22d325', 'hash', '2026-11-29 00:00:00+00');
INSERT INTO public.roles VALUES ('1fdaa47a-21ac-5365-934a-42c53f6d327f', 'OWNER', 'app:authorize legal_entity:read employee:read declaration:read client:read connection:read connection:write connection:refresh_secret connection:delete', '2026-11-29 00:00:00+00', '2026-11-29 00:00:00+00');
INSERT INTO public.roles VALUES ('163990cd-9f59-57e1-acf2-23648195c146', 'DOCTOR', 'app:authorize legal_entity:read employee:read declaration:read', '2026-11-29 00:00:00+00', '2026-11-29 00:00:00+00');
INSERT INTO public.roles VALUES ('0c49e57f-9f0c-56d4-8fdb-7d3ae6246ec9', 'PHARMACY_OWNER', 'app:authorize legal_entity:read medication_dispense:read client:read connection:read connection:write connection:refresh_secret connection:delete', '2026-11-29 00:00:00+00', '2026-11-29 00:00:00+00');
INSERT INTO public.roles VALUES ('fb5ee05b-8ff0-5a2d-8e7a-a74358a96b3b', 'MIS USER', 'app:authorize legal_entity:read legal_entity:write legal_entity:mis_verify role:read client:read connection:read connection:write connection:refresh_secret connection:delete', '2026-11-29 00:00:00+00', '2026-11-29 00:00:00+00');
INSERT INTO public.roles VALUES ('ab827ed2-86c2-5c7f-8eee-0326d169f0da', 'NHS ADMIN', 'app:authorize legal_entity:read legal_entity:nhs_verify client:read connection:read connection:write connection:refresh_secret connection:delete', '2026-11-29 00:00:00+00', '2026-11-29 00:00:00+00');
INSERT INTO public.roles VALUES ('31c1fa49-8635-5943-b57e-c7e667e181db', 'MITHRIL ADMIN', 'app:authorize app:read app:write app:delete client:read client:write client:delete client_type:read client_type:write client_type:delete role:read role:write role:delete token:read token:write token:delete user:read user:write user:delete user:block user:unblock connection:read connection:write connection:refresh_secret connection:delete', '2026-11-29 00:00:00+00', '2026-11-29 00:00:00+00');
INSERT INTO public.roles VALUES ('7911a2fe-90e2-5884-a9a5-ffbca4979c3f', 'ROLE 0', 'scope', '2026-11-29 00:00:00+00', '2026-11-29 00:00:00+00');
INSERT INTO public.roles VALUES ('dbca4363-10c1-527d-a9ee-818c1f682b7c', 'ROLE 1', 'scope', '2026-11-29 00:00:00+00', '2026-11-29 00:00:00+00');
INSERT INTO public.roles VALUES ('b0d51db1-d570-5537-9e1e-65c692c2f32c', 'ROLE 2', 'scope', '2026-11-29 00:00:00+00', '2026-11-29 00:00:00+00');
INSERT INTO public.roles VALUES ('6186515d-3998-59f2-b07a-4efc424ed936', 'ROLE 3', 'scope', '2026-11-29 00:00:00+00', '2026-11-29 00:00:00+00');
INSERT INTO public.roles VALUES ('49c1477c-efb6-5a29-a062-fe2c918a4ffa', 'ROLE 4', 'scope', '2026-11-29 00:00:00+00', '2026-11-29 00:00:00+00');
INSERT INTO public.roles VALUES ('07598200-e09a-5685-972e-a8a44cafdb43', 'ROLE 5', 'scope', '2026-11-29 00:00:00+00', '2026-11-29 00:00:00+00');
INSERT INTO public.roles VALUES ('dbb5320c-e6b1-5f5c-8819-6c25c2531101', 'ROLE 6', 'scope', '2026-11-29 00:00:00+00', '2026-11-29 00:00:00+00');
INSERT INTO public.roles VALUES ('525dd233-5698-5b07-8116-72e75105a3b2', 'ROLE 7', 'scope', '2026-11-29 00:00:00+00', '2026-11-29 00:00:00+00');
INSERT INTO public.roles VALUES ('6470e91b-5a2f-55cc-a74e-286dfa161143', 'ROLE 8', 'scope', '2026-11-29 00:00:00+00', '2026-11-29 00:00:00+00');
INSERT INTO public.roles VALUES ('ce1b28ad-1a2e-5c7d-97fa-17fb9a837014', 'ROLE 9', 'scope', '2026-11-29 00:00:00+00', '2026-11-29 00:00:00+00');
INSERT INTO public.roles VALUES ('f4dee25d-c6a0-58d4-8e66-b58431dfceef', 'ROLE 10', 'scope', '2026-11-29 00:00:00+00', '2026-11-29 00:00:00+00');
INSERT INTO public.roles VALUES ('2afb56dc-31ce-5c09-9cde-6b07ac2bebaf', 'ROLE 11', 'scope', '2026-11-29 00:00:00+00', '2026-11-29 00:00:00+00');
INSERT INTO public.roles VALUES ('709d58ce-53b1-592d-8432-89e7f93c97e5', 'ROLE 12', 'scope', '2026-11-29 00:00:00+00', '2026-11-29 00:00:00+00');
INSERT INTO public.roles VALUES ('965e199e-beaa-5493-ae10-2223b3dc1e2e', 'ROLE 13', 'scope', '2026-11-29 00:00:00+00', '2026-11-29 00:00:00+00');
INSERT INTO public.roles VALUES ('2b9b14ba-b4bc-565a-b23d-122fcf78e6f4', 'ROLE 14', 'scope', '2026-11-29 00:00:00+00', '2026-11-29 00:00:00+00');
INSERT INTO public.roles VALUES ('7ea1438d-1ad5-5198-b957-a5fa617d63b4', 'ROLE 15', 'scope', '2026-11-29 00:00:00+00', '2026-11-29 00:00:00+00');
INSERT INTO public.roles VALUES ('c765fb02-1ee1-5ffe-8576-759aba4607d1', 'ROLE 16', 'scope', '2026-11-29 00:00:00+00', '2026-11-29 00:00:00+00');
INSERT INTO public.roles VALUES ('942569ed-ba8e-5454-a680-0c89983a22ea', 'ROLE 17', 'scope', '2026-11-29 00:00:00+00', '2026-11-29 00:00:00+00');
INSERT INTO public.roles VALUES ('65aff90a-a220-5483-bc6f-5f2698d1ce13', 'ROLE 18', 'scope', '2026-11-29 00:00:00+00', '2026-11-29 00:00:00+00');
INSERT INTO public.roles VALUES ('33cb1b80-173d-599c-aa61-0399ade7298a', 'ROLE 19', 'scope', '2026-11-29 00:00:00+00', '2026-11-29 00:00:00+00');
INSERT INTO public.tokens VALUES ('bfdfa523-8a62-56a2-8a6a-a0afdd7f04f6', 'access_token', '\xa109a01d99ffb2810a5cda3ba5114f95bcec0c59a0df6c52caca6598abb4fe63', '0c1f4c33-6a8e-4d0b-9a53-5a3f0c9d2b01', '1380df72-275a-11e7-93ae-92361f002671', NULL, NULL, 'legal_entity:read client:read connection:read connection:write connection:refresh_secret connection:delete', '{"grant_type": "authorization_code"}', '2036-11-26 00:00:00+00', NULL, '2026-11-29 00:00:00+00', '2026-11-29 00:00:00+00');
INSERT INTO public.tokens VALUES ('76803812-39d4-52d9-a62b-acb5ea25d73d', 'access_token', '\x44baab4ad2e73d6de68c6022875aedf34c320769bf8e3821e8113e8cbed10500', '0c1f4c33-6a8e-4d0b-9a53-5a3f0c9d2b02', '1380df72-275a-11e7-93ae-92361f002671', NULL, NULL, 'legal_entity:read employee:read', '{"grant_type": "authorization_code"}', '2036-11-26 00:00:00+00', NULL, '2026-11-29 00:00:00+00', '2026-11-29 00:00:00+00');
INSERT INTO public.tokens VALUES ('4d6c4945-5016-503c-99df-afcc4b2ef455', 'access_token', '\xf2c65d37d4a3896140b007ffb5b56a85a364864a420f9b1a7b43fc44e9c5f75e', '0c1f4c33-6a8e-4d0b-9a53-5a3f0c9d2b03', 'df9f70ee-4b12-4740-b0f5-bb5aea116863', NULL, NULL, 'client:read connection:read connection:write connection:refresh_secret connection:delete', '{"grant_type": "authorization_code"}', '2036-11-26 00:00:00+00', NULL, '2026-11-29 00:00:00+00', '2026-11-29 00:00:00+00');
INSERT INTO public.tokens VALUES ('9daf72ab-21fd-5c8c-82be-82aa3e2ee9a9', 'access_token', '\x58d490879c01429e3e40330321a97b7e29644c6d04180c94cd151091131064eb', '0c1f4c33-6a8e-4d0b-9a53-5a3f0c9d2b04', '25c03af6-69bd-439e-b0dd-f1669b3dbbfd', NULL, NULL, 'role:read client:read connection:read connection:write connection:refresh_secret connection:delete', '{"grant_type": "authorization_code"}', '2036-11-26 00:00:00+00', NULL, '2026-11-29 00:00:00+00', '2026-11-29 00:00:00+00');
INSERT INTO public.tokens VALUES ('f0c79aa1-3202-50aa-8c5a-4f67d64891d8', 'access_token', '\x8c1e843908a501ae30aef5c2ae0fe9c103901972b863f48be9d3edd754da4b08', '0c1f4c33-6a8e-4d0b-9a53-5a3f0c9d2b05', 'c4a6d45f-2cf2-4e6d-909a-5962604ad63b', NULL, NULL, 'client:read connection:read connection:write connection:refresh_secret connection:delete', '{"grant_type": "authorization_code"}', '2036-11-26 00:00:00+00', NULL, '2026-11-29 00:00:00+00', '2026-11-29 00:00:00+00');
INSERT INTO public.tokens VALUES ('d819af64-8b6a-53a9-8fb6-6aa154e6f572', 'access_token', '\x738978641b17946374ec131ef0f4fefa00ab720573caf8d5a4302a92c66a67ec', '0c1f4c33-6a8e-4d0b-9a53-5a3f0c9d2b01', '1380df72-275a-11e7-93ae-92361f002671', NULL, NULL, 'connection:write', '{"grant_type": "authorization_code"}', '2026-11-29 00:00:00+00', NULL, '2026-11-29 00:00:00+00', '2026-11-29 00:00:00+00');
INSERT INTO public.tokens VALUES ('a99c3c49-8691-5ec9-8ff8-b655539d2a8d', 'refresh_token', '\x628b49d96dcde97a430dd4f597705899e09a968f793491e4b704cae33a40dc02', 'afca48e9-59ea-5a28-b8a4-88e0cc6eda1c', 'c6577abe-8c0f-5a02-ac84-aa94c2247b1e', 'e2ca9033-3f0f-5b89-bd7d-96cf9e2530b0', '0d1b887c-92dd-5478-901b-26772c953873', 'scope', '{}', '2026-11-29 00:00:00+00', NULL, '2026-11-29 00:00:00+00', '2026-11-29 00:00:00+00');
INSERT INTO public.tokens VALUES ('b03380f1-8aa3-5211-b331-42735f44b013', 'access_token', '\xc44474038d459e40e4714afefa7bf8dae9f9834b22f5e8ec1dd434ecb62b512e', 'c06243dc-eaed-5ddf-bc34-c28ae6c89ede', 'b756dcb0-3600-525d-bacb-285c0f1a07e2', '1191d1bc-0dde-52ed-9a2e-9a7ef299e46b', '92b530de-dfba-5a35-a2e0-8e626aa88e75', 'scope', '{}', '2026-11-29 00:00:00+00', NULL, '2026-11-29 00:00:00+00', '2026-11-29 00:00:00+00');
INSERT INTO public.tokens VALUES ('b9b6607d-6974-594f-8e99-ac3de71c4d89', 'refresh_token', '\xcece8a9cecfb6c7e7ee4f3346d5e2544138bfb6e33bec6042a17333a4d3180b0', '2342aa20-6cb6-53c8-9764-61bcac17bdcc', '3a8b9d4c-b292-5153-b160-70f43a18999e', '0216aff8-5cd5-58b0-861f-3d66c1248d03', '92b530de-dfba-5a35-a2e0-8e626aa88e75', 'scope', '{}', '2026-11-29 00:00:00+00', NULL, '2026-11-29 00:00:00+00', '2026-11-29 00:00:00+00');
INSERT INTO public.tokens VALUES ('bffa3522-4629-5e7c-ac08-0433874a4508', 'access_token', '\xa2f1a68a3cf7bab14245ba34e6a348b6822aceb4a9ec7ad04a86c2c93ca1a28a', 'fc340cae-d629-53ca-bfc2-f46c1a22d325', '6d5f64e6-d53b-5df6-8005-7d9a26547399', 'fc13841d-8ea7-5f38-a819-5ae8e6605a41', '41bb8d7a-e096-590e-a0e0-18272be62d34', 'scope', '{}', '2026-11-29 00:00:00+00', NULL, '2026-11-29 00:00:00+00', '2026-11-29 00:00:00+00');
INSERT INTO public.tokens VALUES ('e09259f4-442b-58f2-a040-459ee1fd7b2b', 'authorization_code', '\x61d974d105bff0f545b4eb05b3886802beee229a6aecc75d1be854a9957f6419', 'afca48e9-59ea-5a28-b8a4-88e0cc6eda1c', 'c6577abe-8c0f-5a02-ac84-aa94c2247b1e', 'e2ca9033-3f0f-5b89-bd7d-96cf9e2530b0', '92b530de-dfba-5a35-a2e0-8e626aa88e75', 'scope', '{"grant_type": "password", "redirect_uri": "https://example.com/"}', '2026-11-29 00:05:00+00', '2026-11-29 00:00:00+00', '2026-11-29 00:00:00+00', '2026-11-29 00:00:00+00');
INSERT INTO public.tokens VALUES ('c0a650ff-d9ec-59fb-a183-eb0635fe3346', 'authorization_code', '\x6cd215535b43f8f533b3d3cf9e3aae1fc29d7a219ad5cff2fcbebbd4f02f38aa', 'c06243dc-eaed-5ddf-bc34-c28ae6c89ede', 'b756dcb0-3600-525d-bacb-285c0f1a07e2', '1191d1bc-0dde-52ed-9a2e-9a7ef299e46b', '41bb8d7a-e096-590e-a0e0-18272be62d34', 'scope', '{"grant_type": "password", "redirect_uri": "https://example.com/"}', '2026-11-29 00:05:00+00', NULL, '2026-11-29 00:00:00+00', '2026-11-29 00:00:00+00');
INSERT INTO public.tokens VALUES ('348ce11b-f9ba-5931-a93b-cd5546c2ba63', 'authorization_code', '\x3f9a124efca946969ba5bf71abeed26e5f895679bb89f69059d5604c8cc7ccc3', '2342aa20-6cb6-53c8-9764-61bcac17bdcc', '3a8b9d4c-b292-5153-b160-70f43a18999e', '0216aff8-5cd5-58b0-861f-3d66c1248d03', '8b2678de-cdc9-523f-9b74-5362b4ce6c92', 'scope', '{"grant_type": "password", "redirect_uri": "https://example.com/"}', '2026-11-29 00:05:00+00', NULL, '2026-11-29 00:00:00+00', '2026-11-29 00:00:00+00');
INSERT INTO public.tokens VALUES ('193012d0-c492-5d05-b0d0-49563473344f', 'authorization_code', '\xf0f3a5f4f2590cbd922940e58299b9d373adbd92817a81009426c5913db7b048', 'fc340cae-d629-53ca-bfc2-f46c1a22d325', '6d5f64e6-d53b-5df6-8005-7d9a26547399', 'fc13841d-8ea7-5f38-a819-5ae8e6605a41', '89f80e02-1c58-5567-b4f6-42edbe185319', 'scope', '{"grant_type": "password", "redirect_uri": "https://example.com/"}', '2026-11-29 00:05:00+00', NULL, '2026-11-29 00:00:00+00', '2026-11-29 00:00:00+00');
INSERT INTO public.tokens VALUES ('107cd9a8-f0a0-59ec-ab86-b49a0952a8f1', '2fa_access_token', '\x5b646db9e48a8e7269ebdfd677e548cd9ab12e36987d3704001154996a7453a5', 'afca48e9-59ea-5a28-b8a4-88e0cc6eda1c', 'c6577abe-8c0f-5a02-ac84-aa94c2247b1e', 'e2ca9033-3f0f-5b89-bd7d-96cf9e2530b0', '92b530de-dfba-5a35-a2e0-8e626aa88e75', 'scope', '{"grant_type": "password", "redirect_uri": "https://example.com/"}', '2026-11-29 00:05:00+00', '2026-11-29 00:00:00+00', '2026-11-29 00:00:00+00', '2026-11-29 00:00:00+00');
INSERT INTO public.tokens VALUES ('84713bd0-d2f4-50f6-a878-cf62266c8079', '2fa_access_token', '\x6e4ed6a9544987da16f4ae30f24060f32de7cf2c5c3d9cb0e4992fea470397ae', 'c06243dc-eaed-5ddf-bc34-c28ae6c89ede', 'b756dcb0-3600-525d-bacb-285c0f1a07e2', '1191d1bc-0dde-52ed-9a2e-9a7ef299e46b', '41bb8d7a-e096-590e-a0e0-18272be62d34', 'scope', '{"grant_type": "password", "redirect_uri": "https://example.com/"}', '2026-11-29 00:05:00+00', NULL, '2026-11-29 00:00:00+00', '2026-11-29 00:00:00+00');
INSERT INTO public.tokens VALUES ('9d660b4d-1c7b-5223-8f2f-240444e0bd45', '2fa_access_token', '\xc8df4fcf716946c28aeacfe0fcc2b630da3264a8bfe5e1071dc3ebcb8e751640', '2342aa20-6cb6-53c8-9764-61bcac17bdcc', '3a8b9d4c-b292-5153-b160-70f43a18999e', '0216aff8-5cd5-58b0-861f-3d66c1248d03', '8b2678de-cdc9-523f-9b74-5362b4ce6c92', 'scope', '{"grant_type": "password", "redirect_uri": "https://example.com/"}', '2026-11-29 00:05:00+00', NULL, '2026-11-29 00:00:00+00', '2026-11-29 00:00:00+00');
INSERT INTO public.tokens VALUES ('69ec8f53-44e5-56b2-b9c2-d5ecbe41e8ae', '2fa_access_token', '\x8f8f9fc251e9f663cc4c64d594bf2823a2aace4d714429b1930f4a150365bd7a', 'fc340cae-d629-53ca-bfc2-f46c1a22d325', '6d5f64e6-d53b-5df6-8005-7d9a26547399', 'fc13841d-8ea7-5f38-a819-5ae8e6605a41', '89f80e02-1c58-5567-b4f6-42edbe185319', 'scope', '{"grant_type": "password", "redirect_uri": "https://example.com/"}', '2026-11-29 00:05:00+00', NULL, '2026-11-29 00:00:00+00', '2026-11-29 00:00:00+00');
INSERT INTO public.tokens VALUES ('8817ace8-2144-5954-a8d2-79beb84985e2', 'change_password_token', '\xa063d87ec0a786fc401744d076a4d5978df2e3fbb050e6933db506777e338471', 'afca48e9-59ea-5a28-b8a4-88e0cc6eda1c', 'c6577abe-8c0f-5a02-ac84-aa94c2247b1e', 'e2ca9033-3f0f-5b89-bd7d-96cf9e2530b0', '92b530de-dfba-5a35-a2e0-8e626aa88e75', 'scope', '{"grant_type": "password", "redirect_uri": "https://example.com/"}', '2026-11-29 00:05:00+00', '2026-11-29 00:00:00+00', '2026-11-29 00:00:00+00', '2026-11-29 00:00:00+00');
INSERT INTO public.tokens VALUES ('a1dd06e9-8496-580e-835e-976fb50a75c2', 'change_password_token', '\x2452a96ef8d503042642955fedda75deaca72f8aaa05c9a443f88d97e774fb6a', 'c06243dc-eaed-5ddf-bc34-c28ae6c89ede', 'b756dcb0-3600-525d-bacb-285c0f1a07e2', '1191d1bc-0dde-52ed-9a2e-9a7ef299e46b', '41bb8d7a-e096-590e-a0e0-18272be62d34', 'scope', '{"grant_type": "password", "redirect_uri": "https://example.com/"}', '2026-11-29 00:05:00+00', NULL, '2026-11-29 00:00:00+00', '2026-11-29 00:00:00+00');
INSERT INTO public.tokens VALUES ('d850a1dd-f50d-54ff-9303-ada59f1b4905', 'change_password_token', '\xebf822e7702bbf1fd6672839377426929d154078ddcc073bb67316c000a1ad7c', '2342aa20-6cb6-53c8-9764-61bcac17bdcc', '3a8b9d4c-b292-5153-b160-70f43a18999e', '0216aff8-5cd5-58b0-861f-3d66c1248d03', '8b2678de-cdc9-523f-9b74-5362b4ce6c92', 'scope', '{"grant_type": "password", "redirect_uri": "https://example.com/"}', '2026-11-29 00:05:00+00', NULL, '2026-11-29 00:00:00+00', '2026-11-29 00:00:00+00');
INSERT INTO public.tokens VALUES ('975b095c-19f8-505f-8f36-9774c099e719', 'change_password_token', '\xb69f7efbc9a913cc26ce9d5f4816dd333341051a63fcef9eee5d7cc20c0cd9a4', 'fc340cae-d629-53ca-bfc2-f46c1a22d325', '6d5f64e6-d53b-5df6-8005-7d9a26547399', 'fc13841d-8ea7-5f38-a819-5ae8e6605a41', '89f80e02-1c58-5567-b4f6-42edbe185319', 'scope', '{"grant_type": "password", "redirect_uri": "https://example.com/"}', '2026-11-29 00:05:00+00', NULL, '2026-11-29 00:00:00+00', '2026-11-29 00:00:00+00');
INSERT INTO public.user_roles VALUES ('cfff2af7-ed85-5f59-8246-88bfc5a0d398', '0c1f4c33-6a8e-4d0b-9a53-5a3f0c9d2b01', '1fdaa47a-21ac-5365-934a-42c53f6d327f', '1380df72-275a-11e7-93ae-92361f002671', '2026-11-29 00:00:00+00', '2026-11-29 00:00:00+00');
INSERT INTO public.user_roles VALUES ('3fb5eb5f-71f9-55de-8c4c-4792d4269ff5', '0c1f4c33-6a8e-4d0b-9a53-5a3f0c9d2b02', '163990cd-9f59-57e1-acf2-23648195c146', '1380df72-275a-11e7-93ae-92361f002671', '2026-11-29 00:00:00+00', '2026-11-29 00:00:00+00');
INSERT INTO public.user_roles VALUES ('3d04c8a6-cc47-53ca-acab-6be3481dca5f', '0c1f4c33-6a8e-4d0b-9a53-5a3f0c9d2b03', '0c49e57f-9f0c-56d4-8fdb-7d3ae6246ec9', 'df9f70ee-4b12-4740-b0f5-bb5aea116863', '2026-11-29 00:00:00+00', '2026-11-29 00:00:00+00');
INSERT INTO public.user_roles VALUES ('3d930c8b-a9eb-525d-8dcd-ff696fd2e68a', '0c1f4c33-6a8e-4d0b-9a53-5a3f0c9d2b04', 'fb5ee05b-8ff0-5a2d-8e7a-a74358a96b3b', '25c03af6-69bd-439e-b0dd-f1669b3dbbfd', '2026-11-29 00:00:00+00', '2026-11-29 00:00:00+00');
INSERT INTO public.user_roles VALUES ('2715a353-51a5-5673-8b1d-5a3780d5bfa0', 'afca48e9-59ea-5a28-b8a4-88e0cc6eda1c', 'dbca4363-10c1-527d-a9ee-818c1f682b7c', 'c6577abe-8c0f-5a02-ac84-aa94c2247b1e', '2026-11-29 00:00:00+00', '2026-11-29 00:00:00+00');
INSERT INTO public.user_roles VALUES ('c26dd0f0-5088-5a0c-8d7c-2cd7b0aba927', 'c06243dc-eaed-5ddf-bc34-c28ae6c89ede', 'b0d51db1-d570-5537-9e1e-65c692c2f32c', 'b756dcb0-3600-525d-bacb-285c0f1a07e2', '2026-11-29 00:00:00+00', '2026-11-29 00:00:00+00');
INSERT INTO public.user_roles VALUES ('00924338-d1f8-5b7c-95af-2faea3728e0d', '2342aa20-6cb6-53c8-9764-61bcac17bdcc', '6186515d-3998-59f2-b07a-4efc424ed936', '3a8b9d4c-b292-5153-b160-70f43a18999e', '2026-11-29 00:00:00+00', '2026-11-29 00:00:00+00');
INSERT INTO public.user_roles VALUES ('818fc0cd-726b-50de-a155-7668142a4691', 'fc340cae-d629-53ca-bfc2-f46c1a22d325', '49c1477c-efb6-5a29-a062-fe2c918a4ffa', '6d5f64e6-d53b-5df6-8005-7d9a26547399', '2026-11-29 00:00:00+00', '2026-11-29 00:00:00+00');
INSERT INTO public.users VALUES ('4261eacf-8008-4e62-899f-de1e2f7065f0', 'system@mithril.example', NULL, '2026-11-29 00:00:00+00', '', '', '{}', '{}', 0, false, NULL, '2026-11-29 00:00:00+00', '2026-11-29 00:00:00+00');
INSERT INTO public.users VALUES ('0c1f4c33-6a8e-4d0b-9a53-5a3f0c9d2b01', 'owner@clinic.example', '$argon2id$v=19$m=8,t=1,p=1$c2FsdCBvZiB0aGUgZHVtcA$l7z8KEA+8BiJvIIqzyF6shgqiPErFw9AIQBnKZ0Jtyc', '2026-11-29 00:00:00+00', '3067305998', '', '{}', '{}', 0, false, NULL, '2026-11-29 00:00:00+00', '2026-11-29 00:00:00+00');
INSERT INTO public.users VALUES ('0c1f4c33-6a8e-4d0b-9a53-5a3f0c9d2b02', 'doctor@clinic.example', '$argon2id$v=19$m=8,t=1,p=1$c2FsdCBvZiB0aGUgZHVtcA$l7z8KEA+8BiJvIIqzyF6shgqiPErFw9AIQBnKZ0Jtyc', '2026-11-29 00:00:00+00', '', '', '{}', '{}', 0, false, NULL, '2026-11-29 00:00:00+00', '2026-11-29 00:00:00+00');
INSERT INTO public.users VALUES ('0c1f4c33-6a8e-4d0b-9a53-5a3f0c9d2b03', 'owner@pharmacy.example', '$argon2id$v=19$m=8,t=1,p=1$c2FsdCBvZiB0aGUgZHVtcA$l7z8KEA+8BiJvIIqzyF6shgqiPErFw9AIQBnKZ0Jtyc', '2026-11-29 00:00:00+00', '', '', '{}', '{}', 0, false, NULL, '2026-11-29 00:00:00+00', '2026-11-29 00:00:00+00');
INSERT INTO public.users VALUES ('0c1f4c33-6a8e-4d0b-9a53-5a3f0c9d2b04', 'developer@mis.example', '$argon2id$v=19$m=8,t=1,p=1$c2FsdCBvZiB0aGUgZHVtcA$l7z8KEA+8BiJvIIqzyF6shgqiPErFw9AIQBnKZ0Jtyc', '2026-11-29 00:00:00+00', '', '', '{}', '{}', 0, false, NULL, '2026-11-29 00:00:00+00', '2026-11-29 00:00:00+00');
INSERT INTO public.users VALUES ('0c1f4c33-6a8e-4d0b-9a53-5a3f0c9d2b05', 'admin@nhs.example', '$argon2id$v=19$m=8,t=1,p=1$c2FsdCBvZiB0aGUgZHVtcA$l7z8KEA+8BiJvIIqzyF6shgqiPErFw9AIQBnKZ0Jtyc', '2026-11-29 00:00:00+00', '', '', '{}', '{}', 0, false, NULL, '2026-11-29 00:00:00+00', '2026-11-29 00:00:00+00');
INSERT INTO public.users VALUES ('0c1f4c33-6a8e-4d0b-9a53-5a3f0c9d2b06', 'blocked@clinic.example', '$argon2id$v=19$m=8,t=1,p=1$c2FsdCBvZiB0aGUgZHVtcA$l7z8KEA+8BiJvIIqzyF6shgqiPErFw9AIQBnKZ0Jtyc', '2026-11-29 00:00:00+00', '', '', '{}', '{}', 0, true, 'left the clinic', '2026-11-29 00:00:00+00', '2026-11-29 00:00:00+00');
INSERT INTO public.users VALUES ('c06243dc-eaed-5ddf-bc34-c28ae6c89ede', '2@example.com', NULL, '2026-11-29 00:00:00+00', '2', '', '{}', '{}', 0, false, NULL, '2026-11-29 00:00:00+00', '2026-11-29 00:00:00+00');
INSERT INTO public.users VALUES ('2342aa20-6cb6-53c8-9764-61bcac17bdcc', '3@example.com', NULL, '2026-11-29 00:00:00+00', '3', '', '{}', '{}', 0, false, NULL, '2026-11-29 00:00:00+00', '2026-11-29 00:00:00+00');
INSERT INTO public.users VALUES ('fc340cae-d629-53ca-bfc2-f46c1a22d325', '4@example.com', NULL, '2026-11-29 00:00:00+00', '4', '', '{}', '{}', 0, false, NULL, '2026-11-29 00:00:00+00', '2026-11-29 00:00:00+00');
INSERT INTO public.users VALUES ('afca48e9-59ea-5a28-b8a4-88e0cc6eda1c', '1@example.com', NULL, '2026-11-29 00:00:00+00', '1', '', '{}', '{}', 3, true, 'an incident', '2026-11-29 00:00:00+00', '2026-11-29 00:00:00+00');
SELECT pg_catalog.setval('public.audit_events_id_seq', 41, true);
SELECT pg_catalog.setval('public.password_hstr_id_seq', 10, true);
ALTER TABLE ONLY public.alembic_version
    ADD CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num);
ALTER TABLE ONLY public.apps
    ADD CONSTRAINT apps_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.apps
    ADD CONSTRAINT apps_user_id_client_id_index UNIQUE (user_id, client_id);
ALTER TABLE ONLY public.attempts
    ADD CONSTRAINT attempts_pkey PRIMARY KEY (key);
ALTER TABLE ONLY public.audit_events
    ADD CONSTRAINT audit_events_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.authentication_factors
    ADD CONSTRAINT authentication_factors_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.authentication_factors
    ADD CONSTRAINT authentication_factors_user_id_type_index UNIQUE (user_id, type);
ALTER TABLE ONLY public.client_types
    ADD CONSTRAINT client_types_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.clients
    ADD CONSTRAINT clients_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.connections
    ADD CONSTRAINT connections_client_id_consumer_id_index UNIQUE (client_id, consumer_id);
ALTER TABLE ONLY public.connections
    ADD CONSTRAINT connections_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.global_user_roles
    ADD CONSTRAINT global_user_roles_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.global_user_roles
    ADD CONSTRAINT global_user_roles_user_id_role_id_index UNIQUE (user_id, role_id);
ALTER TABLE ONLY public.nonces
    ADD CONSTRAINT nonces_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.otp
    ADD CONSTRAINT otp_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.password_hstr
    ADD CONSTRAINT password_hstr_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.roles
    ADD CONSTRAINT roles_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.tokens
    ADD CONSTRAINT tokens_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.user_roles
    ADD CONSTRAINT user_roles_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.user_roles
    ADD CONSTRAINT user_roles_user_id_role_id_client_id_index UNIQUE (user_id, role_id, client_id);
ALTER TABLE ONLY public.users
    ADD CONSTRAINT users_pkey PRIMARY KEY (id);
CREATE INDEX apps_client_id_index ON public.apps USING btree (client_id);
CREATE INDEX apps_inserted_at_id_index ON public.apps USING btree (inserted_at, id);
CREATE INDEX attempts_started_at_index ON public.attempts USING btree (started_at);
CREATE INDEX audit_events_actor_user_id_id_index ON public.audit_events USING btree (actor_user_id, id) WHERE (actor_user_id IS NOT NULL);
CREATE INDEX audit_events_client_id_id_index ON public.audit_events USING btree (client_id, id) WHERE (client_id IS NOT NULL);
CREATE INDEX audit_events_occurred_at_index ON public.audit_events USING brin (occurred_at);
CREATE INDEX audit_events_subject_id_id_index ON public.audit_events USING btree (subject_id, id);
CREATE INDEX client_types_inserted_at_id_index ON public.client_types USING btree (inserted_at, id);
CREATE UNIQUE INDEX client_types_name_index ON public.client_types USING btree (name);
CREATE INDEX clients_client_type_id_index ON public.clients USING btree (client_type_id);
CREATE INDEX clients_inserted_at_id_index ON public.clients USING btree (inserted_at, id);
CREATE INDEX clients_user_id_index ON public.clients USING btree (user_id);
CREATE INDEX connections_client_id_inserted_at_id_index ON public.connections USING btree (client_id, inserted_at, id);
CREATE INDEX connections_consumer_id_index ON public.connections USING btree (consumer_id);
CREATE UNIQUE INDEX connections_previous_secret_index ON public.connections USING btree (previous_secret_digest) WHERE (previous_secret_digest IS NOT NULL);
CREATE UNIQUE INDEX connections_secret_index ON public.connections USING btree (secret_digest);
CREATE INDEX global_user_roles_role_id_index ON public.global_user_roles USING btree (role_id);
CREATE INDEX nonces_client_id_index ON public.nonces USING btree (client_id);
CREATE INDEX nonces_expires_at_index ON public.nonces USING btree (expires_at);
CREATE INDEX otp_code_expired_at_index ON public.otp USING btree (code_expired_at) WHERE active;
CREATE INDEX otp_inserted_at_id_index ON public.otp USING btree (inserted_at, id);
CREATE INDEX otp_key_index ON public.otp USING btree (key, inserted_at DESC);
CREATE INDEX password_hstr_user_id_index ON public.password_hstr USING btree (user_id, id);
CREATE INDEX roles_inserted_at_id_index ON public.roles USING btree (inserted_at, id);
CREATE UNIQUE INDEX roles_name_index ON public.roles USING btree (name);
CREATE INDEX tokens_client_id_index ON public.tokens USING btree (client_id);
CREATE INDEX tokens_connection_id_index ON public.tokens USING btree (connection_id) WHERE (connection_id IS NOT NULL);
CREATE UNIQUE INDEX tokens_digest_index ON public.tokens USING btree (digest);
CREATE INDEX tokens_expires_at_index ON public.tokens USING btree (expires_at);
CREATE INDEX tokens_family_id_index ON public.tokens USING btree (family_id) WHERE (family_id IS NOT NULL);
CREATE INDEX tokens_inserted_at_id_index ON public.tokens USING btree (inserted_at, id);
CREATE INDEX tokens_user_id_client_id_index ON public.tokens USING btree (user_id, client_id);
CREATE INDEX user_roles_client_id_index ON public.user_roles USING btree (client_id);
CREATE INDEX user_roles_inserted_at_id_index ON public.user_roles USING btree (inserted_at, id);
CREATE INDEX user_roles_role_id_inserted_at_id_index ON public.user_roles USING btree (role_id, inserted_at, id);
CREATE INDEX user_roles_user_id_client_id_index ON public.user_roles USING btree (user_id, client_id);
CREATE UNIQUE INDEX users_email_index ON public.users USING btree (email);
CREATE INDEX users_inserted_at_id_index ON public.users USING btree (inserted_at, id);
CREATE INDEX users_password_set_at_id_index ON public.users USING btree (password_set_at, id);
CREATE INDEX users_tax_id_index ON public.users USING btree (tax_id) WHERE (tax_id <> ''::text);
CREATE TRIGGER audit_events_only_grow BEFORE DELETE OR UPDATE OR TRUNCATE ON public.audit_events FOR EACH STATEMENT EXECUTE FUNCTION public.audit_events_only_grow();
ALTER TABLE ONLY public.apps
    ADD CONSTRAINT apps_client_id_fkey FOREIGN KEY (client_id) REFERENCES public.clients(id) ON DELETE CASCADE;
ALTER TABLE ONLY public.apps
    ADD CONSTRAINT apps_user_id_fkey FOREIGN KEY (user_id) REFERENCES public.users(id) ON DELETE CASCADE;
ALTER TABLE ONLY public.authentication_factors
    ADD CONSTRAINT authentication_factors_user_id_fkey FOREIGN KEY (user_id) REFERENCES public.users(id) ON DELETE CASCADE;
ALTER TABLE ONLY public.clients
    ADD CONSTRAINT clients_client_type_id_fkey FOREIGN KEY (client_type_id) REFERENCES public.client_types(id) ON DELETE RESTRICT;
ALTER TABLE ONLY public.clients
    ADD CONSTRAINT clients_user_id_fkey FOREIGN KEY (user_id) REFERENCES public.users(id) ON DELETE CASCADE;
ALTER TABLE ONLY public.connections
    ADD CONSTRAINT connections_client_id_fkey FOREIGN KEY (client_id) REFERENCES public.clients(id) ON DELETE CASCADE;
ALTER TABLE ONLY public.connections
    ADD CONSTRAINT connections_consumer_id_fkey FOREIGN KEY (consumer_id) REFERENCES public.clients(id) ON DELETE CASCADE;
ALTER TABLE ONLY public.global_user_roles
    ADD CONSTRAINT global_user_roles_role_id_fkey FOREIGN KEY (role_id) REFERENCES public.roles(id) ON DELETE CASCADE;
ALTER TABLE ONLY public.global_user_roles
    ADD CONSTRAINT global_user_roles_user_id_fkey FOREIGN KEY (user_id) REFERENCES public.users(id) ON DELETE CASCADE;
ALTER TABLE ONLY public.nonces
    ADD CONSTRAINT nonces_client_id_fkey FOREIGN KEY (client_id) REFERENCES public.clients(id) ON DELETE CASCADE;
ALTER TABLE ONLY public.password_hstr
    ADD CONSTRAINT password_hstr_user_id_fkey FOREIGN KEY (user_id) REFERENCES public.users(id) ON DELETE CASCADE;
ALTER TABLE ONLY public.tokens
    ADD CONSTRAINT tokens_client_id_fkey FOREIGN KEY (client_id) REFERENCES public.clients(id) ON DELETE CASCADE;
ALTER TABLE ONLY public.tokens
    ADD CONSTRAINT tokens_connection_id_fkey FOREIGN KEY (connection_id) REFERENCES public.connections(id) ON DELETE CASCADE;
ALTER TABLE ONLY public.tokens
    ADD CONSTRAINT tokens_user_id_fkey FOREIGN KEY (user_id) REFERENCES public.users(id) ON DELETE CASCADE;
ALTER TABLE ONLY public.user_roles
    ADD CONSTRAINT user_roles_client_id_fkey FOREIGN KEY (client_id) REFERENCES public.clients(id) ON DELETE CASCADE;
ALTER TABLE ONLY public.user_roles
    ADD CONSTRAINT user_roles_role_id_fkey FOREIGN KEY (role_id) REFERENCES public.roles(id) ON DELETE CASCADE;
ALTER TABLE ONLY public.user_roles
    ADD CONSTRAINT user_roles_user_id_fkey FOREIGN KEY (user_id) REFERENCES public.users(id) ON DELETE CASCADE;
