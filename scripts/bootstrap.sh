#!/bin/sh
# Makes .venv exactly as uv.lock says, on a machine that has only python3 and its venv module.
#
# uv comes from the package index into .bootstrap/, so nothing is installed outside this folder. pip's and uv's own
# variables (PIP_INDEX_URL, UV_DEFAULT_INDEX, UV_FIND_LINKS, ...) choose the index.
set -eu
cd "$(dirname "$0")/.."

python=${PYTHON:-python3}
fail() {
    echo "roost: $1" >&2
    exit 1
}

command -v "$python" >/dev/null || fail "$python is not on PATH. Install it (Debian: apt-get install python3 python3-venv)."
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
    fail "$("$python" --version 2>&1 | head -n 1) is too old, Roost needs 3.10 or newer. Point PYTHON at one: make PYTHON=python3.12 ..."
"$python" -c 'import venv, ensurepip' 2>/dev/null ||
    fail "$python lacks its venv module. Install it (Debian: apt-get install python3-venv)."

# uv and pip want a place for their caches; without HOME they would look for one in odd places.
if [ -z "${HOME:-}" ]; then
    export HOME="$PWD/.bootstrap/home"
    mkdir -p "$HOME"
fi

uv=.bootstrap/bin/uv
if ! [ -x "$uv" ]; then
    echo "roost: getting uv into .bootstrap" >&2
    "$python" -m venv .bootstrap
    .bootstrap/bin/python -m pip install --quiet --disable-pip-version-check 'uv>=0.5'
fi

# The interpreter is the one found above; uv must not fetch another.
export UV_PYTHON_DOWNLOADS=never
export UV_PROJECT_ENVIRONMENT=.venv
python_path=$("$python" -c 'import sys; print(sys.executable)')
index=${UV_DEFAULT_INDEX:-${UV_INDEX_URL:-${PIP_INDEX_URL:-}}}

# The machine's own certificates, which Debian's pip uses too: those in uv know nothing of a company's proxy.
if [ -z "${UV_SYSTEM_CERTS:-}" ] && [ -e /etc/ssl/certs/ca-certificates.crt ]; then export UV_SYSTEM_CERTS=true; fi

echo "roost: making .venv, once, with the packages of uv.lock (about 400 MB)" >&2
if [ -z "$index" ]; then
    "$uv" sync --quiet --frozen --all-extras --group dev --python "$python_path"
else
    # uv.lock names the files of the default index. With another index, the same versions and hashes are asked from there.
    export UV_DEFAULT_INDEX="$index"
    if [ -n "${PIP_EXTRA_INDEX_URL:-}" ] && [ -z "${UV_INDEX:-}" ]; then export UV_INDEX="$PIP_EXTRA_INDEX_URL"; fi
    "$uv" venv --quiet --clear --python "$python_path" .venv
    "$uv" export --quiet --frozen --all-extras --group dev --no-emit-project --output-file .bootstrap/requirements.txt
    "$uv" pip install --quiet --python .venv --require-hashes --requirement .bootstrap/requirements.txt
    "$uv" pip install --quiet --python .venv --no-deps --editable .
fi
touch .venv/.ready
