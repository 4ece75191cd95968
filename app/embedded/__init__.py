"""The servers that Laurel starts by itself where DATABASE_URL and REDIS_URL are not set."""

from app.embedded.instance import (
    AlreadyRunningError,
    announced,
    command_servers,
    exclusive,
    prepare_data_dir,
    resolve_servers,
    running_instance,
)
from app.embedded.postgres import EmbeddedPostgres
from app.embedded.process import StartError, die_with_parent
from app.embedded.valkey import EmbeddedRedis

__all__ = [
    "AlreadyRunningError",
    "EmbeddedPostgres",
    "EmbeddedRedis",
    "StartError",
    "announced",
    "command_servers",
    "die_with_parent",
    "exclusive",
    "prepare_data_dir",
    "resolve_servers",
    "running_instance",
]
