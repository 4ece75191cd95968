"""Webhooks: set up, with a secret that is shown once; deleted; and switched on again."""

from collections.abc import Sequence
from uuid import UUID

from app import clock
from app.catalog.vault import Vault
from app.database import retrying, transaction
from app.errors import ErrorCode, refuse
from app.ids import new_id
from app.messages.feed import number_program
from app.messages.topics import check_topics
from app.validation import Problems
from app.webhooks.deliveries import QUEUE
from app.webhooks.inputs import check_url
from app.webhooks.letters import new_secret, spelled
from app.webhooks.reads import COLUMNS, Webhook, find_webhook

MAX_WEBHOOKS = 20
"""Webhooks of one program."""

_INSERT = f"""
INSERT INTO webhook (id, program_id, url, topics, secret, position, created_at)
VALUES ($1, $2, $3, $4, $5, coalesce((SELECT position FROM feed_head WHERE program_id = $2), 0), $6)
RETURNING {COLUMNS}
"""  # noqa: S608 - nothing but constants

# Whoever holds the lease of a webhook that fails finds it lost, and begins anew.
_ENABLE = f"""
UPDATE webhook SET disabled_at = NULL, failures = 0, failing_since = NULL, last_error = NULL, paused_until = NULL,
    due_at = $3, lease = NULL, leased_until = NULL
WHERE program_id = $1 AND id = $2 RETURNING {COLUMNS}
"""  # noqa: S608, E501 - nothing but constants

_BEGIN_ANEW = """
UPDATE webhook_delivery SET attempts = 0, first_failed_at = NULL, next_at = $3
WHERE program_id = $1 AND webhook_id = $2 AND attempts > 0
"""


async def create_webhook(
    program_id: UUID, url: str, topics: Sequence[str], *, vault: Vault, allow_private: bool
) -> tuple[Webhook, str]:
    """Set up a webhook, and return it with its secret, which cannot be shown again.

    It hears of everything that is committed from now on, and of nothing that was before.

    Args:
        url: where messages are sent: https, 2,000 characters at most, no private address.
        topics: names of topics, "points.*" and the like for all of one kind, "*"; none for everything.
        vault: seals the secret.
        allow_private: whether the receiver may have a private address, and http will do.

    Raises:
        Refused: INVALID for the url or topics, LIMIT_REACHED when there are MAX_WEBHOOKS webhooks.
        Unavailable: the database is away or busy; nothing was made.
    """
    problems = Problems()
    kept = check_url(url, allow_private, problems)
    check_topics(topics, problems)
    problems.refuse_any()
    webhook_id, secret = new_id(), new_secret()
    sealed = vault.seal(secret, webhook_id)
    wanted = list(dict.fromkeys(topics))
    # What was committed before has its number then, and the webhook begins after it.
    await number_program(program_id)

    async def create() -> Webhook:
        async with transaction() as sql:
            # The lock on the program makes two callers count one after the other.
            await sql.execute("SELECT 1 FROM program WHERE id = $1 FOR NO KEY UPDATE", program_id)
            count = await sql.fetchval("SELECT count(*) FROM webhook WHERE program_id = $1", program_id)
            if count >= MAX_WEBHOOKS:
                message = f"A program has at most {MAX_WEBHOOKS} webhooks; delete one first."
                raise refuse(ErrorCode.LIMIT_REACHED, message)
            row = await sql.fetchrow(_INSERT, webhook_id, program_id, kept, wanted, sealed, clock.now())
            return Webhook._make(row)

    return await retrying(create), spelled(secret)


async def delete_webhook(program_id: UUID, webhook_id: UUID) -> Webhook:
    """Delete a webhook with everything that waits for it, and return it as it was.

    A request that is under way may still arrive. What was given up is forgotten: nobody can send it any more.

    Raises:
        Refused: NOT_FOUND when the program has no such webhook.
        Unavailable: the database is away or busy; nothing was deleted.
    """

    async def delete() -> Webhook:
        async with transaction() as sql:
            webhook = await find_webhook(sql, program_id, webhook_id)
            if webhook is None:
                raise refuse(ErrorCode.NOT_FOUND, "There is no such webhook.", "id")
            await sql.execute("DELETE FROM webhook WHERE program_id = $1 AND id = $2", program_id, webhook_id)
            await sql.execute(
                "DELETE FROM failed_job WHERE program_id = $1 AND queue = $2 AND payload->>'webhook' = $3",
                program_id, QUEUE, str(webhook_id),
            )  # fmt: skip
            return webhook

    return await retrying(delete)


async def enable_webhook(program_id: UUID, webhook_id: UUID) -> Webhook:
    """Have a webhook that was switched off, or is failing, go on at once where it stopped.

    What waits has its three days again. A webhook that works stays as it is.

    Raises:
        Refused: NOT_FOUND when the program has no such webhook.
        Unavailable: the database is away or busy; nothing was changed.
    """

    async def enable() -> Webhook:
        async with transaction() as sql:
            webhook = await find_webhook(sql, program_id, webhook_id)
            if webhook is None:
                raise refuse(ErrorCode.NOT_FOUND, "There is no such webhook.", "id")
            if webhook.disabled_at is None and webhook.failing_since is None:
                return webhook
            now = clock.now()
            await sql.execute(_BEGIN_ANEW, program_id, webhook_id, now)
            return Webhook._make(await sql.fetchrow(_ENABLE, program_id, webhook_id, now))

    return await retrying(enable)
