# Sourced by contrib/quickstart and tests/run: what both need before anything of botmilter can run.
#
# Debian 12, Ubuntu 24.04 and newer.  Everything here is quick when it has been done before, asks
# nothing, and touches only the packages named below and the folders .venv and .cache of this clone.
# The caller has changed into the clone.

# The Debian packages that botmilter itself needs: an interpreter, libmilter's headers with a
# compiler for pymilter (which comes as source only), nmap for its OS detection, and ip(8) and
# unshare(1) for the private network that demonstration and tests run in.
packages="python3 python3-venv python3-dev gcc libc6-dev libmilter-dev nmap iproute2 util-linux mount passwd"

# Some images forbid Python to keep what it has compiled; a test run starts a thousand of it, and
# each would compile for half a second.
unset PYTHONDONTWRITEBYTECODE

die() {
    echo "${0##*/}: $*" >&2
    exit 1
}

say() {
    echo "== $*"
}

# Start the calling script again under sudo unless it has root already.
become_root() {
    [ "$(id -u)" -eq 0 ] && return
    command -v sudo >/dev/null || die "needs root: run it as root, or install sudo"
    exec sudo -- env ${PYTHON:+"PYTHON=$PYTHON"} "$@"
}

# Run a command; what it prints is shown only if it fails.
quietly() {
    log=$(mktemp)
    status=0
    "$@" </dev/null >"$log" 2>&1 || status=$?
    [ $status -eq 0 ] || cat "$log" >&2
    rm -f "$log"
    return $status
}

# apt-get without questions, and without services being restarted (needrestart, on Ubuntu).
apt() {
    quietly env DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 \
        apt-get -qq -y -o Dpkg::Use-Pty=0 --no-install-recommends "$@"
}

is_installed() {
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

need_packages() {
    missing=
    for package in "$@"; do
        is_installed "$package" || missing="$missing $package"
    done
    [ -z "$missing" ] && return
    command -v apt-get >/dev/null || die "no apt-get here; please install:$missing"
    say "installing$missing"
    # no quotes: one word a package
    apt update && apt install $missing || die "apt-get could not install:$missing"
}

# Make .venv and install botmilter with the extras $1 into it, unless just that has been done.
need_venv() {
    python=${PYTHON:-/usr/bin/python3}
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        die "$python is older than Python 3.11; name a newer one: PYTHON=/path/to/python3.12 $0"
    .venv/bin/python -c "import pip" 2>/dev/null || "$python" -m venv --clear .venv
    wanted=$( (pwd && cat setup.cfg pyproject.toml) | sha256sum)
    stamp=.venv/installed-$(echo "$1" | tr , -)
    if [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ]; then
        say "installing botmilter[$1] into .venv"
        quietly .venv/bin/python -m pip install --disable-pip-version-check --use-pep517 \
            --editable ".[$1]" || die "pip could not install botmilter[$1]"
        echo "$wanted" >"$stamp"
    fi
}

# Programs that only the demonstration and the tests run: unpacked, never installed, so that no
# service is started and the machine's own MTA stays what it is.  Sets $unpacked for tests/lab/enter.
need_unpacked() {
    unpacked=$(tests/lab/unpack .cache/unpacked "$@") ||
        die "could not unpack the programs for the laboratory: $*"
}

# Run a command with those programs in a private room that nothing leaves; it dies with us.
in_room() {
    setpriv --pdeathsig TERM tests/lab/enter "$unpacked" "$@"
}

# Files made by root belong to whoever owns the clone, or he could not remove them.
give_back() {
    [ -O . ] || find . -xdev -user root -exec chown --no-dereference --reference=. {} +
}
