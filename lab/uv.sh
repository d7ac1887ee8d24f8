#!/bin/sh
# uv, as it is on this machine; else the pinned one from PyPI in a virtual environment of the lab's.
set -eu
UV_VERSION=0.13.9

if command -v uv >/dev/null 2>&1 && uv --version >/dev/null 2>&1; then
    exec uv "$@"
fi
home=${TRIREME_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/trireme}/uv-$UV_VERSION
if [ ! -x "$home/bin/uv" ]; then
    if ! python3 -c 'import ensurepip' 2>/dev/null; then
        if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
            echo "error: uv is missing, and python3 has no venv to install it into: install uv (https://docs.astral.sh/uv/)" >&2
            exit 1
        fi
        apt-get update >&2
        DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends python3-venv >&2
    fi
    # Two that start at once must not make one directory: each its own, and the first to be ready is kept.
    mkdir -p "$(dirname "$home")"
    made=$(mktemp -d "$home.XXXXXX")
    python3 -m venv "$made"
    "$made/bin/pip" install --quiet --disable-pip-version-check "uv==$UV_VERSION"
    if [ ! -x "$home/bin/uv" ]; then
        rm -rf "$home"
        mv "$made" "$home"
    else
        rm -rf "$made"
    fi
fi
exec "$home/bin/uv" "$@"
