"""Variables that others set, names that nobody else sets, and names that look like a mistake."""

from pathlib import Path

import pytest

from livesync_trio.config import SETTINGS, BadConfig, Config, Secret, load, settings

INJECTED = "tcp://10.0.0.7:8100"
CONDA = "x86_64-conda-linux-gnu"


def problem_of(environ: dict[str, str]) -> str:
    with pytest.raises(BadConfig) as error:
        load({}, environ)
    (problem,) = error.value.problems
    return str(problem)


# --- LIVESYNC_… is a name of every setting ---------------------------------------------------------------------------


@pytest.mark.parametrize("setting", [one for one in SETTINGS if not one.only_in_file], ids=lambda one: one.name)
def test_every_setting_has_a_name_that_nobody_else_sets(setting: object) -> None:
    assert isinstance(setting, type(SETTINGS[0]))
    assert setting.own_env == f"LIVESYNC_{setting.name.upper()}"
    assert setting.variables[0] == setting.own_env
    assert setting.env in setting.variables


def test_our_own_name_wins_and_what_it_beats_is_not_looked_at() -> None:
    assert load({}, {"PORT": "nonsense", "LIVESYNC_PORT": "9000"}).port == 9000
    assert load({}, {"HOST": "10.0.0.1", "LIVESYNC_HOST": "::1"}).host == "::1"
    config = load({}, {"PORT": "1", "LIVESYNC_PORT": "9000"})
    assert config.given("port") == "9000 (given by LIVESYNC_PORT)"
    assert load({"port": "3"}, {"LIVESYNC_PORT": "9000"}).port == 3
    assert load({}, {"PORT": "2", "LIVESYNC_PORT": ""}).port == 2


def test_a_file_named_by_our_own_name_beats_the_common_value(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("c0ffee\n")
    config = load({}, {"AUTH_TOKEN": "other", "LIVESYNC_AUTH_TOKEN_FILE": str(token)})
    assert config.auth_token == Secret("c0ffee")


# --- what others put there -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variable", "service"),
    [
        ("ADMIN_PORT", "a service called 'admin'"),
        ("LIVESYNC_PORT", "a service called 'livesync'"),
        ("LIVESYNC_ADMIN_PORT", "a service called 'livesync-admin'"),
        ("PORT", "every service"),
    ],
)
def test_the_port_of_a_kubernetes_service_is_not_ours(variable: str, service: str) -> None:
    config = load({}, {variable: INJECTED})
    assert config == Config()
    (remark,) = config.remarks
    assert f"{variable}='{INJECTED}' is ignored" in remark
    assert service in remark


def test_what_kubernetes_sets_for_a_service_called_livesync_is_no_mistake() -> None:
    injected = {
        "LIVESYNC_SERVICE_HOST": "10.0.0.7",
        "LIVESYNC_SERVICE_PORT": "8000",
        "LIVESYNC_SERVICE_PORT_HTTP": "8000",
        "LIVESYNC_PORT_8000_TCP": "tcp://10.0.0.7:8000",
        "LIVESYNC_PORT_8000_TCP_PROTO": "tcp",
        "LIVESYNC_PORT_8000_TCP_PORT": "8000",
        "LIVESYNC_PORT_8000_TCP_ADDR": "10.0.0.7",
        "LIVESYNC_ADMIN_SERVICE_HOST": "10.0.0.8",
    }
    assert load({}, injected).remarks == ()


@pytest.mark.parametrize(
    "triplet", [CONDA, "aarch64-conda-linux-gnu", "x86_64-apple-darwin13.4.0", "arm64-apple-darwin20.0.0"]
)
def test_the_host_of_condas_compilers_is_not_ours(triplet: str) -> None:
    config = load({}, {"HOST": triplet})
    assert config.host == "127.0.0.1"
    (remark,) = config.remarks
    assert triplet in remark
    assert "LIVESYNC_HOST" in remark


def test_what_somebody_can_have_meant_is_taken() -> None:
    assert load({}, {"HOST": "my-linux-box.example"}).host == "my-linux-box.example"
    assert problem_of({"ADMIN_PORT": "tcp://"}).startswith("ADMIN_PORT: 'tcp://' is not a whole number")


# --- mistakes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variable", "remark"),
    [
        ("LIVESYNC_IDLE_LIMIT", "there is no such setting; did you mean LIVESYNC_IDLE_LIMIT_S?"),
        ("LIVESYNC_DATABASE_ULR", "there is no such setting; did you mean LIVESYNC_DATABASE_URL?"),
        ("LIVESYNC_XYZZY_QQ", "there is no such setting"),
    ],
)
def test_a_name_that_is_none_is_told_without_its_value(variable: str, remark: str) -> None:
    config = load({}, {variable: "canary"})
    assert config == Config()
    (told,) = config.remarks
    assert told.startswith(f"{variable} is set, but {remark}")
    assert "canary" not in told


def test_names_that_are_no_settings_but_ours_and_empty_ones_are_not_told() -> None:
    assert load({}, {"LIVESYNC_URL": "http://x", "LIVESYNC_CONFIG": "", "LIVESYNC_OLD": ""}).remarks == ()


@pytest.mark.parametrize(
    ("environ", "name", "value"),
    [
        ({"LIVESYNC_STORE_ID_PATTERN": "["}, "LIVESYNC_STORE_ID_PATTERN", "'['"),
        ({"LIVESYNC_JWT_KEYS": "http://id.example/x"}, "LIVESYNC_JWT_KEYS", "http://id.example/x"),
        ({"LIVESYNC_JWT_KEYS": "/nowhere/keys"}, "LIVESYNC_JWT_KEYS", "/nowhere/keys"),
        ({"PORT": "65536"}, "PORT", "65536"),
        ({"HOST": "a b"}, "HOST", "a b"),
    ],
)
def test_a_message_names_the_variable_and_the_value(environ: dict[str, str], name: str, value: str) -> None:
    problem = problem_of(environ)
    assert problem.startswith(f"{name}: ")
    assert value in problem


def test_problems_between_settings_name_where_they_were_given(tmp_path: Path) -> None:
    file = tmp_path / "livesync.toml"
    file.write_text("jwt_keys = '/nowhere/keys'\n")
    assert problem_of({"LIVESYNC_CONFIG": str(file)}).startswith(f"jwt_keys in {file}: '/nowhere/keys'")


# --- texts as editors and shells leave them --------------------------------------------------------------------------


class TestSecrets:
    def test_a_byte_order_mark_is_no_part_of_a_file(self, tmp_path: Path) -> None:
        token, file = tmp_path / "token", tmp_path / "livesync.toml"
        token.write_text("secret\r\n", encoding="utf-8-sig")
        file.write_text(f"port = 9000\nauth_token_file = '{token}'\n", encoding="utf-8-sig")
        config = load({}, {"LIVESYNC_CONFIG": str(file)})
        assert (config.port, config.auth_token) == (9000, Secret("secret"))

    @pytest.mark.parametrize(
        "text", ["\ufeffsecret", " secret", "secret\t", "sec\nret", "sec\x00ret", "secret\r", "sec\u200bret", "\udcff"]
    )
    @pytest.mark.parametrize("variable", [setting.env for setting in SETTINGS if setting.secret])
    def test_a_secret_has_nothing_in_it_that_nobody_sees(self, variable: str, text: str) -> None:
        problem = problem_of({variable: text * 40})
        assert problem.startswith(f"{variable}: it has ")
        assert "secret" not in problem.removeprefix(f"{variable}: ")

    def test_a_program_is_told_the_same(self) -> None:
        with pytest.raises(ValueError, match="white space"):
            Config(auth_token=Secret("secret "))

    def test_letters_of_all_languages_and_inner_spaces_stay(self) -> None:
        assert load({}, {"AUTH_TOKEN": "où ça 鍵 🔑"}).auth_token == Secret("où ça 鍵 🔑")


class TestPasswordsInUrls:
    @pytest.mark.parametrize(
        "url",
        [
            "postgresql://u:can@ary@h/d",
            "postgresql://u:can/ary@h/d",
            "postgres://u:canary@x@h:5432/d",
            "postgresql://u:can?ary@h/d",
            "postgresql://u:can%ary@h/d",
            "postgresql://u:can ary@h/d",
            "postgresql://u:canary@h/d\n",
            "postgresql://u:canary@h:port/d",
        ],
    )
    @pytest.mark.parametrize("variable", ["DATABASE_URL", "LIVESYNC_LISTEN_URL"])
    def test_what_would_be_cut_in_the_wrong_place_is_refused_and_not_shown(self, variable: str, url: str) -> None:
        problem = problem_of({variable: url})
        assert problem.startswith(f"{variable}: it has ")
        assert "can" not in problem
        assert "ary" not in problem

    @pytest.mark.parametrize(
        ("url", "shown"),
        [
            ("postgresql://ann:hunter2/hunter2@db.example/x", "postgresql://***"),
            ("postgresql://ann:hunter2?x@hunter2@db.example/x", "postgresql://ann:***@db.example/x"),
        ],
    )
    def test_what_is_refused_would_not_be_shown_either(self, url: str, shown: str) -> None:
        assert settings._shown(url) == shown

    @pytest.mark.parametrize(
        "url",
        [
            "postgresql://u:p%40ss%2F@h/d",
            "postgresql:///d?host=/var/run/postgresql&user=a@b",
            "postgresql://%2Fvar%2Frun/d",
            "postgresql://u@[::1]:5432,[fe80::1],h3:5433/d?sslmode=require",
            "postgres://u:p:w@h.example:5432/d",
            "postgresql://",
        ],
    )
    def test_what_libpq_takes_is_taken(self, url: str) -> None:
        assert load({}, {"DATABASE_URL": url}).database_url == url
