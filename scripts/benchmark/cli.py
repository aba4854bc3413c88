"""The program behind `scripts/bench`."""

from collections.abc import Collection
from pathlib import Path

import attrs
import click
from scripts.benchmark import ROOT, check, counting, curves, document, peers, postgres, report, session
from scripts.benchmark.scenarios import SCENARIOS, Scenario
from scripts.benchmark.servers import at, ours
from scripts.benchmark.sockets import BenchError

QUICK_SECONDS, QUICK_SCALE = 1.0, 0.1


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--url", help="Measure the server at this URL. Default: start ours for every run.")
@click.option("--against", multiple=True, metavar="URL", help="Compare with the server at this URL; repeatable.")
@click.option("--tree", multiple=True, type=click.Path(exists=True, file_okay=False, path_type=Path),
              help="Compare with the server of another source tree (an older version); repeatable.")  # fmt: skip
@click.option("--peers", "with_peers", is_flag=True, help="Compare with the reference and a bare Node server.")
@click.option("--bare", "with_bare", is_flag=True, help="Compare with a bare Trio server, and Node by ws.")
@click.option("--only", help=f"Scenarios, by commas: {', '.join(SCENARIOS)}.")
@click.option("--json", "json_path", type=click.Path(dir_okay=False, path_type=Path), help="Write all figures here.")
@click.option("--seconds", default=3.0, show_default=True, help="Length of a window.")
@click.option("--rounds", default=3, show_default=True, help="Runs against each server, in turn; medians are shown.")
@click.option("--quick", is_flag=True, help="One round, short windows, a tenth of the sizes.")
@click.option("--curves", "with_curves", is_flag=True, help="Measure how cost grows, draw docs/performance/*.svg.")
@click.option(
    "--postgres", "with_postgres", is_flag=True, help="On PostgreSQL: throughput and delivery, two servers; or curves."
)
@click.option(
    "--stores", "with_stores", is_flag=True, help="A Python store beside @livestore/adapter-node: pull, commit."
)
@click.option("--count", "with_counts", is_flag=True,
              help="Count instead of timing: instructions, Python calls, turns, system calls.")  # fmt: skip
@click.option("--draw", is_flag=True, help="Write docs/performance.md and its pictures again, from the JSON.")
@click.option("--check", "with_check", is_flag=True, help="What CI asks: counts, and CPU within twice the baseline.")
@click.option("--set-baseline", is_flag=True, help="Write scripts/benchmark/baseline.json.")
def main(
    url: str | None,
    against: tuple[str, ...],
    tree: tuple[Path, ...],
    *,
    with_peers: bool,
    with_bare: bool,
    only: str | None,
    json_path: Path | None,
    seconds: float,
    rounds: int,
    quick: bool,
    with_curves: bool,
    with_postgres: bool,
    with_stores: bool,
    with_counts: bool,
    draw: bool,
    with_check: bool,
    set_baseline: bool,
) -> None:
    """Measure a LiveStore sync server: this one, or any other that speaks 0.4."""
    try:
        if set_baseline:
            check.set_baseline(_say)
        elif with_check:
            _end(counting.complaints(_say) + check.complaints(_say))
        elif draw:
            curves.draw()
            document.refresh()
        elif with_stores:
            from scripts.benchmark import stores  # noqa: PLC0415 -- needs the extra `store`

            share = 10 if quick else 1
            stores.measure(
                click.echo,
                events=stores.EVENTS // share,
                commits=stores.COMMITS // share,
                rounds=1 if quick else rounds,
                limit_s=stores.LIMIT_S,
            )
        elif with_curves:
            chosen = None if only is None else only.split(",")
            curves.measure(_say, quick=quick, only=chosen, on_postgres=with_postgres)
        elif with_counts:
            _count(only, tree, json_path)
        elif with_postgres:
            postgres.measure(click.echo, QUICK_SECONDS if quick else seconds)
        else:
            servers = [at(url) if url else ours()]
            servers += [ours(path.resolve(), path.resolve().name) for path in tree]
            servers += [at(other) for other in against]
            servers += peers.peers() if with_peers else []
            servers += peers.yardsticks() if with_bare else []
            if quick:
                rounds, seconds = 1, QUICK_SECONDS
            scale = QUICK_SCALE if quick else 1.0
            results = []
            for scenario in _chosen(only):
                results += session.measure(scenario, servers, rounds=rounds, seconds=seconds, scale=scale, say=_say)
                if json_path is not None:  # after each, so that a long session may be cut short
                    report.write_json(json_path, report.as_json(results, seconds, rounds))
            report.show(results)
    except BenchError as error:
        raise click.ClickException(str(error)) from error


def _count(only: str | None, trees: tuple[Path, ...], json_path: Path | None) -> None:
    """`--count`: this tree, and those of `--tree`."""
    results = []
    for scenario in _named(only, counting.COUNTED):
        for name, path in [("ours", ROOT), *((path.resolve().name, path.resolve()) for path in trees)]:
            _say(f"{scenario}: {name}")
            results.append((scenario, counting.count(scenario, path, name)))
        if json_path is not None:
            report.write_json(json_path, {"counts": [{"scenario": s} | attrs.asdict(counts) for s, counts in results]})
    counting.show(results)


def _chosen(only: str | None) -> list[Scenario]:
    return [SCENARIOS[name] for name in _named(only, SCENARIOS)]


def _named(only: str | None, there: Collection[str]) -> list[str]:
    names = only.split(",") if only else list(there)
    unknown = set(names) - set(there)
    if unknown:
        raise click.UsageError(f"There is no scenario {', '.join(sorted(unknown))}; there are {', '.join(there)}.")
    return names


def _say(text: str) -> None:
    click.echo(text, err=True)


def _end(complaints: list[str]) -> None:
    if complaints:
        raise click.ClickException("\n".join(complaints))
    click.echo("Counts and CPU per unit are within the bounds.")


if __name__ == "__main__":
    main()
