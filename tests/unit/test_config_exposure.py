import pytest

from livesync_trio.config import Config, Secret, exposure_problems, exposure_warnings, is_loopback

GOOD = Secret("c0ffee-4f9d-11ee")


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.3.4.5",
        "::1",
        "::1%lo",
        "::ffff:127.0.0.1",
        "localhost",
        "LocalHost",
        "localhost.",
        "app.localhost",
    ],
)
def test_loopback(host: str) -> None:
    assert is_loopback(host)
    assert exposure_problems(Config(host=host), has_validate_payload=False) == []


@pytest.mark.parametrize(
    "host",
    [
        "0.0.0.0",
        "::",
        "192.168.1.10",
        "10.0.0.1",
        "::ffff:10.0.0.1",
        "fe80::1",
        "example.org",
        "localhost.example.org",
        "127.1",
    ],
)
def test_reachable_from_a_network(host: str) -> None:
    assert not is_loopback(host)
    (problem,) = exposure_problems(Config(host=host), has_validate_payload=False)
    assert host in problem
    assert "AUTH_TOKEN" in problem
    assert "validate_payload" in problem


def test_a_token_or_a_hook_makes_it_right() -> None:
    assert exposure_problems(Config(host="0.0.0.0", auth_token=GOOD), has_validate_payload=False) == []
    assert exposure_problems(Config(host="0.0.0.0"), has_validate_payload=True) == []


@pytest.mark.parametrize(
    "placeholder",
    [
        "insecure-token-change-me",
        "change-me-admin-secret",
        "CHANGE_ME",
        "changeme",
        "Secret",
        "your-token",
        "please change me",
    ],
)
def test_a_placeholder_is_no_secret(placeholder: str) -> None:
    config = Config(host="0.0.0.0", auth_token=Secret(placeholder))
    (problem,) = exposure_problems(config, has_validate_payload=True)
    assert "AUTH_TOKEN" in problem
    assert placeholder.strip() not in problem


def test_every_reason_is_given() -> None:
    config = Config(host="0.0.0.0", admin_secret=Secret("change-me-admin-secret"))
    assert len(exposure_problems(config, has_validate_payload=False)) == 2


def test_only_insecure_says_otherwise() -> None:
    config = Config(host="0.0.0.0", auth_token=Secret("changeme"), admin_secret=Secret("changeme"), insecure=True)
    assert exposure_problems(config, has_validate_payload=False) == []


@pytest.mark.parametrize(("characters", "problems", "warnings"), [(7, 1, 1), (8, 0, 1), (15, 0, 1), (16, 0, 0)])
def test_a_short_token_is_warned_of_and_a_very_short_one_refused_on_a_network(
    characters: int, problems: int, warnings: int
) -> None:
    config = Config(host="0.0.0.0", auth_token=Secret("x7Kq9fLw2Zt4Vb8N"[:characters]))
    found = exposure_problems(config, has_validate_payload=False)
    assert len(found) == problems
    assert all("AUTH_TOKEN" in each and "x7Kq9" not in each for each in (*found, *exposure_warnings(config)))
    assert len(exposure_warnings(config)) == warnings
    here = Config(auth_token=Secret("x7"))
    assert exposure_problems(here, has_validate_payload=False) == []
