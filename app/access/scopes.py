"""What a credential may do, by name."""

from enum import StrEnum


class Scope(StrEnum):
    """One permission of an API key. The value is the scope's public name."""

    PLATFORM_ADMIN = "platform:admin"
    PROGRAM_READ = "program:read"
    PROGRAM_WRITE = "program:write"
    MEMBERS_READ = "members:read"
    MEMBERS_WRITE = "members:write"
    RULES_READ = "rules:read"
    RULES_WRITE = "rules:write"
    EVENTS_WRITE = "events:write"
    CATALOG_READ = "catalog:read"
    CATALOG_WRITE = "catalog:write"
    REDEMPTIONS_READ = "redemptions:read"
    REDEMPTIONS_WRITE = "redemptions:write"
    LEDGER_ADJUST = "ledger:adjust"
    KEYS_ADMIN = "keys:admin"
    MESSAGES_READ = "messages:read"
    WEBHOOKS_ADMIN = "webhooks:admin"
    JOBS_ADMIN = "jobs:admin"


PROGRAM_SCOPES = frozenset(Scope) - {Scope.PLATFORM_ADMIN}
"""Every scope that a key of a program can have; the platform's belongs to no program."""
