"""Everything that can be set from outside, read once from the environment."""

import re
from functools import lru_cache
from pathlib import Path
from typing import Annotated

from pydantic import AliasChoices, Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

_RATE = re.compile(r"[1-9][0-9]{0,11} ?/ ?(second|minute|hour|day)")

Seconds = Annotated[float, Field(gt=0)]


def _named(name: str) -> AliasChoices:
    return AliasChoices(f"LAUREL_{name}", name)


class Settings(BaseSettings):
    """The settings of one process; each is the environment variable LAUREL_<NAME>.

    DATABASE_URL and REDIS_URL go by their usual names as well.
    """

    model_config = SettingsConfigDict(env_prefix="LAUREL_", extra="ignore", populate_by_name=True)

    database_url: str | None = Field(None, validation_alias=_named("DATABASE_URL"))
    """PostgreSQL 15 or newer; without it Laurel starts one of its own in the data folder."""
    redis_url: str | None = Field(None, validation_alias=_named("REDIS_URL"))
    """Redis 6.2, Valkey 7.2 or newer; without it Laurel starts one of its own in the data folder."""
    data_dir: Path = Path(".laurel")
    """Where the embedded servers and the generated secrets live."""

    host: str = "127.0.0.1"
    port: int = Field(8000, ge=1, le=65535)

    admin_key: SecretStr | None = None
    """The platform's administrator; made and kept in the data folder when it is not set."""
    secret_key: SecretStr | None = None
    """Signs member tokens; made and kept in the data folder when it is not set."""
    codes_key: SecretStr | None = None
    """Encrypts the codes of rewards; made and kept in the data folder when it is not set."""

    database_pool_size: int = Field(8, ge=2, le=100)
    database_timeout_seconds: Seconds = 30
    lock_timeout_seconds: Seconds = 10

    key_rate_limit: str = "300000/minute"
    """Requests of one API key, or of one address without a credential."""
    member_rate_limit: str = "600/minute"
    """Requests of one member's tokens."""

    allow_private_webhooks: bool = False
    """Whether webhooks may go to private addresses, and by plain http."""

    max_body_bytes: int = Field(2 * 1024 * 1024, ge=1024)
    max_query_depth: int = Field(12, ge=1)
    max_query_aliases: int = Field(30, ge=1)
    max_query_tokens: int = Field(2000, ge=1)
    request_timeout_seconds: Seconds = 30
    max_connections: int = Field(5000, ge=1)
    """WebSocket connections of one process; with one subscription each takes some 50 KiB."""
    max_connections_per_key: int = Field(1000, ge=1)
    """Those of one API key, or of one address whose credential is not known yet."""
    max_connections_per_member: int = Field(20, ge=1)
    """Those of one member's tokens."""
    max_subscriptions: int = Field(20, ge=1)
    """Operations at a time on one WebSocket connection."""
    idle_seconds: Seconds = 60
    """A WebSocket connection on which nothing goes on for so long is closed."""
    allowed_origins: str = ""
    """Other origins whose pages may open a WebSocket, such as "https://shop.example", with commas between."""
    fast_executor: bool = True
    """Plan each selection set once; switch it off to run on Strawberry's own executor."""

    log_format: str = Field("auto", pattern="^(auto|json|console)$")
    """`auto` is for people on a terminal and JSON elsewhere."""
    log_level: str = Field("INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$")

    @field_validator("key_rate_limit", "member_rate_limit")
    @classmethod
    def _is_a_rate(cls, value: str) -> str:
        if not _RATE.fullmatch(value):
            raise ValueError(
                'It is written like "600/minute": a number of requests per second, minute, hour or day.'
            )
        return value


@lru_cache(maxsize=1)
def settings() -> Settings:
    """Return the settings of this process.

    Raises:
        pydantic.ValidationError: a variable is set to something that it cannot be.
    """
    return Settings()
