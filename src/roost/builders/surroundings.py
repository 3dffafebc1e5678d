"""The environment variables that `uv` runs with: those of the server that concern packages, and the settings. Nothing else of the server's.

A source distribution runs code of its author while it is built, so no key or secret of the server may be among them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from roost.builders.base import SUPPORTED_FROM, BuildSettings

_PASSED_ON: Final = frozenset(
    {
        *("PATH", "HOME", "USER", "LANG", "LC_ALL", "TMPDIR", "XDG_CONFIG_HOME", "XDG_CONFIG_DIRS", "XDG_DATA_HOME", "NETRC"),
        *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
        *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "all_proxy", "no_proxy"),
        *("GIT_SSL_CAINFO", "GIT_SSH_COMMAND", "GIT_ASKPASS", "GIT_CONFIG_GLOBAL", "SSH_AUTH_SOCK"),
        *(
            "CC",
            "CXX",
            "CFLAGS",
            "CXXFLAGS",
            "LDFLAGS",
            "CUDA_HOME",
            "LD_LIBRARY_PATH",
            "PKG_CONFIG_PATH",
            "MAX_JOBS",
            "RUSTUP_HOME",
            "CARGO_HOME",
        ),
    }
)
# They say where a person's own `uv pip` installs to; ours installs into the folder that it was told.
_NEVER: Final = frozenset(
    {"UV_PYTHON", "UV_SYSTEM_PYTHON", "UV_BREAK_SYSTEM_PACKAGES", "UV_TARGET", "UV_PREFIX", "UV_PROJECT", "UV_WORKING_DIR"}
)
# The machine's own list of authorities: Debian's and Fedora's place for it.
_SYSTEM_CERTS: Final = (Path("/etc/ssl/certs/ca-certificates.crt"), Path("/etc/pki/tls/certs/ca-bundle.crt"))
# What pip's variables are called in uv, for operators who have set only those.
_FROM_PIP: Final = (
    ("PIP_INDEX_URL", "UV_DEFAULT_INDEX", ("UV_DEFAULT_INDEX", "UV_INDEX_URL")),
    ("PIP_EXTRA_INDEX_URL", "UV_EXTRA_INDEX_URL", ("UV_EXTRA_INDEX_URL", "UV_INDEX")),
)


def uv_environ(
    environ: Mapping[str, str], settings: BuildSettings, cache: Path, home: Path, certs: tuple[Path, ...] = _SYSTEM_CERTS
) -> dict[str, str]:
    """The whole environment for `uv`. `cache` and `home` are used unless the server's environment names its own.

    A setting wins over a variable for the index and for downloads of interpreters; extra indexes and links add up.
    """
    env = {name: value for name, value in environ.items() if name in _PASSED_ON or (name.startswith("UV_") and name not in _NEVER)}
    env.setdefault("HOME", str(home))
    env.setdefault("PATH", os.defpath)
    env["PATH"] = search_path(env["PATH"], Path(environ.get("PYENV_ROOT") or Path(env["HOME"], ".pyenv")))
    env.setdefault("UV_CACHE_DIR", str(cache))
    env.setdefault("UV_LINK_MODE", "hardlink")
    env["UV_PYTHON_DOWNLOADS"] = settings.python_downloads
    env["NO_COLOR"] = "1"
    env["UV_NO_PROGRESS"] = "1"
    if any(file.is_file() for file in certs):
        # Those inside uv know nothing of a company's proxy, which the rest of this machine trusts.
        env.setdefault("UV_SYSTEM_CERTS", "true")
    for theirs, ours, already in _FROM_PIP:
        if environ.get(theirs) and not any(name in env for name in already):
            env[ours] = environ[theirs]
    if settings.index_url:
        env.pop("UV_INDEX_URL", None)
        env["UV_DEFAULT_INDEX"] = settings.index_url
    if settings.extra_index_urls:
        env["UV_INDEX"] = " ".join([*settings.extra_index_urls, *env.get("UV_INDEX", "").split()])
    if settings.find_links:
        env["UV_FIND_LINKS"] = ",".join([*settings.find_links, *filter(None, env.get("UV_FIND_LINKS", "").split(","))])
    return env


def search_path(path: str, pyenv: Path) -> str:
    """The folders to look for interpreters in: pyenv's real ones instead of its shims.

    A shim of a version that is not selected is there but fails when run, and uv stops at it instead of looking on.
    """
    # uv gives up at an interpreter that is too old for it to ask.
    real = sorted(str(folder) for folder in pyenv.glob("versions/*/bin") if _is_supported(folder.parent.name))
    return os.pathsep.join([*(folder for folder in path.split(os.pathsep) if Path(folder).name != "shims"), *real])


def _is_supported(version: str) -> bool:
    """Whether pyenv's name of a version ("3.12.1", "pypy3.10-7.3", "3.14-dev") is of a Python that runners can have."""
    found = re.match(r"(\d+)\.(\d+)", version)
    return found is not None and (int(found[1]), int(found[2])) >= SUPPORTED_FROM
