"""A Django project as `startproject` creates it, without the parts that only pages need."""

import os
from urllib.parse import parse_qs, urlsplit

_URL = urlsplit(os.environ["PEER_DATABASE_URL"])
_QUERY = {name: values[0] for name, values in parse_qs(_URL.query).items()}

SECRET_KEY = "only for measuring"
DEBUG = False
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "urls"
USE_TZ = True
INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "oauth2_provider",
    "registry",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.middleware.common.CommonMiddleware",
]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": _URL.path.lstrip("/"),
        "USER": _URL.username,
        "HOST": _URL.hostname or _QUERY["host"],
        "PORT": _QUERY.get("port", _URL.port or ""),
        "CONN_MAX_AGE": None,
    }
}
OAUTH2_PROVIDER = {
    "SCOPES": {"connection:write": "change connections", "introspection": "introspect tokens"},
    "PKCE_REQUIRED": False,
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
