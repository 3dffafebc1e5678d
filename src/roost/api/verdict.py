"""Why a revision failed, as the error that its author gets. Pure.

The store keeps one text, the reason; which error that is follows from how far the revision had come and from the words that
`core.rollout` and `core.fleet` use (a test makes them say each).
"""

from __future__ import annotations

from roost.core.model import Env, EnvState, Revision
from roost.wire.errors import RoostError

GIVEN_UP = "the author ended the deploy"
SEE_LOG = "The app's output above says more."


def failure(revision: Revision, env: Env | None, *, was_built: bool) -> RoostError:
    """`env` is the revision's environment; `was_built`: the revision had come as far as STARTING."""
    reason = revision.reason or "the server did not say why"
    if "a later deploy" in reason:
        return RoostError("conflict", reason, hint="Only the last of several deploys of one app goes on.")
    if reason.startswith(GIVEN_UP):
        return RoostError("client_cancelled", reason)
    if not was_built:
        return _build_failure(reason, env)
    if "startup_timeout" in reason or "was ready within" in reason:
        return RoostError("startup_timeout", reason, hint=f"Raise startup_timeout if setup() needs longer. {SEE_LOG}")
    if reason.startswith("the process "):
        return RoostError(
            "setup_failed", f"the runner ended before setup() was done: {reason}", hint="What it printed, if anything, is above."
        )
    return RoostError("setup_failed", reason, hint=SEE_LOG)


def _build_failure(reason: str, env: Env | None) -> RoostError:
    """The resolver's words, and what to do: the reason is the environment's own and, on a line of its own, the hint."""
    if env is not None and env.state is EnvState.FAILED and env.reason and reason.startswith(env.reason + "\n"):
        return RoostError("build_failed", env.reason, hint=reason[len(env.reason) + 1 :])
    return RoostError("build_failed", reason)
