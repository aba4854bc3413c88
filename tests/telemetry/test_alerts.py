"""The alerts, by Prometheus' own rule tester: of each one series that fires and one that does not."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from tests.telemetry.promql import ROOT, alerts

Series = dict[str, str]
"""Samples by series, one every 30 s; `0+2x60` counts up by two, sixty times (promtool's notation)."""

INTERVAL_S: Final = 30
AT: Final = "30m"
"""When it is asked which alerts fire: after sixty samples."""

ALWAYS: Final = "x60"
UP: Final = {'up{job="livesync",instance="a"}': f"1{ALWAYS}"}
FREEZES: Final = " ".join(str(5 * (number // 2)) for number in range(61))
"""Five seconds in each minute."""


def named(name: str, values: str, **labels: str) -> Series:
    """A series of an instance of ours."""
    given = {"job": "livesync", "instance": "a", **labels}
    return {name + "{" + ",".join(f'{label}="{value}"' for label, value in given.items()) + "}": values}


def both(name: str, fires: str, silent: str) -> tuple[Series, Series]:
    """One series with the values of either."""
    return named(name, fires), named(name, silent)


def commits(slow: str, fast: str) -> Series:
    bucket = "livesync_commit_duration_seconds_bucket"
    return named(bucket, fast, le="0.5") | named(bucket, slow, le="1") | named(bucket, slow, le="+Inf")


def healthy(values: str = f"1{ALWAYS}") -> Series:
    return named("livesync_storage_healthy", values)


def process(open_files: int, started: str = f"1{ALWAYS}") -> Series:
    return (
        named("process_open_fds", f"{open_files}{ALWAYS}")
        | named("process_max_fds", f"1000{ALWAYS}")
        | named("process_start_time_seconds", started)
    )


CASES: Final[dict[str, tuple[Series, Series]]] = {
    "LivesyncDown": (named("up", f"0{ALWAYS}"), named("up", "1x58 0 1")),
    "LivesyncNotScraped": ({'up{job="nginx"}': f"1{ALWAYS}"}, UP),
    "LivesyncProcessUnseen": (UP | named("process_open_fds", f"9{ALWAYS}"), UP | process(9)),
    "LivesyncTransactionHangs": both("livesync_transaction_age_seconds", "0x50 20x10", "0x57 20 0x2"),
    "LivesyncFeedNotFollowing": (
        named("livesync_feed_phase", f"0{ALWAYS}", phase="following"),
        named("livesync_feed_phase", f"1{ALWAYS}", phase="following"),
    ),
    "LivesyncFeedHoldsLog": both("livesync_feed_retained_bytes", f"6000000000{ALWAYS}", f"100{ALWAYS}"),
    "LivesyncFeedRunsOut": both("livesync_feed_safe_bytes", f"1000000{ALWAYS}", f"6000000000{ALWAYS}"),
    "LivesyncFeedLate": both("livesync_feed_probe_age_seconds", f"400{ALWAYS}", f"31{ALWAYS}"),
    "LivesyncFeedSilent": both("livesync_feed_confirm_age_seconds", f"90{ALWAYS}", f"9{ALWAYS}"),
    "LivesyncLogLost": (
        named("livesync_log_lines_lost_total", "0x40 7x20") | named("livesync_audit_lines_lost_total", f"0{ALWAYS}"),
        named("livesync_log_lines_lost_total", f"7{ALWAYS}") | named("livesync_audit_lines_lost_total", f"0{ALWAYS}"),
    ),
    "LivesyncBackupFails": both("livesync_backup_failures_total", "0x40 1x20", f"4{ALWAYS}"),
    "LivesyncBackupOld": both("livesync_backup_last_success_timestamp_seconds", f"-259300{ALWAYS}", f"0{ALWAYS}"),
    "LivesyncHookFails": both("livesync_hook_failures_total", "0+1x60", f"3{ALWAYS}"),
    "LivesyncStorageUnavailable": (healthy(f"0{ALWAYS}"), healthy("1x59 0")),
    "LivesyncStorageErrors": (
        healthy() | named("livesync_storage_errors_total", "0x40 1x20", operation="commit"),
        healthy() | named("livesync_storage_errors_total", f"7{ALWAYS}", operation="commit"),
    ),
    "LivesyncCommitsSlow": (commits("0+50x60", "0+40x60"), commits("0+50x60", "0+50x60")),
    "LivesyncStoresFenced": (
        named("livesync_actors", f"1{ALWAYS}", state="fenced"),
        named("livesync_actors", f"0{ALWAYS}", state="fenced") | named("livesync_actors", f"9{ALWAYS}", state="idle"),
    ),
    "LivesyncActorsCrash": both("livesync_actor_crashes_total", "0x40 1x20", f"4{ALWAYS}"),
    "LivesyncConnectionsCrash": both("livesync_connections_crashed_total", "0x40 1x20", f"4{ALWAYS}"),
    "LivesyncLogLostItsEnd": both("livesync_pulls_above_head_total", "0x40 1x20", f"4{ALWAYS}"),
    "LivesyncClientsLoseEvents": both("livesync_pushes_above_head_total", "0x40 1x20", f"4{ALWAYS}"),
    "LivesyncManyRefused": (
        named("livesync_refusals_total", "0+60x60", kind="unauthenticated"),
        named("livesync_refusals_total", "0+15x60", kind="unauthenticated")
        | named("livesync_refusals_total", "0+600x60", kind="server-ahead"),
    ),
    "LivesyncTooFast": (
        named("livesync_refusals_total", "0+60x60", kind="too-fast"),
        named("livesync_refusals_total", "0+15x60", kind="too-fast"),
    ),
    "LivesyncMailboxFull": both("livesync_mailbox_longest_commands", f"220{ALWAYS}", "100x59 250"),
    "LivesyncPullsLag": both("livesync_pull_lag_events", f"20000{ALWAYS}", "20000x40 0 20000x19"),
    "LivesyncLoopBlocked": both("livesync_loop_blocked_seconds_total", FREEZES, "0x50 5x10"),
    "LivesyncDescriptorsLow": (process(900), process(500)),
    "LivesyncWebhookParked": (
        named("livesync_webhook_stores_parked", f"2{ALWAYS}", webhook="x"),
        named("livesync_webhook_stores_parked", f"0{ALWAYS}", webhook="x"),
    ),
    "LivesyncWebhookLags": (
        named("livesync_webhook_lag_seconds", "1800+60x60", webhook="x"),
        named("livesync_webhook_lag_seconds", "0+30x60", webhook="x"),
    ),
    "LivesyncRestarts": (process(9, "1x10 2x10 3x10 4x10 5x10 6x10"), process(9, "1x30 2x30")),
}
"""By name: series that make it fire, and series near them that do not."""


def test_there_is_a_case_for_every_alert() -> None:
    assert CASES.keys() == {rule["alert"] for rule in alerts()}


def question(alert: str, series: Series, firing: int) -> dict[str, Any]:
    expression = f'count(ALERTS{{alertname="{alert}",alertstate="firing"}})'
    expected = [{"labels": "{}", "value": firing}] if firing else []
    return {
        "name": f"{alert} {'fires' if firing else 'is silent'}",
        "interval": f"{INTERVAL_S}s",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [{"expr": expression, "eval_time": AT, "exp_samples": expected}],
    }


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_each_fires_when_it_should_and_only_then(tmp_path: Path) -> None:
    tests = [
        question(alert, series, firing)
        for alert, (fires, silent) in CASES.items()
        for series, firing in ((fires, 1), (silent, 0))
    ]
    file = tmp_path / "alerts_test.yml"
    rules = {"rule_files": [str(ROOT / "deploy/alerts.yml")], "evaluation_interval": f"{INTERVAL_S}s", "tests": tests}
    file.write_text(yaml.safe_dump(rules))
    run = subprocess.run(["promtool", "test", "rules", str(file)], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
