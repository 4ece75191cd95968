"""Webhooks: where messages are sent."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

import strawberry

from app.access.scopes import Scope
from app.errors import Refused
from app.ids import to_global_id
from app.messages.topics import Topic
from app.settings import settings
from app.webhooks import reads, service
from graphql_schema.access import INHERITED, object_type, resolver
from graphql_schema.context import Context
from graphql_schema.errors import UserError, user_errors
from graphql_schema.nodes import Info, Node, finds, key_of, later, program_of

READ = (Scope.WEBHOOKS_ADMIN, Scope.MESSAGES_READ)

_TOPICS = "\n".join(f"- `{topic}`: {topic.description} In `data`: {topic.payload}." for topic in Topic)


@object_type(
    description="An address of yours to which messages are sent, each as a signed POST after the Standard"
    " Webhooks convention (https://www.standardwebhooks.com): at least once, and each member's in their"
    " order. The body is `type` (the topic), `timestamp` (when it happened), and `data`: what the message"
    " says, `member` (`id` and `externalId`, or null), and `cursor`, from which `messages` reads on. The"
    " header `webhook-id` is the message's id, the same in each attempt. Any status from 200 to 299 within 15"
    " seconds acknowledges it. Anything else has it sent again, less and less often, for three days; later"
    " messages of the same member wait meanwhile, those of others do not. Redirects are not followed.",
    scope=READ,
)
class Webhook(Node):
    url: str = strawberry.field(description="Where messages are sent.")
    topics: list[str] = strawberry.field(description="What it hears of; everything when it is empty.")
    created_at: datetime = strawberry.field(description="From then on it hears of everything.")
    failing_since: datetime | None = strawberry.field(
        description="Since when no message has been taken; null while they are."
    )
    last_error: str | None = strawberry.field(
        description="What was wrong when a message was not taken last; null when that has not happened."
    )
    disabled_at: datetime | None = strawberry.field(
        description="When it was switched off, because nothing was taken for three days, or it answered 410"
        " Gone; null while it is on. What waits stays, and `enableWebhook` has it go on."
    )

    @classmethod
    def of(cls, webhook: reads.Webhook) -> "Webhook":
        """Return a webhook as the API gives it."""
        return cls(
            id=strawberry.ID(to_global_id("Webhook", webhook.id)),
            url=webhook.url,
            topics=webhook.topics,
            created_at=webhook.created_at,
            failing_since=webhook.failing_since,
            last_error=webhook.last_error,
            disabled_at=webhook.disabled_at,
        )

    @resolver(description="How many messages it has not acknowledged yet; counted up to 10,000.")
    def waiting(self, info: Info) -> int:
        return later(info.context.loader(load_waiting).load(key_of(self.id, "Webhook")))


async def load_webhooks(context: Context, keys: list[UUID]) -> list[Webhook | None]:
    """Load webhooks of the caller's program."""
    assert context.principal.program_id
    found = await reads.get_webhooks(context.principal.program_id, keys)
    return [None if webhook is None else Webhook.of(webhook) for webhook in found]


async def load_waiting(context: Context, keys: list[UUID]) -> list[int]:
    """Load how much waits for webhooks of the caller's program."""
    assert context.principal.program_id
    return await reads.count_waiting(context.principal.program_id, keys)


@finds("Webhook")
async def _find_webhook(context: Context, key: UUID | str) -> Webhook | None:
    if context.principal.program_id is None or not isinstance(key, UUID):
        return None
    return await context.loader(load_webhooks).load(key)


@strawberry.input(description="A webhook to be set up.")
class WebhookInput:
    url: str = strawberry.field(
        description="Where messages are sent: https, at most 2,000 characters, without a name or a password."
        " Private addresses are refused, here and whenever a name leads to one, unless the setting"
        " LAUREL_ALLOW_PRIVATE_WEBHOOKS allows them, and http."
    )
    topics: list[str] = strawberry.field(
        description="What it hears of: names of topics, all of one kind as `points.*`, or `*`; everything"
        f" when it is empty. There are:\n\n{_TOPICS}"
    )


@object_type(description="The webhook as it is now.", access=INHERITED)
class WebhookPayload:
    webhook: Webhook | None = strawberry.field(
        description="Null when nothing was done; after it was deleted what it was.", default=None
    )
    secret: str | None = strawberry.field(
        description="Signs the deliveries, after the Standard Webhooks convention; shown once, by"
        " `createWebhook`.",
        default=None,
    )
    user_errors: list[UserError] = strawberry.field(
        description="What is to be put right; empty when it is done."
    )


_ID = strawberry.argument(description="The webhook's id.")


@object_type(description="")
class WebhookQueries:
    @resolver(description="The program's webhooks, oldest first: 20 at most.", scope=READ)
    async def webhooks(self, info: Info) -> list[Webhook]:
        return [Webhook.of(webhook) for webhook in await reads.list_webhooks(program_of(info))]


@object_type(description="")
class WebhookMutations:
    @resolver(
        description="Sets up a webhook, which hears of everything from now on and of nothing before. Its"
        " secret is shown once, in this answer: who did not get the answer finds the webhook in `webhooks`,"
        " deletes it, and sets it up again.",
        scope=Scope.WEBHOOKS_ADMIN,
    )
    async def create_webhook(
        self, info: Info, input: Annotated[WebhookInput, strawberry.argument(description="The webhook.")]
    ) -> WebhookPayload:
        try:
            webhook, secret = await service.create_webhook(
                program_of(info),
                input.url,
                input.topics,
                vault=info.context.services.vault,
                allow_private=settings().allow_private_webhooks,
            )
        except Refused as refused:
            return WebhookPayload(user_errors=user_errors(refused.errors))
        return WebhookPayload(webhook=Webhook.of(webhook), secret=secret, user_errors=[])

    @resolver(
        description="Deletes a webhook, with what waits for it. What others care to hear of stays in"
        " `messages`.",
        scope=Scope.WEBHOOKS_ADMIN,
    )
    async def delete_webhook(self, info: Info, id: Annotated[strawberry.ID, _ID]) -> WebhookPayload:
        try:
            webhook = await service.delete_webhook(program_of(info), key_of(id, "Webhook"))
        except Refused as refused:
            return WebhookPayload(user_errors=user_errors(refused.errors))
        return WebhookPayload(webhook=Webhook.of(webhook), user_errors=[])

    @resolver(
        description="Has a webhook that was switched off, or that fails, go on at once where it stopped. One"
        " that works stays as it is.",
        scope=Scope.WEBHOOKS_ADMIN,
    )
    async def enable_webhook(self, info: Info, id: Annotated[strawberry.ID, _ID]) -> WebhookPayload:
        try:
            webhook = await service.enable_webhook(program_of(info), key_of(id, "Webhook"))
        except Refused as refused:
            return WebhookPayload(user_errors=user_errors(refused.errors))
        return WebhookPayload(webhook=Webhook.of(webhook), user_errors=[])
