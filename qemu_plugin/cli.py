# SPDX-License-Identifier: MIT
"""The command line: it parses words, calls one function for each, prints, turns errors into exit statuses.

Exit status of `run` and `verify`: 0 all as expected; 1 judged and not as expected; 2 the command or a file is
wrong; 3 the bench failed before the guest was in normal operation; 4 VACUOUS or UNKNOWN. With `--bisect`: 0,
1, everything else 125 (`git bisect run` skips that commit).
"""

import asyncio
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import click

from guest_images.errors import ImageError
from guest_images.progress import PlainProgress, Progress, TerminalProgress
from pydev.errors import PydevError
from qemu_plugin.errors import BenchError, LuscopeError

EXIT_USAGE = 2
EXIT_BENCH = 3
EXIT_INTERRUPTED = 130
EXIT_BISECT_SKIP = 125

NO_DRIVER = (
    "the kernel has no driver for the stream endpoint: "
    "the agent preserves a memfd and drives it through sysfs"
)
DEFAULT_EXPERIMENT = "live-update"


def progress() -> Progress:
    """What shows progress on this standard error: a live line on a terminal, plain lines elsewhere."""
    return TerminalProgress() if sys.stderr.isatty() else PlainProgress()


@click.group(
    context_settings={"help_option_names": ["-h", "--help"]},
    help="An oscilloscope for Linux PCI live update.",
)
@click.version_option(package_name="luscope")
def cli() -> None:
    """Hold the commands."""


@cli.command()
@click.argument("experiment", default=DEFAULT_EXPERIMENT)
@click.option("--kernel", metavar="BZIMAGE", help="Boot this kernel: a file, or a name: luo, debian.")
@click.option("--next-kernel", metavar="BZIMAGE", help="Update to this kernel (default: the same).")
@click.option("--policy", metavar="NAME|FILE", help="Judge by this policy instead of the experiment's.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="The run's directory (default: runs/NAME-TIME).",
)
@click.option("--no-attribution", is_flag=True, help="Do not record which functions write config space.")
@click.option("--bisect", is_flag=True, help="Exit with 0, 1, or 125 for everything else.")
@click.option("--json", "as_json", is_flag=True, help="Print verdict.json instead of the report.")
def run(
    experiment: str,
    kernel: str | None,
    next_kernel: str | None,
    policy: str | None,
    out: Path | None,
    no_attribution: bool,
    bisect: bool,
    as_json: bool,
) -> None:
    """Boot a guest, let it live-update itself, judge the wire.

    EXPERIMENT is the name of a shipped experiment or a TOML file (default: live-update).
    """
    from qemu_plugin.experiment import judge, spec
    from qemu_plugin.experiment.images import prepare
    from qemu_plugin.experiment.runner import live_update

    async def perform() -> int:
        wanted = spec.override(
            spec.load(experiment),
            kernel=kernel,
            next_kernel=next_kernel,
            policy=policy,
            attribution=not no_attribution,
        )
        images = prepare(wanted.guest, progress())
        show = progress()
        show.step(f"{wanted.name}: {images.kernel.release} boots")
        try:
            async with live_update(
                wanted, images, out=out, on_phase=lambda phase: show.step(f"{wanted.name}: {phase}")
            ) as update:
                verdict = await update.finish()
                folder = update.run
        finally:
            _stop(show)
        if not update.script.hello.get("driver"):
            click.echo(f"luscope: {NO_DRIVER}", err=True)
        if update.loss:
            click.echo(f"luscope: {update.loss}", err=True)
        click.echo(
            judge.as_json(verdict) if as_json else folder.report.read_text(encoding="utf-8"), nl=as_json
        )
        click.echo(
            f"{_relative(folder.path)}: {verdict.outcome}, {'as' if verdict.as_expected else 'not as'} expected",
            err=True,
        )
        return judge.exit_status(verdict)

    _finish(lambda: asyncio.run(perform()), bisect)


@cli.command()
@click.argument("run_directory", metavar="RUN", type=click.Path(path_type=Path))
@click.option("--policy", metavar="NAME|FILE", help="Judge by this policy instead of the experiment's.")
@click.option("--bisect", is_flag=True, help="Exit with 0, 1, or 125 for everything else.")
@click.option("--json", "as_json", is_flag=True, help="Print verdict.json instead of the report.")
def verify(run_directory: Path, policy: str | None, bisect: bool, as_json: bool) -> None:
    """Judge a run again from its recording, without QEMU."""
    from pydev.report import render_text
    from qemu_plugin.experiment import judge, rundir

    def again() -> int:
        timeline, verdict = judge.judge_again(rundir.opened(run_directory), policy)
        click.echo(judge.as_json(verdict) if as_json else render_text(timeline, verdict), nl=as_json)
        return judge.exit_status(verdict)

    _finish(again, bisect)


@cli.command()
@click.argument("run_directory", metavar="RUN", type=click.Path(path_type=Path))
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="Write to this file.")
def report(run_directory: Path, form: str, output: Path | None) -> None:
    """Print the report of a run."""
    from pydev.report import render_text
    from qemu_plugin.experiment import judge, rundir

    def render() -> int:
        timeline, verdict = judge.judge_again(rundir.opened(run_directory))
        text = render_text(timeline, verdict) if form == "text" else judge.as_json(verdict) + "\n"
        if output is None:
            click.echo(text, nl=False)
        else:
            output.write_text(text, encoding="utf-8")
        return 0

    _finish(render)


@cli.command()
@click.argument("endpoint")
@click.option(
    "--socket",
    "socket_path",
    required=True,
    type=click.Path(path_type=Path),
    help="Listen here; the folder is private (0700).",
)
@click.option(
    "--record",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Record every event to this file.",
)
def serve(endpoint: str, socket_path: Path, record: Path | None) -> None:
    """Serve one endpoint to any vfio-user client, until interrupted.

    ENDPOINT is a model's name (see `luscope endpoints`) or FILE.py:CLASS.
    """
    from qemu_plugin.server.standalone import serve_endpoint

    _finish(
        lambda: serve_endpoint(
            endpoint, socket_path, record, announce=lambda text: click.echo(text, err=True)
        )
    )


@cli.command()
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def endpoints(as_json: bool) -> None:
    """List the endpoint models."""
    from pydev.endpoints import models

    described = {
        name: (model.__doc__ or "").strip().partition("\n")[0] for name, model in sorted(models().items())
    }
    if as_json:
        click.echo(json.dumps(described, indent=1))
        return
    for name, text in described.items():
        click.echo(f"{name:<10} {text}")


@cli.group(invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.option("--policy", metavar="NAME|FILE", help="With this policy's own rules, and what it says of each.")
@click.pass_context
def rules(context: click.Context, as_json: bool, policy: str | None) -> None:
    """List the rules that a wire is judged by."""
    from pydev.continuity import load_policy, rules_json, rules_table

    def show() -> int:
        chosen = load_policy(policy) if policy else None
        click.echo(json.dumps(rules_json(chosen), indent=1) if as_json else rules_table(chosen))
        return 0

    context.obj = policy
    if context.invoked_subcommand is None:
        _finish(show)


@rules.command()
@click.argument("rule_id", metavar="ID")
@click.option(
    "--policy", metavar="NAME|FILE", help="With this policy's own rules, and what it says of this one."
)
@click.pass_obj
def explain(outer_policy: str | None, rule_id: str, policy: str | None) -> None:
    """Say what a rule looks at, who writes it, why it matters and when a finding is fine."""
    from pydev.continuity import explain_rule, load_policy

    def show() -> int:
        name = policy or outer_policy
        click.echo(explain_rule(rule_id, load_policy(name) if name else None))
        return 0

    _finish(show)


@cli.group(invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.pass_context
def policies(context: click.Context, as_json: bool) -> None:
    """List the policies that say which rules hold."""
    from pydev.continuity import policies as shipped
    from pydev.continuity import policy_json

    if context.invoked_subcommand is not None:
        return
    if as_json:
        click.echo(json.dumps([policy_json(policy) for policy in shipped().values()], indent=1))
        return
    for name, policy in shipped().items():
        click.echo(f"{name:<13} {policy.description}")


@policies.command()
@click.argument("policy", metavar="NAME|FILE")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def show(policy: str, as_json: bool) -> None:
    """Say what a policy requires, what it leaves out and which failures it expects."""
    from pydev.continuity import load_policy, policy_json, policy_page

    def show_it() -> int:
        chosen = load_policy(policy)
        click.echo(json.dumps(policy_json(chosen), indent=1) if as_json else policy_page(chosen))
        return 0

    _finish(show_it)


@cli.command()
def experiments() -> None:
    """List the shipped experiments."""
    from qemu_plugin.experiment import spec

    for name in spec.shipped():
        click.echo(f"{name:<16} {spec.load(name).description}")


@cli.command()
def setup() -> None:
    """Fetch and build what a run needs: QEMU, the guest's kernels, its initial file system. Cached."""
    from qemu_plugin.machine import doctor

    show = progress()

    def prepare() -> int:
        try:
            doctor.setup(show)
        finally:
            _stop(show)
        return 0

    _finish(prepare)


@cli.command()
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def doctor(as_json: bool) -> None:
    """Say what is there, what is missing and what to do about it."""
    from qemu_plugin.machine import doctor as examination

    def examine() -> int:
        checks = examination.checks()
        if as_json:
            click.echo(json.dumps([_check_json(check) for check in checks], indent=1))
        else:
            for check in checks:
                click.echo(f"{'ok' if check.ok else 'MISSING':<8}{check.name}: {check.detail}")
                if not check.ok and check.remedy:
                    click.echo(f"{'':<8}{check.remedy}")
        return 0 if all(check.ok for check in checks) else EXIT_BENCH

    _finish(examine)


def _check_json(check: Any) -> dict[str, Any]:
    return {"name": check.name, "ok": check.ok, "detail": check.detail, "remedy": check.remedy}


def _relative(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _stop(show: Progress) -> None:
    if isinstance(show, TerminalProgress):
        show.stop()


def _finish(action: Callable[[], int], bisect: bool = False) -> NoReturn:
    """Run the command; its status, or its error's, is the process's."""
    try:
        status = action()
    except (LuscopeError, PydevError, ImageError) as error:
        for line in getattr(error, "details", ()):
            click.echo(f"  {line}", err=True)
        click.echo(f"luscope: {error}", err=True)
        status = EXIT_BENCH if isinstance(error, BenchError | ImageError) else EXIT_USAGE
    except OSError as error:  # a full disk, a file taken away: said in one line, whoever noticed
        click.echo(f"luscope: {error.filename or 'system'}: {error.strerror}", err=True)
        status = EXIT_BENCH
    except KeyboardInterrupt:
        click.echo("luscope: interrupted", err=True)
        status = EXIT_INTERRUPTED
    if bisect and status not in (0, 1):
        status = EXIT_BISECT_SKIP
    sys.exit(status)


def main() -> None:
    """The `luscope` command."""
    cli(prog_name="luscope")


if __name__ == "__main__":
    main()
