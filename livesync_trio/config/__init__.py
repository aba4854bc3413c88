"""What an operator may decide: flags, environment and a TOML file become one frozen `Config`.

`groups` declares every setting by means of `declaring` and `checks`, `settings` makes one `Config` of them, `sources`
and `converting` read it, and `exposure` says what may not be reachable from a network. Nothing is read after start-up,
no database is opened, no hook is loaded.
"""

from livesync_trio.config.checks import Rate, check_database_url, is_postgresql, parse_rates, sqlite_path
from livesync_trio.config.declaring import Secret, Setting, is_placeholder
from livesync_trio.config.exposure import THIS_MACHINE, exposure_problems, exposure_warnings, is_loopback
from livesync_trio.config.feed import FeedTable
from livesync_trio.config.groups import LogFormat, LogLevel
from livesync_trio.config.settings import SETTINGS, Config, shown_settings
from livesync_trio.config.sources import CONFIG_ENV, URL_ENV, BadConfig, Problem, load

__all__ = [
    "CONFIG_ENV",
    "SETTINGS",
    "THIS_MACHINE",
    "URL_ENV",
    "BadConfig",
    "Config",
    "FeedTable",
    "LogFormat",
    "LogLevel",
    "Problem",
    "Rate",
    "Secret",
    "Setting",
    "check_database_url",
    "exposure_problems",
    "exposure_warnings",
    "is_loopback",
    "is_placeholder",
    "is_postgresql",
    "load",
    "parse_rates",
    "shown_settings",
    "sqlite_path",
]
