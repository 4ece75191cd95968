"""From input objects to what services take."""

from dataclasses import fields
from typing import Any

import strawberry

from app.members import reads
from graphql_schema.nodes import key_of


def given(input: Any) -> dict[str, Any]:
    """Return the fields of an input that have a value, null left out: what a new object is made of."""
    return {name: value for name, value in changes(input).items() if value is not None}


def changes(input: Any) -> dict[str, Any]:
    """Return the fields of an input that were sent, null included: what an update changes."""
    return {
        each.name: value
        for each in fields(input)
        if (value := getattr(input, each.name)) is not strawberry.UNSET
    }


@strawberry.input(one_of=True, description="Names a member in one way.")
class MemberRef:
    id: strawberry.ID | None = strawberry.field(description="The member's id here.", default=strawberry.UNSET)
    external_id: str | None = strawberry.field(
        description="The member's id in your own systems.", default=strawberry.UNSET
    )
    email: str | None = strawberry.field(
        description="The member's e-mail address; upper and lower case are the same.",
        default=strawberry.UNSET,
    )

    def value(self) -> reads.MemberRef:
        """Return the reference for services; an id that is none of a member names nobody."""
        if self.external_id is not strawberry.UNSET:
            return reads.MemberRef(external_id=self.external_id)
        if self.email is not strawberry.UNSET:
            return reads.MemberRef(email=self.email)
        return reads.MemberRef(id=key_of(self.id or "", "Member"))
