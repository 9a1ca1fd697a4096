"""The tables of the service, as far as the view needs them."""

from django.db import models


class User(models.Model):
    id = models.UUIDField(primary_key=True)
    is_blocked = models.BooleanField()

    class Meta:
        managed = False
        db_table = "users"


class ClientType(models.Model):
    id = models.UUIDField(primary_key=True)
    name = models.TextField()

    class Meta:
        managed = False
        db_table = "client_types"


class Client(models.Model):
    id = models.UUIDField(primary_key=True)
    client_type = models.ForeignKey(ClientType, models.PROTECT)
    priv_settings = models.JSONField()
    is_blocked = models.BooleanField()

    class Meta:
        managed = False
        db_table = "clients"


class Connection(models.Model):
    id = models.UUIDField(primary_key=True)
    client = models.ForeignKey(Client, models.CASCADE, related_name="connections")
    consumer = models.ForeignKey(Client, models.CASCADE, related_name="consumed")
    redirect_uri = models.TextField()
    secret_digest = models.BinaryField()
    version = models.BigIntegerField()
    inserted_at = models.DateTimeField()
    updated_at = models.DateTimeField()

    class Meta:
        managed = False
        db_table = "connections"


class Token(models.Model):
    id = models.UUIDField(primary_key=True)
    name = models.TextField()
    digest = models.BinaryField()
    user = models.ForeignKey(User, models.CASCADE)
    client = models.ForeignKey(Client, models.CASCADE)
    connection = models.ForeignKey(Connection, models.CASCADE, null=True)
    scope = models.TextField(null=True)
    expires_at = models.DateTimeField()

    class Meta:
        managed = False
        db_table = "tokens"


class AuditEvent(models.Model):
    action = models.TextField()
    subject_id = models.UUIDField()
    client_id = models.UUIDField()
    actor_user_id = models.UUIDField()
    actor_client_id = models.UUIDField()
    api_key_client_id = models.UUIDField(null=True)
    network_address = models.TextField(null=True)
    old = models.JSONField()
    new = models.JSONField()

    class Meta:
        managed = False
        db_table = "audit_events"
