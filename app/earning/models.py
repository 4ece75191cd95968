"""Earning rules in the database, with every version that they have had."""

from typing import Any

from tortoise import fields
from tortoise.models import Model


class EarningRule(Model):
    """A rule as it is now; `definition` is a `RuleDefinition`."""

    id = fields.UUIDField(primary_key=True)
    program_id = fields.UUIDField()
    version = fields.IntField()
    status = fields.TextField()
    trigger = fields.TextField()
    definition: Any = fields.JSONField()
    created_at = fields.DatetimeField()
    updated_at = fields.DatetimeField()

    class Meta:
        table = "earning_rule"
