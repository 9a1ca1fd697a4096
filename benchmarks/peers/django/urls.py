"""The update of a connection, and django-oauth-toolkit's own routes."""

from django.urls import include, path
from registry.views import update_connection

urlpatterns = [
    path("api/clients/<uuid:client_id>/connections/<uuid:connection_id>", update_connection),
    path("o/", include("oauth2_provider.urls", namespace="oauth2_provider")),
]
