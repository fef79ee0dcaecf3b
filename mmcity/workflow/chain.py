"""Runs stages one after the other; a killed chain goes on where it was."""

import hashlib
import os
import resource
import shutil
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmengine.registry import Registry

from mmcity.engine.config_options import parse_options
from mmcity.engine.launch import load_config, train
from mmcity.utils.child_process import Result, call_in_child, describe_call
from mmcity.utils.cli import UserError, find_root
from mmcity.utils.fileio import to_json
from mmcity.utils.work_lock import work_lock

from .manifest import Finding, Manifest, StageRecord
from .report import handover_table, write_report

#: A finished stage that took longer, s, is run again with other settings only by ``--force``.
COSTLY = 120.0

STAGES = Registry("stage of a chain", scope="mmcity")


class Stage(ABC):
    """One link of the chain.

    A subclass names the stages it must have (``needs``) and those it takes from where they
    ran (``uses``). Its constructor takes the numbers that a user may turn.
    """

    needs: tuple[str, ...] = ()
    uses: tuple[str, ...] = ()

    @abstractmethod
    def run(self, context: "StageContext") -> dict[str, Path]:
        """Make the artefacts, and give their paths by name.

        It is called again after a kill, with what it had left in ``context.folder``.
        """

    def check(self, context: "StageContext") -> list[Finding]:
        """Compare the artefacts with exact values, where there are some."""
        return []


class StageContext:
    """Context of a stage: its folder, earlier artefacts, calls in child processes.

    Attributes:
        folder: Of the stage; kept when a killed run goes on, moved aside when it starts anew.
    """

    def __init__(self, manifest: Manifest, name: str, seed: int, show_calls: bool = True) -> None:
        self.manifest, self.name, self.seed = manifest, name, seed
        self.show_calls = show_calls
        self.folder = manifest.work_dir / name

    def artefact(self, stage: str, name: str) -> Path:
        """Path of something that an earlier stage has made."""
        return self.manifest.artefact(stage, name)

    def find(self, stage: str, name: str) -> Path | None:
        """The same; None if the stage did not run or has made no such thing."""
        try:
            return self.artefact(stage, name)
        except KeyError:
            return None

    def call(self, function: Callable[..., Result], *args: Any, **kwargs: Any) -> Result:
        """Call a function of a module in a child process; ``log.txt`` of the stage has its output.

        Raises:
            UserError: If it fails, with the end of its output.
        """
        line = describe_call(function, args, kwargs)
        if self.show_calls:
            print(f"  > {line}", flush=True)
        self.manifest.stages[self.name].commands.append(line)
        return call_in_child(function, args, kwargs, self.folder)

    def train(
        self,
        config: str,
        name: str = "train",
        values: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Path:
        """Train a config in the stage's folder, going on where a killed run was.

        Args:
            config: Training config.
            name: Of the folder below that of the stage. Defaults to ``train``.
            values: Of the config. Defaults to None.
            **options: Further arguments of :func:`~mmcity.engine.launch.train`.

        Returns:
            The checkpoint that the run names as its last.
        """
        return self.call(
            train,
            config,
            work_dir=self.folder / name,
            resume="auto",
            cfg_options=cfg_options(values or {}),
            **options,
        )


def cfg_options(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values of a config, of which text is read as on the command line, and paths become text."""
    texts = [f"{key}={value}" for key, value in values.items() if isinstance(value, str)]
    paths = {key: str(value) for key, value in values.items() if isinstance(value, Path)}
    options = parse_options(texts)
    options.update({key: value for key, value in values.items() if key not in options} | paths)
    return options


class Chain:
    """The stages of a config.

    Args:
        stages: ``name -> dict(type=...)``, in order.
        work_dir: Folder for everything.
        seed: Given to stages that draw numbers. Defaults to 0.
        show_calls: Print what is called in child processes. Defaults to True.

    Raises:
        UserError: If a stage needs one that does not come before it.
    """

    def __init__(
        self,
        stages: Mapping[str, Mapping[str, Any]],
        work_dir: str | os.PathLike,
        seed: int = 0,
        show_calls: bool = True,
    ) -> None:
        self.settings = {name: dict(cfg) for name, cfg in stages.items()}
        self.stages: dict[str, Stage] = {}
        for name, cfg in self.settings.items():
            stage = STAGES.build(dict(cfg))
            missing = [need for need in stage.needs if need not in self.stages]
            if missing:
                raise UserError(f"stage {name!r} needs {missing} before it in the config")
            self.stages[name] = stage
        self.seed, self.show_calls = seed, show_calls
        self.manifest = Manifest(Path(work_dir).resolve())

    def run(
        self,
        force: Iterable[str] = (),
        skip: Iterable[str] = (),
        until: str | None = None,
        report: Callable[[Manifest], object] = lambda manifest: None,
    ) -> None:
        """Bring all stages up to date.

        A finished stage is left alone while its settings (with the configs that they name), the
        runs it took from, and its artefacts are what they were. One that was killed goes on in
        its folder. Results of other settings are kept until the new ones are done: a run with the
        earlier settings before that takes them up again.

        Args:
            force: Stages to run anew; those that take from them follow. Stages that took minutes
                run with other settings only if they, or one they take from, are named here.
            skip: Stages to leave out; those that need them are left out, too.
            until: Last stage to run. Defaults to all.
            report: Called at the end, also of a chain that broke off. Defaults to nothing.

        Raises:
            UserError: If a name is unknown, a stage fails, another process runs the chain, or
                a stage that took minutes would run anew unasked.
        """
        with self._locked():
            try:
                self._run_all(list(force), list(skip), until)
            finally:
                report(self.manifest)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the work folder, with the records that others have left."""
        with work_lock(self.manifest.work_dir):
            self.manifest = Manifest(self.manifest.work_dir)
            yield

    def _run_all(self, force: list[str], skip: list[str], until: str | None) -> None:
        for name in [*force, *skip, *([until] if until else [])]:
            if name not in self.stages:
                raise UserError(f"no stage {name!r}; there are {list(self.stages)}")
        for name in self.stages:
            self._settle(name)
        self._ask(force, skip, until)
        for name in self.stages:
            self._bring_up_to_date(name, name in force, name in skip)
            if name == until:
                break

    def run_and_report(
        self,
        title: str,
        force: Iterable[str] = (),
        skip: Iterable[str] = (),
        until: str | None = None,
    ) -> Path:
        """:meth:`run`, then write and show the report, also that of a chain that broke off.

        Returns:
            The page of the report.
        """
        with self._locked():
            try:
                self._run_all(list(force), list(skip), until)
            finally:
                page = write_report(self.manifest, title)
            print(f"\n{handover_table(self.manifest)}\n\n{page}", flush=True)
        return page

    def _aside(self, name: str) -> Path:
        """Folder in which a stage's earlier results wait for the new ones."""
        return self.manifest.work_dir / f".{name}.before"

    def _settle(self, name: str) -> None:
        """Bring folder, record and what lies aside in step, and go back to what fits again.

        A run may have been killed between the steps of moving, or had other settings for a while.
        """
        records, aside = self.manifest.stages, self._aside(name)
        folder, record = self.manifest.work_dir / name, self.manifest.stages.get(name)
        if record is not None and record.status == "skipped" and record.before is not None:
            record = records[name] = record.before
        if record is not None and record.before is not None and not aside.exists():
            records[name] = record.before  # never moved, or moved back
        elif aside.exists() and (record is None or record.before is None):
            if folder.exists():
                shutil.rmtree(aside)  # the new results are done
            else:
                aside.rename(folder)
        elif record is not None and record.before is not None:
            key = self._key(name)
            if record.before.key == key != record.key:
                shutil.rmtree(folder, ignore_errors=True)
                aside.rename(folder)
                records[name] = record.before

    def _ask(self, force: list[str], skip: list[str], until: str | None) -> None:
        """Refuse to run stages anew that took minutes, unless their run is asked for."""
        records, anew, asked, left_out = self.manifest.stages, set(), set(force), set(skip)
        for name, stage in self.stages.items():
            sources, record = {*stage.needs, *stage.uses}, records.get(name)
            if name in left_out or left_out & set(stage.needs):
                left_out.add(name)
                continue
            if sources & asked:
                asked.add(name)
            is_same = record is not None and record.key == self._key(name)
            if sources & anew or not is_same or record.status != "done" or name in force:
                anew.add(name)
            is_costly = record is not None and record.seconds > COSTLY
            if is_costly and name not in asked and (sources & anew or not is_same):
                raise UserError(
                    f"{self.manifest.work_dir / name}: expected the settings that it was made "
                    f"with in {record.seconds / 60:.0f} minutes, got others: take those, "
                    f"another folder, or --force {name} to make it anew"
                )
            if name == until:
                break

    def _bring_up_to_date(self, name: str, forced: bool, skipped: bool) -> None:
        stage, records = self.stages[name], self.manifest.stages
        lost = [need for need in stage.needs if records[need].status != "done"]
        if skipped or lost:
            message = f"needs {lost}, which did not run" if lost else "asked for"
            records[name] = StageRecord("skipped", message=message, before=records.get(name))
            print(f"== {name}: skipped ({message})", flush=True)
            return self.manifest.save()
        key = self._key(name)
        record = records.get(name)
        context = StageContext(self.manifest, name, self.seed, self.show_calls)
        same = record is not None and record.key == key
        if same and record.status == "done" and not forced and self.manifest.is_intact(name):
            print(f"== {name}: done before", flush=True)
            return None
        goes_on = same and record.status in ("running", "failed") and not forced
        if goes_on:
            record.status, record.message = "running", ""
            print(f"== {name}: going on", flush=True)
        else:
            record = records[name] = self._start_anew(name, key)
            print(f"== {name}", flush=True)
        self.manifest.save()
        context.folder.mkdir(parents=True, exist_ok=True)
        self._run(stage, context, record)
        return None

    def _start_anew(self, name: str, key: str) -> StageRecord:
        """Move earlier results aside; what an unfinished run has left beside them goes."""
        record, folder = self.manifest.stages.get(name), self.manifest.work_dir / name
        before = None if record is None else record.before or record
        if before is not record:
            shutil.rmtree(folder, ignore_errors=True)
        elif folder.is_dir():
            folder.rename(self._aside(name))
        else:
            before = None
        return StageRecord("running", key, uuid.uuid4().hex, before=before)

    def _run(self, stage: Stage, context: StageContext, record: StageRecord) -> None:
        wall, cpu = time.monotonic(), _cpu_seconds()
        try:
            made = stage.run(context)
            record.artefacts = {
                name: (
                    os.path.relpath(path, self.manifest.work_dir),
                    path.stat().st_size if path.is_file() else -1,
                )
                for name, path in made.items()
            }
            record.status = "done"  # before the check, which reads the artefacts
            record.findings = stage.check(context)
            record.before = None
        except Exception as error:
            record.status, record.message = "failed", f"{type(error).__name__}: {error}"
            raise
        finally:
            record.seconds += time.monotonic() - wall
            record.cpu_seconds += _cpu_seconds() - cpu
            self.manifest.save()
        shutil.rmtree(self._aside(context.name), ignore_errors=True)
        for finding in record.findings:
            against = f" (against {finding.against})" if finding.against else ""
            print(f"  {finding.what}: {finding.value:.4g} {finding.unit}{against}", flush=True)

    def _key(self, name: str) -> str:
        stage, records = self.stages[name], self.manifest.stages
        taken = {
            other: records[other].run_id
            for other in (*stage.needs, *stage.uses)
            if other in records and records[other].status == "done"
        }
        root = find_root()
        configs = [
            load_config(root / value).dump()
            for value in self.settings[name].values()
            if isinstance(value, str) and value.endswith(".py") and (root / value).is_file()
        ]
        content = [self.settings[name], configs, taken, self.seed]
        text = to_json(content, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()


def _cpu_seconds() -> float:
    return sum(
        usage.ru_utime + usage.ru_stime
        for usage in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )
