"""Messages: everything that happened, in one order that readers go on in."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

import strawberry

from app.access.scopes import Scope
from app.cursors import encode_cursor
from app.database import connection as database
from app.errors import ErrorCode, refuse
from app.ids import to_global_id
from app.members.reads import find_states
from app.messages import feed
from app.messages.topics import Topic, check_topics
from app.validation import Problems
from graphql_schema.access import object_type, resolver
from graphql_schema.context import Context
from graphql_schema.inputs import MemberRef
from graphql_schema.members import Member, load_members
from graphql_schema.nodes import Info, Node, finds, later, program_of
from graphql_schema.pagination import AFTER, BEFORE, FIRST, LAST, Connection, connection, page_of
from graphql_schema.scalars import JSON

READ = Scope.MESSAGES_READ
_LIST = "messages"

_TOPICS = "\n".join(f"- `{topic}`: {topic.description} The payload has {topic.payload}." for topic in Topic)


@object_type(description="One change that others care about, told as it happened.", scope=READ)
class Message(Node):
    topic: str = strawberry.field(description="What it is about; `messages` names the topics that there are.")
    payload: JSON = strawberry.field(
        description="What it says, as it was then; `messages` names what each topic's has. Ids are those that"
        " `node` takes, money is text, and times are RFC 3339 in UTC. Names may be added with time."
    )
    created_at: datetime = strawberry.field(description="When it happened.")
    message: strawberry.Private[feed.FeedMessage]

    @classmethod
    def of(cls, message: feed.FeedMessage) -> "Message":
        """Return a message as the API gives it."""
        return cls(
            id=strawberry.ID(to_global_id("Message", message.id)),
            topic=message.topic,
            payload=JSON(message.payload),
            created_at=message.created_at,
            message=message,
        )

    @resolver(description="Whom it is about; null where that is nobody.")
    def member(self, info: Info) -> Member | None:
        member_id = self.message.member_id
        return None if member_id is None else later(info.context.loader(load_members).load(member_id))

    @resolver(description="Its place: as `after` of `messages` it goes on with what comes behind it.")
    def cursor(self) -> str:
        return encode_cursor(_LIST, (self.message.position,))


async def load_messages(context: Context, keys: list[UUID]) -> list[Message | None]:
    """Load messages of the caller's program."""
    assert context.principal.program_id
    found = await feed.get_messages(context.principal.program_id, keys)
    return [None if message is None else Message.of(message) for message in found]


@finds("Message")
async def _find(context: Context, key: UUID | str) -> Message | None:
    return await context.loader(load_messages).load(key) if isinstance(key, UUID) else None


@object_type(description="")
class MessageQueries:
    @resolver(
        description="Every message, in one order that never changes for a reader: read on from any position"
        " and miss none. Messages of one member stand in the order of what they tell. To follow, ask again"
        " and again for what comes after the last cursor that you have seen.",
        scope=READ,
    )
    async def messages(
        self,
        info: Info,
        first: Annotated[int | None, strawberry.argument(description=FIRST)] = None,
        after: Annotated[str | None, strawberry.argument(description=AFTER)] = None,
        last: Annotated[int | None, strawberry.argument(description=LAST)] = None,
        before: Annotated[str | None, strawberry.argument(description=BEFORE)] = None,
        topics: Annotated[
            list[str] | None,
            strawberry.argument(
                description="Only these: names of topics, all of a kind as `points.*`, or `*` for everything,"
                f" as when it is empty or left out. There are:\n\n{_TOPICS}"
            ),
        ] = None,
        member: Annotated[MemberRef | None, strawberry.argument(description="Only about this one.")] = None,
    ) -> Connection[Message]:
        program_id = program_of(info)
        page = page_of(_LIST, (int,), first=first, after=after, last=last, before=before)
        problems = Problems()
        check_topics(topics or (), problems)
        problems.refuse_any()
        member_id = None
        if member is not None:
            ref = member.value()
            async with database() as sql:
                (state,) = await find_states(sql, program_id, [ref])
            if state is None:
                raise refuse(ErrorCode.NOT_FOUND, "There is no such member.", "member", ref.field)
            member_id = state.id
        result = await feed.list_messages(program_id, page, topics or (), member_id)
        return connection(_LIST, result, Message.of, lambda each: (each.position,))
