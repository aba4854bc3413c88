"""What events may look like: a JSON Schema for each name of an event, which its args must fit.

Validated by the library `jsonschema-rs`, which is loaded where there are schemas only. Schemas are whole in themselves:
nothing is fetched.
"""

import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

import attrs
import msgspec

from livesync_trio.errors import Kind, Refusal
from livesync_trio.model import Draft, Event

if TYPE_CHECKING:
    from jsonschema_rs import Validator

_REASON_MAX_CHARACTERS: Final = 300


class BadSchemas(ValueError):
    """The schemas cannot be used; the message says why."""


class _Shape(msgspec.Struct):
    name: str
    args: Any = None


_decoder: Final = msgspec.json.Decoder(_Shape)


@attrs.frozen
class EventSchemas:
    """The schemas of a server.

    Attributes:
        validators: by the name of the event.
        knows_all: whether an event without a schema is refused.
    """

    validators: Mapping[str, "Validator"]
    knows_all: bool = False

    @classmethod
    def of(cls, text: bytes, *, knows_all: bool = False) -> "EventSchemas":
        """Read them.

        Args:
            text: a JSON object: for each name of an event, a JSON Schema document.
            knows_all: see the attribute.

        Raises:
            BadSchemas: it is none.
        """
        import jsonschema_rs  # noqa: PLC0415 - see above

        try:
            documents = json.loads(text)
        except ValueError as error:
            raise BadSchemas(f"they are not JSON: {error}") from None
        if not isinstance(documents, dict):
            raise BadSchemas("they are not a JSON object with a schema for each name of an event")
        validators = {}
        for name, schema in documents.items():
            try:
                validators[name] = jsonschema_rs.validator_for(schema, offline=True)
            except ValueError as error:
                reason = str(error).partition("\n")[0][:_REASON_MAX_CHARACTERS]
                raise BadSchemas(f"the one of {name!r} is no JSON Schema: {reason}") from None
        return cls(validators, knows_all)

    def refusal_of_drafts(self, drafts: Iterable[Draft]) -> Refusal | None:
        """The first event that does not fit, as a refusal that names it."""
        return self._refusal(draft.before + b"}" for draft in drafts)

    def refusal_of_events(self, events: Iterable[Event]) -> Refusal | None:
        """The same for events with numbers."""
        return self._refusal(event.json for event in events)

    def _refusal(self, texts: Iterable[bytes]) -> Refusal | None:
        for index, text in enumerate(texts):
            wrong = self.fault_of(text)
            if wrong is not None:
                return Refusal(Kind.INVALID_EVENT, f"Event {index} of the batch does not fit: {wrong}.")
        return None

    def fault_of(self, text: bytes) -> str | None:
        """What is wrong with an event: path and reason; None: nothing.

        Args:
            text: its canonical text, or the beginning of it as an object.
        """
        name, args = _read(text)
        validator = self.validators.get(name)
        if validator is None:
            return f"there is no schema for {name[:_REASON_MAX_CHARACTERS]!r}" if self.knows_all else None
        try:
            error = next(validator.iter_errors(args), None)
        except (ValueError, RecursionError) as fault:  # half a character, nested too deeply
            return f"{name!r}: data: {str(fault)[:_REASON_MAX_CHARACTERS]}"
        if error is None:
            return None
        path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error.instance_path)
        return f"{name!r}: data{path}: {error.message[:_REASON_MAX_CHARACTERS]}"


def _read(text: bytes) -> tuple[str, Any]:
    """Name and args of an event that was found to be JSON before."""
    try:
        shape = _decoder.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError):  # half a character; a number that msgspec does not read
        fields = json.loads(text)
        return fields["name"], fields.get("args")
    return shape.name, shape.args
