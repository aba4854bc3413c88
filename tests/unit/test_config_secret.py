import copy
import json
import logging
import pickle
import traceback

import attrs
import pytest

from livesync_trio.config import Config, Secret

CANARY = "canary-8f2a"


def test_it_is_never_shown() -> None:
    secret = Secret(CANARY)
    config = Config(auth_token=secret, admin_secret=secret)
    shown = [
        repr(secret),
        str(secret),
        f"{secret}",
        f"{secret!r:>40}",
        "%s" % secret,  # noqa: UP031 - the oldest way must hide it too
        repr(config),
        str(attrs.asdict(config)),
        logging.Formatter().format(logging.makeLogRecord({"msg": "%s", "args": (config,)})),
    ]
    for text in shown:
        assert CANARY not in text


@pytest.mark.parametrize("write", [pickle.dumps, json.dumps, copy.deepcopy])
def test_it_is_never_written(write: object) -> None:
    assert callable(write)
    with pytest.raises(TypeError) as error:
        write(Secret(CANARY))
    assert CANARY not in "".join(traceback.format_exception(error.value))


def test_it_has_no_dict_to_look_into() -> None:
    with pytest.raises(TypeError):
        vars(Secret(CANARY))


def test_revealing_it_takes_a_word() -> None:
    assert Secret(CANARY).reveal() == CANARY


@pytest.mark.parametrize(
    ("candidate", "same"),
    [(CANARY, True), ("", False), (CANARY + " ", False), (CANARY.upper(), False), ("\ud83d", False)],
)
def test_it_is_compared_exactly(candidate: str, same: bool) -> None:
    assert Secret(CANARY).matches(candidate) is same


def test_a_lone_surrogate_can_be_a_secret() -> None:
    assert Secret("\ud83d").matches("\ud83d")


def test_equal_secrets_are_equal_and_a_text_is_not_one() -> None:
    assert Secret(CANARY) == Secret(CANARY)
    assert hash(Secret(CANARY)) == hash(Secret(CANARY))
    assert Secret(CANARY) != Secret("other")
    assert Secret(CANARY) != CANARY
