"""What a worker holds open: the store, the queue, Label Studio and the models, which stay warm between jobs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

import redis
import structlog
from pydantic import ValidationError

from mollm.annotators import Annotator, Needs, fingerprint, needs, open_annotator
from mollm.annotators._warm import Warm
from mollm.classifier.encoder import Encoder
from mollm.config import AnnotatorConfig, LoopConfig
from mollm.errors import ConfigError, MollmError
from mollm.prompts import Shot
from mollm.records import LabelSet
from mollm_backend import packages, served
from mollm_backend.labelstudio.client import LabelStudioClient
from mollm_backend.settings import Settings
from mollm_backend.store import Store, events, locks, projects, signals
from mollm_backend.store.decisions import Decision
from mollm_backend.store.projects import PanelMember, Project
from mollm_backend.store.version_files import VersionFiles
from mollm_backend.work import queues, split
from mollm_backend.work.progress import Progress

log = structlog.get_logger()

Job = tuple[str, str, tuple[int | str, ...]]  # queue, name and arguments

READING_WAIT = 1.0  # seconds for which a job waits for texts that another still reads; its worker has other work, too


@dataclass(frozen=True, slots=True)
class Counted:
    """How far the reading of the tasks up to `newest` was, with these `panel` and `counters`. It need not be counted
    again up to `until` (by the monotonic clock) if only answers come; if counting takes long, nor if tasks change."""

    found: Progress
    newest: int
    panel: tuple[PanelMember, ...]
    counters: Mapping[str, int]
    seconds: float
    until: float


@dataclass(frozen=True, slots=True)
class Conclusion:
    """What a project lacks, as long as nothing is written (`seen` stays equal) and the clock has not reached `until`.

    It lies in a worker's memory: another worker, or the next after a kill, concludes for itself.
    """

    seen: tuple[Project, Mapping[str, int], bool]  # the project's row, the counters, whether a training is asked for
    until: float
    found: Progress
    jobs: Iterable[Job]


@dataclass
class Place:
    """Where a reading is: all after the task `newest` is still to be looked at, and `before` which task it goes on. It
    holds up to `until` (by the monotonic clock)."""

    until: float
    newest: int
    before: int | None = None


class Runtime:
    """Opened once in a worker. Models are loaded at the first job that needs them and then kept."""

    def __init__(self, settings: Settings, store: Store, connection: redis.Redis) -> None:
        self.settings = settings
        self.store = store
        self.connection = connection
        self.panel = settings.panel_config()
        self.version_files = VersionFiles(settings.versions_dir, settings.shared_url)
        self._annotators = Warm()
        self._encoder: Encoder | None = None
        self._client: LabelStudioClient | None = None
        self.concluded: dict[int, Conclusion] = {}  # by project
        self.counted: dict[int, Counted] = {}  # by project
        self.chunk_texts: dict[str, int] = {}  # by fingerprint, what fits into one chunk's time
        self.comes_first: tuple[str, ...] = ()  # the queues that this worker serves before readings
        self.readings: tuple[str, ...] = ()  # those of the readings that it serves
        self.heard: dict[int, int] = {}  # by project, the task up to which somebody has answered all that came lately
        self.passed: dict[int, int] = {}  # by project, the newest task for which a reading left its turn
        self.places: dict[tuple[int, str, str], Place] = {}  # by project, fingerprint and slots

    def client(self) -> LabelStudioClient:
        """One client a worker: its connections and its exchanged token are kept."""
        if self._client is None:
            self._client = LabelStudioClient.of(self.settings)
        return self._client

    def shots(self, project: Project, decision: Decision) -> tuple[Shot, ...]:
        """The few-shot examples of a decision's prompts (fixed until `mollm train --refresh-prompts`)."""
        rows = project.options.get("shots", [])
        mine = (Shot(text, label) for text, label, *key in rows if (key or [""])[0] == decision.key)
        return tuple(shot for shot in mine if shot.label in decision.labels.names and not decision.of_a_list)

    def loop_config(self, project: Project) -> LoopConfig:
        """The settings of a round, with the project's own values over the general ones. Raises ConfigError."""
        own = {key: project.options[key] for key in ("batch_size", "refit_every") if key in project.options}
        try:
            return LoopConfig.model_validate(
                self.settings.loop_config().model_dump() | own | project.options.get("loop", {})
            )
        except ValidationError as error:
            wrong = error.errors()[0]
            place = ".".join(map(str, wrong["loc"]))
            raise ConfigError(f"The option {place} of project {project.id} cannot be used: {wrong['msg']}.") from None

    def members(self, project: Project) -> tuple[PanelMember, ...]:
        """The panel's names and fingerprints for this project; no model is loaded for them."""
        return tuple(
            PanelMember(config.name, self._fingerprint(project, decision, config), decision.key)
            for decision in project.decisions
            for config in self.panel.annotators
        )

    def _fingerprint(self, project: Project, decision: Decision, config: AnnotatorConfig) -> str:
        return fingerprint(config, *self._question(project, decision))

    def _question(self, project: Project, decision: Decision) -> tuple[LabelSet, str, tuple[Shot, ...]]:
        """The labels, the instruction and the examples of what every annotator is asked about a decision."""
        instruction = decision.instruction(project.instruction(self.panel.instruction))
        return decision.asked, instruction, self.shots(project, decision)

    def refresh_panel(self, project: Project) -> Project:
        """Bring the stored panel up to date: a changed prompt or model asks that annotator again, no other."""
        members = self.members(project)
        if members != project.panel:
            project = replace(project, panel=members)
            projects.set_panel(self.store, project.id, members)
        return project

    def annotator(self, project: Project, member: PanelMember) -> Annotator:
        """The opened annotator, warm where there is room (see `Warm`); with it those that it asks along.

        Raises ConfigError: it left the panel.
        """
        found = self._opened(project, member)
        if found.asks_along:
            found.ask_along(self._company(project, member))
        return found

    def _opened(self, project: Project, member: PanelMember) -> Annotator:
        config = next((config for config in self.panel.annotators if config.name == member.name), None)
        if config is None:
            raise ConfigError(f"The annotator {member.name!r} is not in the panel file any more.")
        models = self.settings.models_dir

        def room() -> Needs:
            model = packages.to_fetch(config)
            if model:
                packages.ensure_model(model, models, lambda line: log.info("model", line=line))
            return needs(config, models)

        def opened() -> Annotator:
            reached = served.reached(config, self.settings.home)
            found = open_annotator(reached, *self._question(project, project.decision_of(member)), models)
            if reached.url:  # how a server can be asked is seen only now
                events.add_once(self.store, "info", f"asks {found.describe()}", project.id)
            return found

        return self._annotators.get(member.fingerprint, room, opened)

    def _company(self, project: Project, member: PanelMember) -> list[Annotator]:
        """The same annotator's other questions of the project, without those that cannot be opened now."""
        away, found = signals.absent(self.store), []
        for other in project.asked:
            if other.name == member.name and other.fingerprint != member.fingerprint and other.fingerprint not in away:
                with contextlib.suppress(MollmError):  # its own job says what is wrong with it
                    found.append(self._opened(project, other))
        return found

    def probe_anew(self, member: PanelMember) -> None:
        """Open this annotator's server anew at the next question, because it may have changed."""
        self._annotators.drop_server(member.fingerprint)

    def card(self, member: PanelMember) -> tuple[str, str]:
        """(the card on which this member's model takes turns with others, the model); empty where it needs none."""
        config = next((config for config in self.panel.annotators if config.name == member.name), None)
        try:
            wanted = needs(config, self.settings.models_dir) if config is not None else Needs()
        except ConfigError:
            return "", ""  # its own job says what is wrong with it
        return (wanted.device, wanted.model) if wanted.takes_turns else ("", "")

    def encoder(self) -> Encoder | None:
        """The text encoder; None where its model directory is not there (the loop then works without text)."""
        directory = self.settings.encoder_dir
        if self._encoder is None and directory.is_dir():
            self._encoder = Encoder(directory, self.settings.home / "cache")
        return self._encoder

    def training_lock(self, project_id: int) -> contextlib.AbstractContextManager[bool]:
        """At most one training of a project at once, over all workers of all hosts; the death of one frees it."""
        return locks.held(self.store, f"train-{project_id}")

    @contextlib.contextmanager
    def reading_lock(self, project_id: int, annotator: str, part: str) -> Iterator[str]:
        """The slots of a part that nobody else reads, held in the block; where there are none, a moment is waited.

        The queue says who reads what, and may be emptied, or take a slow worker for dead: then another begins while
        the first is still in its last chunk. This lock lies in the store, and the death of its holder frees it.
        """
        names = {queues.job_id("read", project_id, annotator, slot): slot for slot in split.slots(part)}
        with locks.those_free(self.store, list(names), READING_WAIT) as mine:
            yield "".join(sorted(names[name] for name in mine))
