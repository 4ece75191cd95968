"""Stores for tests."""

from typing import Any
from uuid import UUID, uuid4

from app.stores.inputs import StoreContent
from app.stores.service import create_store
from app.stores.stores import Store


async def make_store(program_id: UUID, **fields: Any) -> Store:
    """Set up a store under an external id that nobody has used before."""
    return await create_store(
        program_id, StoreContent(**{"external_id": f"store-{uuid4().hex}", "name": "Store", **fields})
    )
