"""An executor that works out each selection set once and then follows the plan.

graphql-core decides anew for each field of each object how to read it and how to complete it.
Here that is decided once for each selection set and type: plain attributes that hold leaves,
objects or lists of objects are read and completed on the spot. Whatever is out of the ordinary
(a resolver, an awaitable, an exception, a null where none may be, a value that does not
coerce) is handed to the reference implementation, with the value that has been read already,
so that data and errors come out the same. tests/graphql_schema/test_executor.py compares the two.
"""

from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from graphql import GraphQLObjectType, Undefined, is_leaf_type
from graphql.execution.executor import collect_iterator_awaitables, to_nodes
from graphql.pyutils import Path, gather_with_cancel
from strawberry.schema.schema import StrawberryGraphQLCoreExecutionContext

from graphql_schema.plans import (
    CONSTANT,
    DONE,
    LEAF,
    LIST,
    LISTS,
    PlanCache,
    Read,
    Step,
    is_own,
    is_plain,
    leaves_of,
    nullable_type,
    plan_field,
)


class FastExecutor(StrawberryGraphQLCoreExecutionContext):
    """Strawberry's executor with plans; `plans` are those of the same operation's earlier runs.

    Only an operation whose collected fields do not depend on its variables may bring plans along.
    """

    def __init__(self, *args: Any, plans: PlanCache | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._cache = plans or PlanCache()
        self._relevant_sub_fields = self._cache.subfields
        middleware = self.middleware_manager
        self._reference_only = bool(
            (middleware and middleware.middlewares)
            or self.schema.get_directive("defer")
            or self.schema.get_directive("stream")
        )

    def execute_root_grouped_field_set(
        self, root_type: Any, root_value: Any, grouped_field_set: Any, serially: bool, position_context: Any
    ) -> Any:
        """Execute the root fields, in the collection that the plans were made for."""
        if not self._reference_only:
            if self._cache.root is None:
                self._cache.root = grouped_field_set
            grouped_field_set = self._cache.root
        return super().execute_root_grouped_field_set(
            root_type, root_value, grouped_field_set, serially, position_context
        )

    def execute_fields(
        self, parent_type: Any, source_value: Any, path: Any, grouped_field_set: Any, position_context: Any
    ) -> Any:
        """Execute the fields of one object as planned."""
        if self._reference_only or position_context is not None:
            return super().execute_fields(
                parent_type, source_value, path, grouped_field_set, position_context
            )
        return self._follow(self._plan(parent_type, grouped_field_set), parent_type, source_value, path)

    def _plan(self, parent_type: Any, grouped_field_set: Any) -> list[Step]:
        key = (id(grouped_field_set), parent_type)
        found = self._cache.plans.get(key)
        if found is None:
            steps = [
                plan_field(self.schema, parent_type, name, details)
                for name, details in grouped_field_set.items()
            ]
            found = self._cache.plans[key] = (grouped_field_set, steps)
        return found[1]

    def _follow(self, steps: list[Step], parent_type: Any, source: Any, path: Any) -> Any:
        results: dict[str, Any] = {}
        pending: list[str] = []
        is_awaitable = self.is_awaitable
        try:
            for name, details, kind, attribute, nullable, same, complete in steps:
                held = source
                if kind < CONSTANT:
                    try:
                        value = getattr(source, attribute)
                    except Exception as error:
                        held = Read(error=error)
                    else:
                        cls = type(value)
                        if cls is same or (value is None and nullable):
                            results[name] = value
                            continue
                        if kind == LEAF:
                            if value is not None and is_plain(cls):
                                try:
                                    leaf = complete(value)
                                except Exception:
                                    leaf = None  # the reference runs into it again, and reports it
                                if leaf is not None and leaf is not Undefined:
                                    results[name] = leaf
                                    continue
                        elif cls in LISTS if kind == LIST else value is not None and is_plain(cls):
                            field_path = Path(path, name, parent_type.name)
                            result = self._nested(kind, complete, parent_type, details, value, field_path)
                            results[name] = result
                            if type(result) not in DONE and is_awaitable(result):
                                pending.append(name)
                            continue
                        held = Read(value)
                elif kind == CONSTANT:
                    results[name] = complete
                    continue
                result = self.execute_field(
                    parent_type, held, details, Path(path, name, parent_type.name), None
                )
                if result is not Undefined:
                    results[name] = result
                    if is_awaitable(result):
                        pending.append(name)
        except Exception:
            if pending:
                self.settle_in_background([results[name] for name in pending])
            raise
        return _gathered(results, pending) if pending else results

    def _nested(self, kind: int, field: Any, parent_type: Any, details: Any, value: Any, path: Any) -> Any:
        """Complete the object or the list that a field holds, as `execute_field` would."""
        type_ = nullable_type(field.type)

        def info() -> Any:
            return self.build_resolve_info(field, to_nodes(details), parent_type, path)

        try:
            if kind == LIST:
                completed = self._list(type_, details, path, value, info)
            else:
                completed = self._object(type_, details, path, value, info)
        except Exception as error:
            self.handle_field_error(error, field.type, details, path)
            return None
        if type(completed) not in DONE and self.is_awaitable(completed):
            return self._settled(completed, field.type, details, path)
        return completed

    def _object(self, type_: Any, details: Any, path: Any, value: Any, info: Callable[[], Any]) -> Any:
        if type_.is_type_of is not None and not is_own(type_, value):
            return self.complete_object_value(type_, details, info(), path, value, None)
        fields = self.collect_subfields(type_, details).grouped_field_set
        return self._follow(self._plan(type_, fields), type_, value, path)

    def complete_list_value(
        self,
        return_type: Any,
        field_details_list: Any,
        info: Any,
        path: Any,
        result: Any,
        position_context: Any,
    ) -> Any:
        """Complete a list that a resolver returned, its objects as planned."""
        if self._reference_only or position_context is not None or type(result) not in LISTS:
            return super().complete_list_value(
                return_type, field_details_list, info, path, result, position_context
            )
        return self._list(return_type, field_details_list, path, result, lambda: info)

    def _list(self, list_type: Any, details: Any, path: Any, items: Any, info: Callable[[], Any]) -> Any:
        item_type = list_type.of_type
        inner = nullable_type(item_type)
        if isinstance(inner, GraphQLObjectType):
            return self._objects(item_type, inner, details, path, iter(items), info)
        if is_leaf_type(inner):
            leaves = leaves_of(inner, item_type is inner, items)
            if leaves is not None:
                return leaves
        return super().complete_list_value(list_type, details, info(), path, items, None)

    def _objects(
        self,
        item_type: Any,
        type_: Any,
        details: Any,
        path: Any,
        items: Iterator[Any],
        info: Callable[[], Any],
    ) -> Any:
        completed: list[Any] = []
        pending: list[int] = []
        is_awaitable = self.is_awaitable
        steps: list[Step] | None = None
        try:
            for index, item in enumerate(items):
                item_path = Path(path, index, None)
                if item is not None and is_plain(type(item)):
                    try:
                        if type_.is_type_of is None or is_own(type_, item):
                            if steps is None:
                                fields = self.collect_subfields(type_, details).grouped_field_set
                                steps = self._plan(type_, fields)
                            result = self._follow(steps, type_, item, item_path)
                        else:
                            result = self.complete_object_value(type_, details, info(), item_path, item, None)
                    except Exception as error:
                        self.handle_field_error(error, item_type, details, item_path)
                        result = None
                    if type(result) not in DONE and is_awaitable(result):
                        result = self._settled(result, item_type, details, item_path)
                        pending.append(index)
                    completed.append(result)
                elif is_awaitable(item):
                    completed.append(
                        self.complete_awaitable_list_item_value(
                            item, item_type, details, info(), item_path, None
                        )
                    )
                    pending.append(index)
                elif self.complete_list_item_value(
                    item, completed, item_type, details, info(), item_path, None
                ):
                    pending.append(index)
        except Exception:
            orphans = [completed[index] for index in pending]
            orphans.extend(collect_iterator_awaitables(items, is_awaitable))
            if orphans:
                self.settle_in_background(orphans)
            raise
        return _gathered(completed, pending) if pending else completed

    async def _settled(self, awaitable: Awaitable[Any], type_: Any, details: Any, path: Any) -> Any:
        try:
            return await awaitable
        except Exception as error:
            self.handle_field_error(error, type_, details, path)
            return None


async def _gathered(results: Any, pending: list[Any]) -> Any:
    """Return results with the pending ones in place, awaited side by side."""
    if len(pending) == 1:
        results[pending[0]] = await results[pending[0]]
    else:
        values = await gather_with_cancel(*(results[place] for place in pending))
        for place, value in zip(pending, values, strict=True):
            results[place] = value
    return results
