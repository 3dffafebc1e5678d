"""Every option of an App, in one table. Validation, the spec that travels, and docs/reference/app-options.md derive from it.

spec: app-class.md §1.2. `now`: takes effect in this version; the others are validated, carried in the app's spec and shown, and say so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from roost.sdk import kinds
from roost.sdk.kinds import Kind

AUTH_MODES = ("private", "public", "shared")
REGIONS = ("us-east", "us-west", "us-central", "eu-north", "eu-west")
RETRY_CONDITIONS = ("timeout", "server_error", "connection_error")
IGNORED_FILES = [r"\.pyc$", r"__pycache__/", r"\.git/", r"\.DS_Store$"]
HOST_OPTIONS = "host_options"


@dataclass(frozen=True)
class Option:
    """One line of the table."""

    name: str
    kind: Kind
    doc: str
    default: object = None
    """None: the author did not say, the server decides."""
    field: str = ""
    """Where AppSpec carries it; `host_options` for those only shown; empty for what stays on the author's machine."""
    now: bool = False
    keyword_only: bool = False
    """A plain word that authors use for data of their own: read from the class's header only."""
    stands_for: str = ""
    """Another spelling of this option."""


def _rows(*rows: Option) -> dict[str, Option]:
    return {row.name: row for row in rows}


OPTIONS: Final = _rows(
    # identity
    Option("app_name", kinds.app_name(), "The app's name in its URL. Derived from the class's name if left out.", now=True),
    Option("name", kinds.app_name(), "The same as `app_name`, in the class's header.", now=True, keyword_only=True, stands_for="app_name"),
    Option("app_auth", kinds.choice(*AUTH_MODES), "Who may call: `roost deploy` takes private, `roost run` public, if left out.", field="auth", now=True),
    Option("version", kinds.text(), "The author's own version of the app, answered by `GET /health`.", "unknown", "version", now=True),
    # the environment
    Option("requirements", kinds.requirements(), "Packages of the runner, in pip's words; lists in the list are layers, installed in order.", [], "requirements", now=True),
    Option("requirements_context_dir", kinds.path(), "Base of requirements that are local folders."),
    Option("local_python_modules", kinds.modules(), "Modules beside the app that travel with it.", [], now=True),
    Option("python_version", kinds.python_version(), "The runner's Python; must be the author's own major.minor, which is the default.", now=True),
    Option("resolver", kinds.choice("uv", "pip"), "What resolves requirements. The server always uses uv.", "uv", "resolver"),
    Option("kind", kinds.environment_kind(), "The kind of environment; an App has only this one yet.", field="kind", now=True),
    Option("image", kinds.nothing_yet("List packages in `requirements`."), "A container image to run in. Not yet: any value is refused.", field=HOST_OPTIONS, now=True),
    Option("force", kinds.flag(), "Build the environment anew.", field="force", keyword_only=True),
    Option("compile_bytecode", kinds.flag(), "Compile packages when the environment is built. The server always does.", field=HOST_OPTIONS),
    # files
    Option("app_files", kinds.paths(), "Files and folders that travel with the app.", [], now=True),
    Option("app_files_ignore", kinds.regexes(), "What of `app_files` stays behind (searched in the relative path).", IGNORED_FILES, now=True),
    Option("app_files_context_dir", kinds.path(), "What `app_files` are relative to; the folder of the app's file if left out.", now=True),
    # the machine
    Option("machine_type", kinds.one_or_more_texts("the name of a machine type, or a list of them in order of preference"), "The machine that a runner needs.", "S", "machine_types", now=True),
    Option("machine_types", kinds.one_or_more_texts("a list of machine types"), "The same as `machine_type`.", now=True, keyword_only=True, stands_for="machine_type"),
    Option("num_gpus", kinds.whole(0), "GPUs of a runner.", field="num_gpus"),
    Option("regions", kinds.chosen(*REGIONS), "Where runners may be.", field="regions"),
    # scale
    Option("keep_alive", kinds.seconds(0), "How long an idle runner lives.", 60, "keep_alive_ms", now=True),
    Option("min_concurrency", kinds.whole(0), "Runners that are always up.", field="min_concurrency", now=True),
    Option("max_concurrency", kinds.whole(1), "The most runners at once.", field="max_concurrency", now=True),
    Option("concurrency_buffer", kinds.whole(0), "Runners beyond what is needed.", field="concurrency_buffer"),
    Option("concurrency_buffer_perc", kinds.whole(0), "The same, in percent of what is needed; the larger of the two counts.", field="concurrency_buffer_perc"),
    Option("scaling_delay", kinds.seconds(0), "How long a request may wait before another runner is started.", field="scaling_delay_ms"),
    Option("max_multiplexing", kinds.whole(1), "Requests that one runner takes at once.", field="max_multiplexing", now=True),
    # times
    Option("request_timeout", kinds.seconds(0, above=True), "The longest that one request may take.", field="request_timeout_ms", now=True),
    Option("request_start_timeout", kinds.seconds(0), "The longest that a request of the owner may wait in the queue; 0: no limit.", field="request_start_timeout_ms"),
    Option("startup_timeout", kinds.seconds(0, above=True), "The longest that a runner may take to become ready.", field="startup_timeout_ms", now=True),
    Option("termination_grace_period_seconds", kinds.seconds(1, 3600), "From SIGTERM to SIGKILL: handle_exit(), calls in flight and teardown() share it.", field="termination_grace_ms", now=True),
    # policy
    Option("skip_retry_conditions", kinds.chosen(*RETRY_CONDITIONS), "Failures of queue requests that are not tried again.", field="skip_retry_conditions"),
    Option("retry_config", kinds.retries(), "How often each kind of failure of a queue request is tried again.", field="retry_config"),
    Option("secrets", kinds.texts("a list of names of secrets"), "The secrets that the app sees; an empty list: none.", field="secrets"),
    Option("data_mounts", kinds.absolute_paths(), "Shared folders that the app sees.", field="data_mounts"),
    Option("private_logs", kinds.flag(), "Hide the logs of requests from everybody but the owner.", field="private_logs"),
    # ports
    Option("exposed_port", kinds.whole(1, 65_535), "A port that the app's own server listens on.", field="exposed_port"),
    Option("metrics_port", kinds.whole(0, 65_535), "A port that serves the app's metrics.", field="metrics_port"),
    Option("limit_max_requests", kinds.whole(1), "A runner ends after so many requests.", field="limit_max_requests"),
    Option("serve", kinds.flag(), "Always so for an App.", field=HOST_OPTIONS, keyword_only=True),
    # kept so that sources of the public SDK load
    Option("metadata", kinds.json_object(), "Metadata to show.", field=HOST_OPTIONS, keyword_only=True),
    Option("setup_function", kinds.function(), "Never called: an App prepares itself in `setup()`.", field=HOST_OPTIONS, keyword_only=True),
    Option("_scheduler", kinds.text(), "A scheduler of the public platform.", field=HOST_OPTIONS),
    Option("_scheduler_options", kinds.json_object(), "Options of that scheduler.", field=HOST_OPTIONS),
    Option("_base_image", kinds.text(), "A base image of the public platform.", field=HOST_OPTIONS),
    Option("local_file_path", kinds.path(), "Set by tools that load the file."),
    Option("isolate_channel", kinds.anything(), "Set by tools of the public SDK."),
)  # fmt: skip

MEANS_NOTHING_YET = "Carried and shown, without effect in this version."


def by_keyword(name: str) -> Option:
    """The option that a class keyword means. Raises ValueError with a suggestion."""
    option = OPTIONS.get(name)
    if option is None:
        raise ValueError(unrecognised(name))
    return OPTIONS[option.stands_for] if option.stands_for else option


def unrecognised(name: str) -> str:
    near = similar(name, list(OPTIONS), at_least=0.6)
    return f"Unrecognised option '{name}'." + (f" Did you mean '{near}'?" if near else f" The options are {', '.join(sorted(OPTIONS))}.")


def similar(name: str, among: list[str], *, at_least: float) -> str | None:
    """The most similar of these names, if one is similar enough (0 to 1)."""
    import difflib

    near = difflib.get_close_matches(name, among, n=1, cutoff=at_least)
    return near[0] if near else None


def parse(option: Option, value: object) -> object:
    """The value as the spec carries it; None stays None. Raises ValueError that names the option."""
    if value is None:
        return None
    try:
        return option.kind.parse(value)
    except ValueError as error:
        raise ValueError(f"{option.name} {error}") from None


def render_reference() -> str:
    """The page docs/reference/app-options.md, which scripts/reference.py writes."""
    lines = [
        "<!-- Made by scripts/reference.py. Change the code, then run `make reference`. -->",
        "# Options of an App",
        "",
        "Each is an attribute of the class or a keyword in its header: `keep_alive = 300` in the body, or `class MyApp(roost.App, keep_alive=300)`.",
        "An attribute wins over a keyword, a class over the class it inherits from. `None`: not said, the server decides.",
        "",
        "| option | value | default | meaning |",
        "|---|---|---|---|",
    ]
    for option in OPTIONS.values():
        meaning = option.doc if option.now or option.stands_for else f"{option.doc} *{MEANS_NOTHING_YET}*"
        if option.keyword_only:
            meaning += " Keyword only."
        default = "" if option.stands_for else f"`{option.default!r}`"
        lines.append(f"| `{option.name}` | {option.kind.text} | {default} | {meaning} |".replace("\\.", "\\\\."))
    return "\n".join(lines) + "\n"
