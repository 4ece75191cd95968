"""The one way to query what belongs to a program: nothing of another program can come back.

Plain SQL names `program_id` in its text; tests/access/test_tenancy.py finds what goes around both.
"""

from typing import TypeVar
from uuid import UUID

from tortoise.models import Model
from tortoise.queryset import QuerySet

Owned = TypeVar("Owned", bound=Model)


def scoped(model: type[Owned], program_id: UUID) -> QuerySet[Owned]:
    """Return the rows of a model that belong to a program, to be narrowed further.

    Args:
        model: one with a `program_id`.
    """
    return model.filter(program_id=program_id)
