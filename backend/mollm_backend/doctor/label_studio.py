"""What is wrong between Label Studio and this backend, in both directions: one line a finding, with its fix."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from dataclasses import replace
from http import HTTPStatus

import httpx

from mollm.errors import ConfigError
from mollm_backend.doctor.finding import Finding, fine, notice, problem
from mollm_backend.labelstudio import label_config
from mollm_backend.labelstudio.client import LabelStudioClient, RemoteProject
from mollm_backend.labelstudio.connect import TITLE
from mollm_backend.labelstudio.errors import LabelStudioError, LabelStudioNotFound, LabelStudioRefused
from mollm_backend.labelstudio.events import SECRET_HEADER, WEBHOOK_ACTIONS
from mollm_backend.labelstudio.order import why_not_served
from mollm_backend.labelstudio.ssrf import address_of, flags_for, is_local
from mollm_backend.labelstudio.transport import JSON
from mollm_backend.settings import Settings
from mollm_backend.store import Store, projects, tasks
from mollm_backend.store.projects import Project

MAX_SKEW = 60.0  # seconds: clocks that are set by NTP differ by far less
TESTED = (1, 20)  # the oldest release that was tried, by its first two numbers


def examine(
    store: Store, client: LabelStudioClient, settings: Settings, project_id: int | None = None
) -> list[Finding]:
    """Look at the server, then at one project or (None) at all connected ones. Raises nothing that it can report."""
    found = list(_server(client))
    if any(finding.kind == "problem" for finding in found):
        return found
    every = projects.every(store)
    chosen = [row for row in every if row.connected] if project_id is None else [projects.get(store, project_id)]
    if not chosen:
        fix = "run `mollm connect N`, N as in .../projects/N of its page"
        found.append(problem("not-connected", "no project is connected", fix))
    for project in chosen:
        try:
            found += (_named(row, project.id) for row in _project(store, client, settings, project))
        except LabelStudioError as error:
            fix = error.fix or "see Label Studio's log"
            found.append(problem("project", f"project {project.id}: {error.what}", fix))
    return [*found, *_orphans(client, every)]


def _named(finding: Finding, project_id: int) -> Finding:
    """With the project's number before what does not name it."""
    if f"project {project_id}" in finding.line:
        return finding
    return replace(finding, line=f"project {project_id}: {finding.line}")


def _server(client: LabelStudioClient) -> Iterator[Finding]:
    try:
        version, user, skew = client.version(), client.whoami(), client.clock_skew()
    except LabelStudioRefused as error:
        yield problem("token", error.what, error.fix)
        return
    except LabelStudioError as error:
        yield problem("server", error.what, error.fix or "start Label Studio, or correct LABEL_STUDIO_URL")
        return
    yield fine("server", f"Label Studio {version} at {client.url}, as {user}, {client.token_kind} token")
    numbers = [int(part) for part in version.split(".")[:2] if part.isdigit()]
    if tuple(numbers) < TESTED:
        yield notice("version", f"Label Studio {version} is older than any that was tried", "upgrade it")
    if abs(skew) > MAX_SKEW:
        yield notice("clock", f"the two clocks are {skew:.0f} s apart", "set both machines by NTP")


def _project(store: Store, client: LabelStudioClient, settings: Settings, project: Project) -> Iterator[Finding]:
    try:
        remote = client.project(project.id)
    except LabelStudioNotFound:
        fix = f"correct LABEL_STUDIO_URL, or `mollm disconnect {project.id}`"
        yield problem("project-gone", f"project {project.id} is not on {client.url}", fix)
        return
    if (project.url, project.ls_created_at) != (client.url, remote.created_at):
        yield problem(
            "other-project",
            f"project {project.id} is not the one that was connected ({project.url}, {project.ls_created_at})",
            f"correct LABEL_STUDIO_URL; `mollm connect {project.id}` after a move; another MOLLM_HOME for another one",
        )
        return
    if not project.connected:
        fix = f"run `mollm connect {project.id}`"
        yield problem("not-connected", f"project {project.id} is disconnected", fix)
        return
    if project.attention:
        fix = f"do as it says; `mollm doctor {project.id} --accept-loss` if the labels are meant to go"
        yield problem("attention", f"project {project.id}: {project.attention}", fix)
    yield from _config(store, project, remote)
    url = str(project.connection.get("backend_url", ""))
    answers, reached = _answers(url), f"Label Studio reaches the backend at {url}, and so do we"
    yield from _or_fine(_backend(client, settings, project, answers=answers), "backend", reached)
    found = _webhooks(client, settings, project, answers=answers)
    yield from _or_fine(found, "webhook", "the webhook carries its secret")
    yield from _stream(client, project, remote)


def _or_fine(found: Iterator[Finding], name: str, line: str) -> Iterator[Finding]:
    """What was found, or that all is well there."""
    rows = list(found)
    return iter(rows or [fine(name, line)])


def _config(store: Store, project: Project, remote: RemoteProject) -> Iterator[Finding]:
    try:
        asked = label_config.read(remote.label_config)
    except ConfigError as error:
        yield problem("label-config", str(error), "change the label config in Label Studio")
        return
    for line in label_config.lines_of(asked.decisions):
        yield fine("decision", f"project {project.id} asks {line}")
    for line in label_config.lines_of_left(asked.left):
        fix = "nothing: what people put there stays as it is; nothing is read from it or written to it"
        yield notice("left-to-people", f"project {project.id}: {line}", fix)
    if remote.label_config != project.label_config:
        line = f"the label config of project {project.id} has changed since the last look"
        yield notice("label-config-changed", line, "nothing: the worker takes it in within a minute")
    count, unreadable = tasks.count(store, project.id)
    if unreadable:
        first = next(task for task in tasks.every(store, project.id) if task.problem)
        line = f"{unreadable} of {count} tasks have no text that can be read; task {first.task_id}: {first.problem}"
        fix = f"mend the tasks' data or the label config; `mollm explain {project.id} TASK` for another one"
        yield notice("unreadable", line.rstrip("."), fix)


def _backend(
    client: LabelStudioClient, settings: Settings, project: Project, *, answers: bool
) -> Iterator[Finding]:  # fmt: skip
    """Our row among the ML backends, and whether each side reaches the other."""
    url = str(project.connection.get("backend_url", ""))
    again = f"run `mollm connect {project.id}`"
    rows = [row for row in client.ml_backends(project.id) if row["id"] == project.connection.get("ml_backend")]
    if not answers:
        yield problem("backend-down", f"no backend answers at {url} from here", _down_fix(url, again))
    if not rows:
        line = f"project {project.id} has no ML backend row of ours"
        yield problem("no-backend", line, _again(url, again, answers=answers))
        return
    row = rows[0]
    if row["url"].rstrip("/") != url:
        yield problem("backend-url", f"Label Studio has {row['url']} as the backend, not {url}", again)
    if row.get("auth_method") != "BASIC_AUTH" or row.get("basic_auth_user") != settings.basic_auth_user:
        yield problem("backend-auth", "Label Studio calls the backend without its basic auth", again)
    if row.get("state") not in ("CO", "TR", "PR") and answers:
        says = (row.get("error_message") or row.get("readable_state") or "")[:200]
        yield problem("back-route", f"Label Studio does not reach {url} ({says})", _route_fix(client, url))
    if row.get("is_interactive"):
        line = "the backend is set to interactive: each region would ask it again"
        yield notice("interactive", line, "switch it off in Settings > Model")
    if len(client.ml_backends(project.id)) > 1:
        line = 'several ML backends: "Retrieve predictions" asks only the first'
        yield notice("several-backends", line, "remove the others in Settings > Model")


def _answers(url: str) -> bool:
    """Whether an ML backend answers there, and not some other server that has its port."""
    try:
        answer = httpx.get(f"{url}/health", timeout=10)
        return answer.status_code == HTTPStatus.OK and dict(answer.json()).get("status") == "UP"
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, TypeError):
        return False


def _is_private(url: str) -> bool:
    address = address_of(url)
    return bool(address) and ipaddress.ip_address(address).is_private


def _down_fix(url: str, again: str) -> str:
    """What may be wrong where nothing answers: `mollm up` listens on this machine's own address unless told."""
    if is_local(url):
        return f"start it with `mollm up`; where it says another address than this, {again} with that as --backend-url"
    return f"start it with `mollm up`, MOLLM_HOST=0.0.0.0 set (or this address), and open the port; or {again}"


def _again(url: str, again: str, *, answers: bool) -> str:
    """Connect again; where the address may be refused, with Label Studio's flags for it."""
    return f"{again}. If the address is refused: {flags_for(url)}" if answers and _is_private(url) else again


def _route_fix(client: LabelStudioClient, url: str) -> str:
    if is_local(url) and not is_local(client.url):
        return f"{url} means Label Studio's own machine: give this machine's address with `--backend-url`"
    if _is_private(url):
        return f"open the port between them. {flags_for(url)}"
    return "open the port between them, or correct `--backend-url`"


def _webhooks(
    client: LabelStudioClient, settings: Settings, project: Project, *, answers: bool
) -> Iterator[Finding]:  # fmt: skip
    """Ours: there, active, with its secret and all its actions; and no second one without the secret."""
    url, again = str(project.connection.get("backend_url", "")), f"run `mollm connect {project.id}`"
    hooks = client.webhooks(project.id)
    ours = next((hook for hook in hooks if hook["id"] == project.connection.get("webhook")), None)
    if ours is None:
        line = "half connected: there is no webhook of ours, so nothing that people do arrives at once"
        yield problem("no-webhook", line, _again(url, again, answers=answers))
    else:
        yield from _our_webhook(ours, settings, url, again)
    doubles = [hook for hook in hooks if hook is not ours and hook["url"].rstrip("/") == f"{url}/webhook"]
    if doubles:
        yield problem("second-webhook", f"{len(doubles)} more webhooks to {url} carry no secret", again)


def _our_webhook(hook: JSON, settings: Settings, url: str, again: str) -> Iterator[Finding]:
    secret = settings.webhook_secret.get_secret_value()
    if (hook.get("headers") or {}).get(SECRET_HEADER) != secret:
        yield problem("webhook-header", f"the webhook's header {SECRET_HEADER} is missing or old", again)
    if not hook.get("is_active", True):
        yield problem("webhook-off", "the webhook is switched off", again)
    if hook["url"].rstrip("/") != f"{url}/webhook":
        yield problem("webhook-url", f"the webhook goes to {hook['url']}, not to {url}/webhook", again)
    missing = set(WEBHOOK_ACTIONS) - set(hook.get("actions") or [])
    if missing and not hook.get("send_for_all_actions"):
        yield problem("webhook-actions", f"the webhook does not send {', '.join(sorted(missing))}", again)


def _stream(client: LabelStudioClient, project: Project, remote: RemoteProject) -> Iterator[Finding]:
    """Whether the label stream can serve the batch in its order."""
    if project.batch_version and remote.model_version == TITLE:
        line = "live-backend mode: the project shows the backend itself, so the stream is random"
        yield problem("live-backend", line, f"run `mollm connect {project.id}`")
    elif project.batch_version and (why := why_not_served(remote, project.batch_version)):
        fix = 'label the tab "mollm: next batch" by "Label Tasks As Displayed", or connect again'
        yield problem("order", f"the stream does not serve the batch: {why}", fix)
    order = project.connection.get("order") or {}
    if order.get("served") is False:
        line = f"{order.get('reason')}: batches come as a tab of the Data Manager"
        yield notice("order-rehearsal", line, 'label the tab by "Label Tasks As Displayed"')
    people = client.user_count()
    if people > 1:
        so = "with several project members the order inside a batch is random"
        yield notice("members", f"{people} people are in the organization: {so}", "nothing: the batch stays the batch")


def _orphans(client: LabelStudioClient, known: list[Project]) -> Iterator[Finding]:
    """Webhooks with our header that no connected project knows: left by a lost store or a removed backend."""
    ours = {project.connection.get("webhook") for project in known}
    try:
        hooks = client.webhooks()
    except LabelStudioError:
        return
    for hook in hooks:
        if SECRET_HEADER in (hook.get("headers") or {}) and hook["id"] not in ours:
            which = f"webhook {hook['id']} of project {hook.get('project')} to {hook['url']}"
            yield notice(
                "orphan-webhook",
                f"{which} is an orphan of an old backend",
                "delete it in that project's Settings > Webhooks",
            )
