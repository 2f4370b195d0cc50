# Shared by ops/run, ops/test and ops/bench. Sourced by them, not run.

# The checkout, whatever the caller's folder is.
cd "$(dirname "${BASH_SOURCE[0]}")/.."
target=${CARGO_TARGET_DIR:-target}

say() { printf '%12s  %s\n' "$1" "$2" >&2; }
fail() {
  say error "$1"
  exit 1
}

# The Debian packages that are missing here, one per line; with `tests` or `faults` those too that only
# these need.
missing_packages() {
  # With existing servers given, none is started and none is needed.
  if [[ -z ${GUICHET_DATABASE_URL:-} || -z ${GUICHET_AMQP_URL:-} ]]; then
    compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || echo postgresql
    compgen -G '/usr/lib/rabbitmq/lib/*/sbin/rabbitmq-server' >/dev/null || echo rabbitmq-server
  fi
  # Rust links with cc, and some crates compile C.
  if ! echo '#include <stdio.h>' | cc -E -o /dev/null - 2>/dev/null; then
    echo gcc
    echo libc6-dev
  fi
  command -v setpriv >/dev/null || echo util-linux
  # Stripe's own Python library is put into an environment of its own.
  if [[ ${1:-} == tests ]] && ! python3 -c 'import venv, ensurepip' 2>/dev/null; then
    echo python3
    echo python3-venv
  fi
  # Sets the clocks of single processes.
  if [[ ${1:-} == faults ]] && ! compgen -G '/usr/lib/*/faketime/libfaketimeMT.so.1' >/dev/null; then
    echo libfaketime
  fi
}

# Runs a command as root.
as_root() {
  if [[ $EUID -eq 0 ]]; then "$@"; else sudo "$@"; fi
}

# Takes back what install_packages put aside.
allow_services() {
  as_root rm -f "${put_aside[@]}"
  put_aside=()
}

# Installs what is missing. The packages would each start a server of the machine's own; nobody asked
# for those, so their starting is forbidden for the time of the installation, unless somebody has
# already decided that for this machine. `install_packages tests` or `install_packages faults` for
# theirs too.
install_packages() {
  local packages
  mapfile -t packages < <(missing_packages "$@")
  [[ ${#packages[@]} -eq 0 ]] && return
  local how="apt-get install ${packages[*]}"
  command -v apt-get >/dev/null ||
    fail "missing: ${packages[*]} (names of Debian packages). This is not Debian: install them your way, or set GUICHET_DATABASE_URL and GUICHET_AMQP_URL"
  if [[ $EUID -ne 0 ]]; then
    command -v sudo >/dev/null || fail "missing: ${packages[*]}. Neither root nor sudo here; run as root: $how"
    # Without a terminal sudo cannot ask for a password.
    [[ -t 0 ]] || sudo -n true 2>/dev/null || fail "missing: ${packages[*]}. sudo wants a password and there is no terminal; run as root: $how"
  fi
  say install "${packages[*]} (apt-get)"
  put_aside=()
  trap allow_services EXIT
  local policy=/usr/sbin/policy-rc.d cluster=/etc/postgresql-common/createcluster.d/guichet-install.conf
  if [[ ! -e $policy ]]; then
    put_aside+=("$policy")
    printf '#!/bin/sh\nexit 101\n' | as_root install -m 755 /dev/stdin "$policy"
  fi
  put_aside+=("$cluster")
  as_root mkdir -p "${cluster%/*}"
  echo 'create_main_cluster = false' | as_root install -m 644 /dev/stdin "$cluster"
  as_root apt-get -qq update || say install "apt-get update failed; trying with the lists that are there"
  as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends "${packages[@]}" >&2 </dev/null ||
    fail "the installation failed; see above, then try: $how"
  allow_services
  trap - EXIT
}

need_cargo() {
  # rustup puts it here, and a login shell that has not been restarted does not know yet.
  command -v cargo >/dev/null || PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin
  command -v cargo >/dev/null || fail "cargo is missing: install Rust from https://rustup.rs"
}

# cargo with a name and the time it took.
build() {
  local what=$1 began=$SECONDS
  shift
  say build "$what"
  cargo "$@" || fail "$what did not build"
  say build "$what: $((SECONDS - began)) s"
}
