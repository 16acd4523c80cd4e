# POSIX sh, to be sourced by ./pkgc and ./check: makes the virtual environments of a checkout. Not installed.
#
# Needs: $program (for messages), $root (the checkout). Gives: environment_is_ready, make_environment.
#
# An environment is ready when its stamp `.ready` holds the path of this checkout and has exactly the mtime of
# pyproject.toml: one test without a process. Every other state is settled by make_environment under a lock.

say() { printf '%s: %s\n' "$program" "$*" >&2; }

fail() {
    say "$@"
    exit 1
}

# environment_is_ready DIR: builtins only, this runs before every command.
environment_is_ready() {
    [ -x "$1/bin/python3" ] && [ -f "$1/.ready" ] || return 1
    [ "$1/.ready" -nt "$root/pyproject.toml" ] && return 1
    [ "$1/.ready" -ot "$root/pyproject.toml" ] && return 1
    # A moved or copied checkout: the scripts of its environment name the old place.
    read -r made_in <"$1/.ready" && [ "$made_in" -ef "$root" ]
}

# find_python: sets $python to one that is new enough and can make environments; says what is missing if none.
find_python() {
    too_old='' lacks_venv=''
    for name in python3.14 python3.13 python3.12 python3.11 python3 python; do
        python=$(command -v "$name") || continue
        # A shim on PATH may stand for nothing: whatever does not answer is passed over.
        answer=$("$python" -I -c '
import sys
if sys.version_info < (3, 11):
    print("old", sys.version.split()[0])
else:
    try:
        import ensurepip, venv
        print("good")
    except ImportError:
        print("bare", "python%d.%d" % sys.version_info[:2])
' 2>/dev/null) || continue
        case $answer in
        good) return 0 ;;
        old*) too_old="$python is ${answer#old }" ;;
        bare*) lacks_venv="$python" package="${answer#bare }-venv" ;;
        esac
    done
    if [ -n "$lacks_venv" ]; then
        say "$lacks_venv cannot make virtual environments: its modules venv and ensurepip are missing"
        fail "on Debian and Ubuntu: apt-get install $package"
    fi
    fail "needs Python 3.11 or newer in PATH, found ${too_old:-none}"
}

# with_lock DIR COMMAND…: run COMMAND while no other process works on DIR.
with_lock() {
    lock="$1/.lock"
    shift
    if command -v flock >/dev/null 2>&1; then
        # The descriptor ends with the subshell: a daemon started later must not inherit it.
        (
            flock -n 9 || {
                say "another process prepares ${lock%/.lock}, waiting for it"
                flock 9
            }
            "$@" 9>&-
        ) 9>>"$lock"
    else
        # No flock (macOS): a folder is made by one process only; one whose maker is gone does not count.
        told=''
        until mkdir "$lock.d" 2>/dev/null; do
            owner=$(cat "$lock.d/pid" 2>/dev/null)
            if [ -n "$owner" ] && ! kill -0 "$owner" 2>/dev/null; then
                rm -rf "$lock.d"
                continue
            fi
            [ -n "$told" ] || say "another process prepares ${lock%/.lock}, waiting for it"
            told=1
            sleep 1
        done
        (
            trap 'rm -rf "$lock.d"' EXIT
            echo "$$" >"$lock.d/pid"
            "$@"
        )
    fi
}

# make_environment DIR EXTRAS [PIP OPTIONS]: make or mend the environment; EXTRAS is '' or like '[test]'.
make_environment() {
    mkdir -p "$1" || fail "cannot create $1"
    with_lock "$1" build_environment "$@" || exit 1
}

# build_environment DIR EXTRAS [PIP OPTIONS], under the lock.
build_environment() {
    env_dir=$1 extras=$2
    shift 2
    environment_is_ready "$env_dir" && return 0 # another process was first
    kept="$env_dir/.pyproject.toml"
    # Only the mtime differs (a new checkout of the same file): nothing to install.
    if [ -x "$env_dir/bin/python3" ] && [ -f "$env_dir/.ready" ] && cmp -s "$kept" "$root/pyproject.toml" &&
        read -r made_in <"$env_dir/.ready" && [ "$made_in" -ef "$root" ]; then
        touch -r "$root/pyproject.toml" "$env_dir/.ready"
        return 0
    fi
    # Without the stamp the environment counts as incomplete from here on.
    if [ -x "$env_dir/bin/python3" ] && [ -f "$env_dir/.ready" ] && read -r made_in <"$env_dir/.ready" &&
        [ "$made_in" -ef "$root" ]; then
        say "pyproject.toml has changed: updating $env_dir"
        rm -f "$env_dir/.ready"
    else
        find_python
        say "preparing its environment in $env_dir (once; this takes a while)"
        for part in .ready bin include lib lib64 share pyvenv.cfg; do rm -rf "${env_dir:?}/$part"; done
        quietly "$python" -I -m venv "$env_dir" || fail "could not make $env_dir with $python"
    fi
    cp "$root/pyproject.toml" "$kept" && touch -r "$root/pyproject.toml" "$kept" || return 1
    quietly "$env_dir/bin/python3" -m pip install --quiet --disable-pip-version-check --no-input \
        --editable "$root$extras" "$@" || fail "could not install pkgc into $env_dir"
    # The copy, not the file: an edit since the copy was taken shows as another mtime.
    (cd "$root" && pwd) >"$env_dir/.ready" && touch -r "$kept" "$env_dir/.ready"
}

# quietly COMMAND…: its output appears only if it fails.
quietly() {
    output=$("$@" 2>&1) && return 0
    printf '%s\n' "$output" >&2
    return 1
}
