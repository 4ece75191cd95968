"""The API with a `recordEvents` that does nothing: the same parsing, coercion, validation and access."""

import argparse
from typing import Annotated, Any

import strawberry
from strawberry.types.fields.resolver import StrawberryResolver

from app.commands import prepared
from app.serving import serve
from graphql_schema.nodes import Info
from graphql_schema.recording import EventInput, RecordEventsPayload
from graphql_schema.root import Mutation


async def record_events(
    self: Any, info: Info, input: Annotated[list[EventInput], strawberry.argument(description="The events.")]
) -> RecordEventsPayload:
    """Answer as if everything had been stored."""
    return RecordEventsPayload(accepted=len(input), replayed=0, user_errors=[])


def main() -> None:
    """Put the no-op in its place, and serve as `laurel serve` does."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    port = parser.parse_args().port
    definition = Mutation.__strawberry_definition__  # type: ignore[attr-defined]
    field = next(each for each in definition.fields if each.python_name == "record_events")
    # A resolver that is not async would be spared a turn of the loop that the real one cannot be.
    field.base_resolver = StrawberryResolver(record_events)
    serve(prepared().model_copy(update={"port": port}))


if __name__ == "__main__":
    main()
