# Sourced by the other scripts: makes .venv in the project's root and installs the project into it.
# Usage: prepare_environment EXTRAS, with EXTRAS such as "" or "[dev]".
# PYTHON names the interpreter to start from (3.11 or later).

# Otherwise every process would compile every module anew.
unset PYTHONDONTWRITEBYTECODE

prepare_environment() {
    local extras=$1 python=${PYTHON:-} candidate stamp wanted
    if [ -z "$python" ]; then
        for candidate in python3 python3.13 python3.12 python3.11; do
            if "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
                >/dev/null 2>&1; then
                python=$candidate
                break
            fi
        done
    fi
    if [ -z "$python" ]; then
        echo "error: no Python 3.11, 3.12 or 3.13 found; install one, or set PYTHON to its path" >&2
        return 1
    fi
    [ -x .venv/bin/python ] || "$python" -m venv .venv
    stamp=.venv/installed
    wanted="$(cksum <pyproject.toml) $extras"
    if ! grep -qxF -- "$wanted" "$stamp" 2>/dev/null; then
        echo "installing gdpo_jax$extras into .venv (about 1 GB, a few minutes)"
        # The pip that comes with Python 3.11 takes twice as long over the same packages.
        .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-compile \
            'pip>=25.1'
        # Modules are compiled when they are first imported: most of these never are.
        .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-compile \
            --editable ".$extras"
        printf '%s\n' "$wanted" >>"$stamp"
    fi
}
