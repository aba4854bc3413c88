"""What a program declares: its tables, its events, and how an event changes the tables.

Owns the way between an event as a Python object and as JSON, and the hash by which a store notices that its tables must
be made anew.
"""

import hashlib
import inspect
from collections.abc import Callable, Iterator
from types import CodeType
from typing import Any, Protocol, TypeVar

import attrs
import msgspec

from livesync_trio.livestore.events import Bindings, Statements
from livesync_trio.livestore.faults import BadEvent, BadSchema
from livesync_trio.livestore.limits import STORE_ARGS_MAX_BYTES
from livesync_trio.wire.reading import Unreadable, plain

E = TypeVar("E", bound=type)


class Context(Protocol):
    """What a materializer may ask while it runs: its second argument, if it has one."""

    @property
    def client_id(self) -> str:
        """The client that committed the event."""

    def query(self, sql: str, bindings: Bindings = ()) -> list[dict[str, Any]]:
        """Read the tables as the events before this one, and its own statements so far, have left them."""


Materializer = Callable[..., Statements]
F = TypeVar("F", bound=Materializer)


@attrs.define
class _Kind:
    """An event as declared."""

    name: str
    type: type
    exact: msgspec.json.Decoder[Any]
    tolerant: msgspec.json.Decoder[Any]
    materializers: list[tuple[Materializer, bool]] = attrs.field(factory=list)
    """With each, whether it takes the context."""


class Schema:
    """Tables, events and materializers of an application.

    ```python
    schema = Schema("CREATE TABLE todos (id TEXT PRIMARY KEY NOT NULL, text TEXT NOT NULL) STRICT")

    @schema.event("v1.TodoCreated")
    class TodoCreated(msgspec.Struct):
        id: str
        text: str

    @schema.materializer(TodoCreated)
    def insert_todo(event):
        return "INSERT INTO todos VALUES (?, ?)", (event.id, event.text)
    ```
    """

    def __init__(self, tables: str = "", *, version: str | int = "") -> None:
        """Declare the tables.

        Args:
            tables: SQL that makes them: CREATE TABLE, INDEX, VIEW, TRIGGER. Each table needs a primary key whose
                columns are NOT NULL.
            version: change it to have the tables made anew although neither they nor the code of a materializer
                changed, but, say, a function that one calls.
        """
        self.tables = tables
        self._version = version
        self._by_name: dict[str, _Kind] = {}
        self._by_type: dict[type, _Kind] = {}

    def event(self, name: str) -> Callable[[E], E]:
        """Declare a msgspec.Struct, attrs class or dataclass as the arguments of the events of a name.

        Raises:
            BadSchema: the name or the class is declared already, or msgspec cannot read such a class.
        """

        def declare(type_: E) -> E:
            if name in self._by_name or type_ in self._by_type:
                raise BadSchema(f"{name!r} or {type_.__name__} is declared twice; a name belongs to one class.")
            try:
                kind = _Kind(name, type_, msgspec.json.Decoder(type_), msgspec.json.Decoder(type_, strict=False))
            except TypeError as error:
                raise BadSchema(f"{type_.__name__} cannot hold the arguments of {name!r}: {error}") from error
            self._by_name[name] = self._by_type[type_] = kind
            return type_

        return declare

    def materializer(self, *types: type) -> Callable[[F], F]:
        """Declare how events of these classes change the tables.

        The function takes the event, and a `Context` if it has a second parameter. It gives a statement (`sql` or
        `(sql, bindings)`), several of them as a list or by `yield`, or None. It must depend on nothing else: it runs
        again when the event gets another place in the log, and on every other machine.

        Raises:
            BadSchema: a class is not declared as an event.
        """

        def declare(function: F) -> F:
            with_context = len(inspect.signature(function).parameters) > 1
            for type_ in types:
                if type_ not in self._by_type:
                    raise BadSchema(f"{type_.__name__} is no event: declare it with `schema.event` first.")
                self._by_type[type_].materializers.append((function, with_context))
            return function

        return declare

    def encode(self, event: object) -> tuple[str, str]:
        """Name and JSON of an event.

        Raises:
            BadEvent: its class is not declared, a value is not of its declared type, or they are too large.
        """
        kind = self._by_type.get(type(event))
        if kind is None:
            raise BadEvent(f"{type(event).__name__} is no event: declare it with `schema.event`.")
        try:
            args = msgspec.json.encode(event)
            kind.exact.decode(args)  # a Struct takes any value until it is read
        except (msgspec.MsgspecError, TypeError, ValueError) as error:
            raise BadEvent(f"{kind.name}: {error}") from error
        if len(args) > STORE_ARGS_MAX_BYTES:  # it could never be pushed, nor anything behind it
            raise BadEvent(f"{kind.name}: its arguments take {len(args)} bytes; {STORE_ARGS_MAX_BYTES} are the most.")
        return kind.name, args.decode()

    def decode(self, name: str, args: str) -> object | None:
        """An event from the log; None when its name is not declared. Members that are not declared are left out.

        Raises:
            ValueError: the arguments do not fit the declared class.
        """
        kind = self._by_name.get(name)
        if kind is None:
            return None
        try:
            decoded: object = kind.tolerant.decode(args)
        except msgspec.ValidationError:
            raise
        except msgspec.DecodeError:
            decoded = kind.tolerant.decode(_without_lone_surrogates(args))
        return decoded

    def statements(self, event: object, context: Context) -> Iterator[tuple[str, Bindings]]:
        """What the materializers say is to be done for an event; each statement must run before the next is asked for.

        Raises:
            Exception: whatever a materializer raises.
            TypeError: it gave something that is no statement.
        """
        for function, with_context in self._by_type[type(event)].materializers:
            given = function(event, context) if with_context else function(event)
            if given is None:
                continue
            for statement in (given,) if isinstance(given, str | tuple) else given:
                if isinstance(statement, str):
                    yield statement, ()
                elif isinstance(statement, tuple) and len(statement) == 2 and isinstance(statement[0], str):
                    yield statement
                else:
                    raise TypeError(f"{function.__qualname__} gave {statement!r}, which is no statement")

    @property
    def hash(self) -> str:
        """Changes with the tables, the events' declarations and the materializers."""
        parts: list[object] = [self.tables, self._version]
        for name, kind in sorted(self._by_name.items()):
            parts += [name, [_fingerprint(function) for function, _ in kind.materializers]]
            parts += [_declaration(kind.type)]
        return hashlib.sha256(repr(parts).encode(errors="backslashreplace")).hexdigest()


def _declaration(type_: type) -> object:
    try:
        return msgspec.json.encode(msgspec.json.schema(type_), order="sorted")
    except (TypeError, ValueError):  # what reads with a hook has no JSON schema
        return repr(inspect.get_annotations(type_))


def _fingerprint(function: Any) -> object:
    """What a function does, as far as its own code tells; where it stands in which file is left out."""
    code = getattr(function, "__code__", None)
    if code is None:
        return repr(type(function))
    held = [*inspect.getclosurevars(function).nonlocals.values(), *(function.__defaults__ or ())]
    return _code(code), [value if isinstance(value, str | int | float | bytes) else type(value) for value in held]


def _code(code: CodeType) -> object:
    constants = [_code(each) if isinstance(each, CodeType) else _constant(each) for each in code.co_consts]
    return code.co_code, code.co_names, code.co_varnames, constants


def _constant(value: object) -> str:
    return repr(sorted(map(repr, value))) if isinstance(value, frozenset) else repr(value)


def _without_lone_surrogates(args: str) -> str:
    """JSON whose halves of surrogate pairs have become U+FFFD, as they do on a browser's way to SQLite."""
    try:
        text = msgspec.json.encode(_whole(plain(args.encode()))).decode()
    except Unreadable as error:
        raise ValueError(str(error)) from error
    return text


def _whole(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    if isinstance(value, list):
        return [_whole(each) for each in value]
    if isinstance(value, dict):
        return {_whole(key): _whole(each) for key, each in value.items()}
    return value
