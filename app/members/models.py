"""Members in the database."""

from typing import Any

from tortoise import fields
from tortoise.models import Model


class Member(Model):
    """A person in one program. E-mail addresses are unique there without regard to case."""

    id = fields.UUIDField(primary_key=True)
    program_id = fields.UUIDField()
    external_id = fields.TextField()
    email = fields.TextField(null=True)
    phone = fields.TextField(null=True)
    name = fields.TextField(null=True)
    birthday = fields.DateField(null=True)
    locale = fields.TextField(null=True)
    attributes: Any = fields.JSONField()
    status = fields.TextField()
    joined_at = fields.DatetimeField()
    created_at = fields.DatetimeField()
    updated_at = fields.DatetimeField()

    class Meta:
        table = "member"
