"""Programs in the database."""

from tortoise import fields
from tortoise.models import Model


class Program(Model):
    """One rewards program; everything else belongs to one. See migration 0001 for what is allowed."""

    id = fields.UUIDField(primary_key=True)
    slug = fields.TextField()
    name = fields.TextField()
    currency = fields.TextField()
    timezone = fields.TextField()
    rounding = fields.TextField()
    multiplier_stacking = fields.TextField()
    max_points_per_day = fields.BigIntField(null=True)
    pending_days = fields.IntField()
    expiry_kind = fields.TextField()
    expiry_months = fields.IntField(null=True)
    expiry_changed_at = fields.DatetimeField()
    debt_limit = fields.BigIntField()
    point_cost = fields.DecimalField(max_digits=30, decimal_places=6)
    earn_on_points_payments = fields.BooleanField()
    tier_basis = fields.TextField()
    tier_window = fields.TextField()
    tier_months = fields.IntField(null=True)
    tier_downgrade = fields.TextField()
    tier_grace_days = fields.IntField()
    rules_version = fields.BigIntField()
    created_at = fields.DatetimeField()
    updated_at = fields.DatetimeField()

    class Meta:
        table = "program"
