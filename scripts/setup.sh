#!/usr/bin/env bash
# Makes .venv with exactly what requirements.lock names. Done once for each lock: the stamp remembers which.
set -eu
cd "$(dirname "$0")/.."
stamp=".venv/.ready-$(cat requirements.lock pyproject.toml | sha256sum | cut -c1-16)"
[ -e "$stamp" ] && exit 0

die() { echo "setup: $1" >&2; exit 1; }

# Microseconds of processor time of a little work, the best of some tries; fails where it is older than 3.11.
speed_of() {
    "$1" -c '
import sys, time
sys.version_info < (3, 11) and sys.exit(1)
def work(found={}):
    for n in range(20_000):
        found[n & 255] = "%d-%s" % (n, len(found)), n
def tried():
    began = time.process_time()
    work()
    return time.process_time() - began
print(int(min(tried() for _ in range(9)) * 1e6))' 2>/dev/null
}

# A Python that was compiled without its own profile (as pyenv does it) takes half as long again as one of a distribution. So the
# first that is there makes room for another that takes less than 5/6 of its time. They take turns: others may be at work here.
candidates=()
for candidate in "${PYTHON:-}" python3 python3.13 python3.12 python3.11 /usr/bin/python3 /usr/bin/python3.11; do
    if [ -n "$candidate" ] && command -v "$candidate" >/dev/null 2>&1 && speed_of "$candidate" >/dev/null; then
        candidates+=("$candidate")
        if [ "$candidate" = "${PYTHON:-}" ]; then break; fi
    elif [ -n "$candidate" ] && [ "$candidate" = "${PYTHON:-}" ]; then
        die "PYTHON=$PYTHON does not run, or is older than 3.11. Name another one, or none"
    fi
done
declare -A took=()
for _ in 1 2 3 4 5; do
    for candidate in "${candidates[@]}"; do
        if [ "${#candidates[@]}" = 1 ]; then break; fi
        takes="$(speed_of "$candidate")" || continue
        if [ "$takes" -lt "${took[$candidate]:-99999999}" ]; then took[$candidate]="$takes"; fi
    done
done
python="${candidates[0]:-}"
for candidate in "${candidates[@]}"; do
    if [ "$((${took[$candidate]:-0} * 6))" -lt "$((${took[$python]:-0} * 5))" ]; then python="$candidate"; fi
done
[ -n "$python" ] || die "no Python of version 3.11 or newer found. Install one (Debian: apt-get install python3) or name it: PYTHON=/path make …"

# Debian ships venv without ensurepip in a package of its own; without it `-m venv` leaves a .venv that has no pip, and any other
# Python's pip puts one in.
make_venv() {
    rm -rf .venv
    "$python" -m venv .venv >/dev/null 2>&1 && return 0
    rm -rf .venv
    "$python" -m venv --without-pip .venv >/dev/null 2>&1 || return 1
    for one in "$python" python3; do
        "$one" -m pip --python .venv/bin/python install -q pip >/dev/null 2>&1 && return 0
    done
    rm -rf .venv
    return 1
}

if ! [ -x .venv/bin/python ] || ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
    echo "setup: making .venv with $("$python" --version)"
    if ! make_venv; then
        if "$python" -m virtualenv --version >/dev/null 2>&1; then
            "$python" -m virtualenv -q .venv
        elif [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
            echo "setup: installing python3-venv"
            version="$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')"
            { apt-get install -y -q python3-venv "python$version-venv" || { apt-get update -q && apt-get install -y -q python3-venv "python$version-venv"; }; } \
                >/tmp/ballast-setup-apt.log 2>&1 || die "apt-get could not install python3-venv: see /tmp/ballast-setup-apt.log"
            make_venv || die "$python -m venv still fails; run it by hand to see why"
        else
            die "$python cannot make virtual environments. Ask an administrator for: apt-get install python3-venv"
        fi
    fi
fi

echo "setup: installing the locked packages and compiling kernels (once)"
log=.venv/setup.log
.venv/bin/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements.lock >"$log" 2>&1 &&
    .venv/bin/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e . >>"$log" 2>&1 ||
    { tail -n 20 "$log" >&2; die "the packages could not be installed; the whole log is in $log. Run the same command again when the cause is mended."; }
.venv/bin/python -m ballast.vault.warm >>"$log" 2>&1 || die "the kernels could not be compiled; see $log"
rm -f .venv/.ready-*
touch "$stamp"
