"""Checks a site before queue time is spent: what is there, what is needed, what to do.

python -m slurm.doctor
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from pipeline import cli

if TYPE_CHECKING:
    from collections.abc import Callable

    from slurm.cluster import Cluster
    from slurm.facts import Site
    from slurm.findings import Finding, Section
    from slurm.probing import Probed

    Add = Callable[..., None]  # a part's title, then its findings

EXAMPLES = """\
  python -m slurm.doctor                              this site's profile
  python -m slurm.doctor --cluster greene --probe     and a look from a node
  python -m slurm.doctor --json | less"""
PROBE_TIMEOUT_S = 900.0


def build_parser() -> argparse.ArgumentParser:
    """The arguments of `python -m slurm.doctor`."""
    parser = cli.parser(
        "python -m slurm.doctor",
        "Checks Slurm, the site profile, disk and Python before queue time is spent.\n"
        "Exit code 0 if a search could start, else 1.",
        EXAMPLES,
    )
    parser.add_argument(
        "--cluster",
        metavar="NAME",
        help="of configs/cluster, or a file (default: PIPELINE_CLUSTER, else by this Slurm's name)",
    )
    parser.add_argument(
        "--probe",
        action="store_true",
        help="also send a job of about a minute: Python, torch, GPU, network, disk on a node",
    )
    parser.add_argument(
        "--timeout",
        type=float,
        default=PROBE_TIMEOUT_S,
        metavar="S",
        help=f"how long the probe may wait and run (default: {PROBE_TIMEOUT_S:.0f} s)",
    )
    parser.add_argument("--json", action="store_true", help="for programs")
    cli.add_runs(parser)
    return parser


def main(argv: list[str] | None = None) -> None:
    """Runs the command."""
    args = build_parser().parse_args(argv)
    from slurm.findings import problems

    sys.exit(1 if problems(examine(args)) else 0)


def examine(args: argparse.Namespace) -> list[Section]:
    """Looks at everything, and prints each part as it is known, or all as JSON at the end."""
    from slurm.findings import Section, summary

    sections: list[Section] = []
    probed: Probed | None = None

    def add(title: str, *findings: Finding) -> None:
        sections.append(Section(title, findings))
        if not args.json:
            print(sections[-1].text(), flush=True)

    site, cluster = _begin(args, add)
    if cluster is not None:
        _look(args, site, cluster, add)
        if args.probe:
            probed = _probe(args, sections, cluster, add)
    if args.json:
        print(json.dumps(_document(sections, cluster, probed), indent=1))
    else:
        print(summary(sections))
    return sections


def _begin(args: argparse.Namespace, add: Add) -> tuple[Site | str, Cluster | None]:
    """Slurm and the profile; without a profile there is nothing more to look at."""
    from pipeline.errors import ConfigError
    from slurm import checks
    from slurm.cluster import choose_cluster
    from slurm.facts import read_site
    from slurm.findings import problem

    site = read_site()
    try:
        cluster = choose_cluster(args.cluster)
    except ConfigError as error:
        remedy = "give --cluster NAME or FILE; slurm/README.md tells how to write one"
        add("Slurm", *checks.commands(), *checks.controller(site), problem("profile", str(error), remedy))
        return site, None
    profile = checks.chosen(cluster, args.cluster, site)
    add("Slurm", *checks.commands(), *checks.controller(site), *profile, *_site(site, cluster))
    return site, cluster


def _site(site: Site | str, cluster: Cluster) -> tuple[Finding, ...]:
    from slurm import checks

    return () if isinstance(site, str) else checks.everything(site, cluster)


def _look(args: argparse.Namespace, site: Site | str, cluster: Cluster, add: Add) -> None:
    """Everything that can be seen from this host."""
    from slurm import checks_disk, checks_python
    from slurm.checks_resources import resources
    from slurm.head import worker_spec
    from slurm.scripts import SEARCH, text
    from slurm.snapshot import place
    from slurm.submit import script

    if not isinstance(site, str):
        from pipeline.paths import Workspace

        worker = worker_spec(cluster, "doctor", Workspace(args.runs).pool("doctor"))
        jobs = {"gpu": script(cluster, worker, place(args.runs)), "driver": text(cluster, SEARCH)}
        titles = {"gpu": "Training jobs (gpu)", "driver": "A search's driver (driver)"}
        for key, job in jobs.items():
            add(titles[key], *resources(site, cluster, key, job))
    add("Disk and this host", *checks_disk.results(args.runs, args.probe), *checks_disk.host(cluster))
    add("Python", *checks_python.environment(cluster), *checks_python.address(cluster))


def _probe(args: argparse.Namespace, sections: list[Section], cluster: Cluster, add: Add) -> Probed | None:
    """A look from a node; not worth its wait while there are problems without it."""
    from slurm.findings import note, problems
    from slurm.probing import probe, tidy
    from slurm.verdicts import verdicts

    if problems(sections):
        add("Probe", note("probe", "not sent: there are problems already", "mend them first"))
        return None
    probed = probe(cluster, args.runs, args.timeout, _tell)
    add("Probe", *verdicts(probed, cluster))
    if not problems(sections):
        tidy(probed)
    return probed


def _tell(line: str) -> None:
    print(f"  ...      {line}", file=sys.stderr, flush=True)


def _document(sections: list[Section], cluster: Cluster | None, probed: Probed | None) -> dict[str, Any]:
    """Everything as plain values."""
    from slurm.findings import problems

    rows = [{"part": part.title, **asdict(found)} for part in sections for found in part.findings]
    return {
        "could_start": not problems(sections),
        "cluster": cluster.name if cluster else None,
        "findings": rows,
        "probe": probed.report if probed else None,
    }


if __name__ == "__main__":
    cli.run(main)
