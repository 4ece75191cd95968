"""API keys in the database."""

from typing import Any

from tortoise import fields
from tortoise.contrib.postgres.fields import ArrayField
from tortoise.models import Model


class ApiKey(Model):
    """A key of one program. Only the SHA-256 of its secret is kept."""

    id = fields.UUIDField(primary_key=True)
    program_id = fields.UUIDField()
    name = fields.TextField()
    scopes: Any = ArrayField(element_type="text")
    prefix = fields.TextField()
    secret_hash = fields.BinaryField()
    created_at = fields.DatetimeField()
    last_used_at = fields.DatetimeField(null=True)
    revoked_at = fields.DatetimeField(null=True)

    class Meta:
        table = "api_key"
