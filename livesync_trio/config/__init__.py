"""What an operator may decide: flags, environment and a TOML file become one frozen `Config`.

Owns the settings (each declared once, in `settings`), how they are given (`sources`), what a database URL may say
(`database_url`) and what may not be exposed to a network (`exposure`). Never reads anything after start-up, never opens
a database, never loads a hook.
"""

from livesync_trio.config.database_url import check_database_url, is_postgresql, sqlite_path
from livesync_trio.config.declaring import Setting
from livesync_trio.config.environment import CONFIG_ENV, URL_ENV
from livesync_trio.config.exposure import exposure_problems, exposure_warnings, is_loopback, is_placeholder
from livesync_trio.config.rates import Rate, parse_rates
from livesync_trio.config.secret import Secret
from livesync_trio.config.settings import SETTINGS, Config, LogFormat, LogLevel
from livesync_trio.config.sources import BadConfig, Problem, load, misfits

__all__ = [
    "CONFIG_ENV",
    "SETTINGS",
    "URL_ENV",
    "BadConfig",
    "Config",
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
    "misfits",
    "parse_rates",
    "sqlite_path",
]
