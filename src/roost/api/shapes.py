"""Rows as the JSON of the API (docs/internals/contracts.md): durations in seconds, moments in ISO 8601."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

from roost.core.explain import Explanation
from roost.core.health import Last
from roost.core.model import Alias, DecisionRecord, Env, Event, Key, Release, Revision, Runner, RunnerState, Scale
from roost.core.placement import Unplaced
from roost.core.requests import Attempt, Request, RequestState
from roost.core.stages import ColdStart
from roost.core.webhooks import Try, Webhook, WebhookState
from roost.data.logs import LogLine
from roost.demand.board import Line

Json = dict[str, Any]


def iso(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, timezone.utc).isoformat(timespec="milliseconds")


def seconds(ms: int | None) -> int | float | None:
    """Whole seconds as an integer, as the public protocol has them."""
    if ms is None:
        return None
    return ms // 1000 if ms % 1000 == 0 else ms / 1000


def scale_json(scale: Scale) -> Json:
    return {
        "keep_alive": seconds(scale.keep_alive_ms),
        "min_concurrency": scale.min_concurrency,
        "max_concurrency": scale.max_concurrency,
        "concurrency_buffer": scale.concurrency_buffer,
        "concurrency_buffer_perc": scale.concurrency_buffer_perc,
        "scaling_delay": seconds(scale.scaling_delay_ms),
        "max_multiplexing": scale.max_multiplexing,
        "request_timeout": seconds(scale.request_timeout_ms),
        "request_start_timeout": seconds(scale.request_start_timeout_ms),
        "startup_timeout": seconds(scale.startup_timeout_ms),
        "machine_types": list(scale.machine_types),
    }


def app_json(alias: Alias, runners: Mapping[str, int], line: Line | None, url: str) -> Json:
    """`runners`: how many are in which state; `line`: the callers of this app, None if there never was one."""
    return {
        "application": alias.application,
        "owner": alias.owner,
        "name": alias.name,
        "environment": alias.environment,
        "revision_id": alias.revision_id,
        "auth": alias.auth,
        "ephemeral": alias.ephemeral,
        **scale_json(alias.scale),
        "runners": dict(runners),
        "waiting": len(line.since()) if line is not None else 0,
        "in_flight": line.in_flight if line is not None else 0,
        "url": url,
        "created_at": iso(alias.created_ms),
        "updated_at": iso(alias.updated_ms),
    }


def revision_json(revision: Revision) -> Json:
    return {
        "revision_id": revision.id,
        "state": revision.state.value,
        "reason": revision.reason,
        "message": revision.message,
        "annotations": dict(revision.annotations),
        "python": revision.spec.python_version,
        "runtime": revision.runtime,
        "build": revision.env_key,
        "created_by": revision.created_by,
        "created_at": iso(revision.created_ms),
    }


def release_json(release: Release) -> Json:
    shape: Json = {
        "release_id": release.id,
        "application": release.application,
        "kind": release.kind.value,
        "revision_id": release.revision_id,
        "strategy": release.strategy,
        "state": release.state.value,
        "reason": release.reason,
        "created_by": release.actor,
        "created_at": iso(release.begun_ms),
    }
    return shape | ({"ended_at": iso(release.ended_ms)} if release.ended_ms is not None else {})


def decision_json(decision: DecisionRecord) -> Json:
    return {
        "kind": decision.kind,
        "runners": decision.runners,
        "reason": decision.reason,
        "since": iso(decision.first_ms),
        "times": decision.times,
    }


def template_json(record: DecisionRecord, revision_id: str) -> Json | None:
    """What is stored of a revision's template; None if that was another revision's."""
    if record.memory.get("revision_id") != revision_id:
        return None
    return {
        "state": record.memory.get("state", ""),
        "reason": record.reason,
        "memory_mb": record.memory.get("memory_mb", 0),
        "since": iso(record.first_ms),
    }


def state_of(runner: Runner, in_flight: int) -> RunnerState:
    """Its public state. A row says IDLE while calls come and go; who has calls is RUNNING."""
    return RunnerState.RUNNING if runner.state is RunnerState.IDLE and in_flight > 0 else runner.state


def runner_json(runner: Runner, in_flight: int, now_ms: int, health: Last | None = None) -> Json:
    until_ms = runner.ended_ms if runner.ended_ms is not None else now_ms
    return {
        "runner_id": runner.id,
        "application": runner.application,
        "revision_id": runner.revision_id,
        "state": state_of(runner, in_flight).value,
        "machine_type": runner.machine_type,
        "in_flight_requests": in_flight,
        "pid": runner.pid,
        "uptime_seconds": max(0, until_ms - runner.created_ms) / 1000,
        "served": runner.served,
        "health": {"ok": health.well, "said": health.said, "at": iso(health.at_ms)} if health is not None else None,
        "reason": runner.reason,
        "created_at": iso(runner.created_ms),
        **({"cold_start": cold_start_json(runner.cold_start)} if runner.cold_start is not None else {}),
    }


def unplaced_json(application: str, wanted: Unplaced, now_ms: int) -> Json:
    """A runner that is wanted and has no place yet, in the shape of one that has."""
    return {
        "runner_id": "",
        "application": application,
        "revision_id": wanted.revision_id,
        "state": RunnerState.PENDING.value,
        "machine_type": ", ".join(wanted.machine_types),
        "in_flight_requests": 0,
        "pid": None,
        "uptime_seconds": max(0, now_ms - wanted.since_ms) / 1000,
        "served": 0,
        "reason": f"no room: {wanted.reason}",
        "created_at": iso(wanted.since_ms),
    }


def cold_start_json(start: ColdStart) -> Json:
    """Milliseconds."""
    why = {"why_spawned": start.why_spawned} if start.why_spawned else {}
    return {"ms": round(start.ms, 1), "stages": dict(start.stages), **why}


def explanation_json(kind: str, id: str, explanation: Explanation) -> Json:
    """A sentence about the past has its moment beside it."""
    parts = [
        {
            "title": part.title,
            "said": [{"text": said.text} | ({"at": iso(said.at_ms)} if said.at_ms is not None else {}) for said in part.said],
        }
        for part in explanation
    ]
    return {"kind": kind, "id": id, "parts": parts}


def log_json(line: LogLine) -> Json:
    shape: Json = {"timestamp": iso(line.at_ms), "level": line.level, "source": line.source, "message": line.message}
    optional = {"request_id": line.request_id, "endpoint": line.endpoint, "runner_id": line.runner_id}
    return shape | {name: value for name, value in optional.items() if value}


def key_json(key: Key) -> Json:
    return {"key_id": key.id, "alias": key.alias, "scope": key.scope, "created_at": iso(key.created_ms)}


def build_json(env: Env, in_use: bool) -> Json:
    return {
        "key": env.key,
        "state": env.state.value,
        "reason": env.reason,
        "python": env.recipe.python_version,
        "requirements": [line for layer in env.recipe.layers for line in layer],
        "packages": len(env.packages),
        "size_bytes": env.size_bytes,
        "build_ms": env.build_ms,
        "created_at": iso(env.created_ms),
        "used_at": iso(env.used_ms),
        "in_use": in_use,
    }


def request_json(request: Request, position: int) -> Json:
    """`position`: how many would go before it."""
    shape: Json = {
        "request_id": request.id,
        "gateway_request_id": request.gateway_request_id or request.id,
        "application": request.application,
        "endpoint": request.endpoint,
        "method": request.method,
        "status": request.state.value,
        "priority": request.priority.name.lower(),
        "caller": request.caller,
        "attempt": request.attempt,
        "created_at": iso(request.created_ms),
        "metrics": {"inference_time": seconds(request.inference_ms)} if request.state is RequestState.COMPLETED else {},
    }
    optional: Json = {
        "queue_position": position if request.state is RequestState.IN_QUEUE else None,
        "runner_id": request.runner_id,
        "error": request.error or None,
        "error_type": request.error_type or None,
        "status_code": request.status,
        "retry_of": request.retry_of or None,
        "started_at": _iso(request.started_ms),
        "finished_at": _iso(request.finished_ms),
        "expires_at": _iso(request.expires_ms),
    }
    return shape | {name: value for name, value in optional.items() if value is not None}


def attempt_json(attempt: Attempt) -> Json:
    shape: Json = {
        "number": attempt.number,
        "gateway_request_id": attempt.gateway_request_id,
        "runner_id": attempt.runner_id,
        "state": attempt.state.value,
        "started_at": iso(attempt.started_ms),
    }
    optional: Json = {"ended_at": _iso(attempt.ended_ms), "outcome": attempt.outcome or None, "condition": attempt.condition or None}
    return shape | {name: value for name, value in optional.items() if value is not None}


def event_json(event: Event) -> Json:
    return {
        "at": iso(event.at_ms),
        "kind": event.kind,
        "reason": event.reason,
        "actor": event.actor,
        **({"data": event.data} if event.data else {}),
    }


def webhook_json(webhook: Webhook, url: str) -> Json:
    """`url`: as much of its address as the asker may see."""
    pending = webhook.state is WebhookState.PENDING
    shape: Json = {
        "request_id": webhook.request_id,
        "gateway_request_id": webhook.gateway_request_id,
        "application": f"{webhook.owner}/{webhook.name}",
        "state": webhook.state.value,
        "url": url,
        "caller": webhook.caller,
        "tries": webhook.logged,
        "created_at": iso(webhook.created_ms),
    }
    optional: Json = {
        "reason": webhook.reason or None,
        "next_try_at": iso(webhook.due_ms) if pending else None,
        "tried_until": iso(webhook.until_ms) if pending else None,
        "ended_at": _iso(webhook.ended_ms),
    }
    return shape | {name: value for name, value in optional.items() if value is not None}


def try_json(one: Try) -> Json:
    shape: Json = {"number": one.number, "at": iso(one.at_ms), "took": seconds(one.took_ms), "outcome": one.outcome}
    return shape | ({"status": one.status} if one.status is not None else {})


def _iso(at_ms: int | None) -> str | None:
    return iso(at_ms) if at_ms is not None else None


def app_url(base_url: str, application: str) -> str:
    return f"{base_url}/{application}"


def ready_json(revision: Revision, auth: str, base_url: str, ms: int | None) -> Json:
    """The event that says where an app answers; `ms` is how long it took."""
    application = f"{revision.owner}/{revision.name}"
    url = app_url(base_url, application)
    return {
        "event": "ready",
        "application": application,
        "revision_id": revision.id,
        "auth": auth,
        "url": url,
        "queue_url": app_url(f"{base_url}/_queue", application),
        "endpoints": [{"path": e.path, "url": url if e.path == "/" else url + e.path} for e in revision.spec.endpoints],
    } | ({"ms": ms} if ms is not None else {})
