# shellcheck shell=bash
# What the scripts of this folder share. Sourced, never run; bash 4.4 or newer.
#
# Whatever a script starts runs in a session of its own and is stopped by its process id, so that Ctrl-C, TERM and an
# error all end in one place (`on_exit`), in the order in which things were started, backwards.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$ROOT" || exit 1

TARGET=${CARGO_TARGET_DIR:-target}
[[ $TARGET == /* ]] || TARGET=$ROOT/$TARGET

# Daemons live here, and an ordinary user's path lacks it.
PATH=$PATH:/usr/sbin:/usr/local/sbin

# --- saying things ---------------------------------------------------------------------------------------------------

say() { printf '%s\n' "$*" >&2; }

die() {
  say "$(basename "$0"): $*"
  exit 1
}

have() { command -v "$1" >/dev/null 2>&1; }

# Prints the comment at the head of a script: its help.
help_of() { sed -n '2,/^[^#]/{/^# shellcheck/d;s/^# \{0,1\}//p}' "$1"; }

# 75 -> 1m15s
minutes() { if (($1 < 60)); then printf '%ds' "$1"; else printf '%dm%02ds' $(($1 / 60)) $(($1 % 60)); fi; }

need_cargo() {
  have cargo || PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin
  have cargo || die "cargo is not there: install Rust 1.95 or newer (https://www.rust-lang.org/tools/install)"
  have cc || die "a C compiler is not there (the bundled SQLite needs one): install gcc, on Debian 'apt-get install gcc libc6-dev'"
}

# --- ending ----------------------------------------------------------------------------------------------------------

CLEANUPS=()

# Runs the words as a command when the script ends. The last one given comes first.
at_exit() { CLEANUPS+=("$(printf '%q ' "$@")"); }

on_exit() {
  local status=$? i
  trap '' INT TERM HUP
  trap - EXIT
  stop_bounded
  for ((i = ${#CLEANUPS[@]} - 1; i >= 0; i--)); do eval "${CLEANUPS[i]}" || true; done
  exit "$status"
}
trap on_exit EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

# --- running things --------------------------------------------------------------------------------------------------

# Starts a command in a session of its own, with no open files but its standard ones. Sets STARTED to its process id.
# Inherited files matter: a daemon that keeps a pipe of ours open lets whoever reads from it wait for ever.
STARTED=''
start_alone() {
  (
    trap - EXIT INT TERM HUP
    local file
    for file in /proc/self/fd/* /dev/fd/*; do
      file=${file##*/}
      if [[ $file =~ ^[0-9]+$ ]] && ((file > 2)); then eval "exec $file>&-"; fi
    done
    if have setsid; then exec setsid "$@"; else exec "$@"; fi
  ) </dev/null &
  STARTED=$!
}

# Stops a command that `start_alone` started, and what it started itself.
stop_alone() {
  local pid=$1 signal=${2:-TERM} i
  kill -0 "$pid" 2>/dev/null || return 0
  kill "-$signal" -- "-$pid" 2>/dev/null || kill "-$signal" "$pid" 2>/dev/null || true
  for ((i = 0; i < 100; i++)); do
    kill -0 "$pid" 2>/dev/null || return 0
    sleep 0.1
  done
  kill -KILL -- "-$pid" 2>/dev/null || kill -KILL "$pid" 2>/dev/null || true
}

# Processes without which a bounded command makes no sense, for example the database's.
MUST_LIVE=()

# bounded SECONDS COMMAND...: runs the command, for at most so many seconds and only as long as MUST_LIVE lives.
# Returns its status, 124 when the time was up, 125 when one of MUST_LIVE ended.
bounded() {
  local limit=$1 status=0 child watchdog began=$SECONDS pid
  shift
  start_alone "$@"
  child=$STARTED
  CHILD=$child
  # shellcheck disable=SC2016 # expanded by the inner shell
  start_alone bash -c '
    child=$1 limit=$2; shift 2
    stop() { kill -TERM -- "-$child" || kill -TERM "$child"; sleep 10; kill -KILL -- "-$child" || kill -KILL "$child"; exit; }
    while sleep 1; do
      kill -0 "$child" || exit 0
      ((SECONDS < limit)) || stop
      for other; do kill -0 "$other" || stop; done
    done' watchdog "$child" "$limit" "${MUST_LIVE[@]}" >/dev/null 2>&1
  watchdog=$STARTED
  disown "$watchdog" # or bash would report that it was killed
  WATCHDOG=$watchdog
  wait "$child" 2>/dev/null || status=$?
  CHILD='' WATCHDOG=''
  kill -KILL -- "-$watchdog" 2>/dev/null || kill -KILL "$watchdog" 2>/dev/null || true
  if ((status != 0)); then
    for pid in "${MUST_LIVE[@]}"; do kill -0 "$pid" 2>/dev/null || return 125; done
    ((SECONDS - began < limit)) || return 124
  fi
  return "$status"
}

CHILD='' WATCHDOG=''
stop_bounded() {
  [[ -z $WATCHDOG ]] || stop_alone "$WATCHDOG" KILL
  [[ -z $CHILD ]] || stop_alone "$CHILD" TERM
}

# --- temporary folders, ports ----------------------------------------------------------------------------------------

# A new private folder, deleted at the end. Sets FOLDER. The path is short, since a socket's may have 107 bytes; on a
# disk, since a database that flushes to memory would be measured too fast.
temporary_folder() {
  local base=${TMPDIR:-/tmp}
  if [[ $(stat -f -c %T "$base" 2>/dev/null) == tmpfs && -w /var/tmp ]]; then base=/var/tmp; fi
  ((${#base} < 60)) || base=/tmp
  FOLDER=$(mktemp -d "$base/pool.XXXXXX") || die "could not make a folder under $base"
  at_exit rm -rf "$FOLDER"
}

# A port of this machine that nobody listens on right now. Sets PORT. Below the range that outgoing connections use;
# somebody may still take it before its daemon does, so whoever starts the daemon tries again.
free_port() {
  local i
  for ((i = 0; i < 100; i++)); do
    PORT=$((20000 + (RANDOM * 32768 + RANDOM) % 12000))
    (exec 3<>"/dev/tcp/127.0.0.1/$PORT") 2>/dev/null || return 0
  done
  die "found no free port in 100 tries"
}

# kept_port FILE: the port that was used the last time, where that is written and it is free; else any. Sets PORT.
kept_port() {
  PORT=$(cat "$1" 2>/dev/null) || PORT=''
  if [[ $PORT =~ ^[0-9]+$ ]] && ! (exec 3<>"/dev/tcp/127.0.0.1/$PORT") 2>/dev/null; then return 0; fi
  free_port
}

# pid_in FOLDER: the process id written down in FOLDER/pid, if that process lives; fails when it does not. A stale file may
# name a process that is somebody else's by now, so the process must work in the folder.
pid_in() {
  local pid cwd
  pid=$(cat "$1/pid" 2>/dev/null) && [[ $pid =~ ^[0-9]+$ ]] && kill -0 "$pid" 2>/dev/null || return 1
  if cwd=$(readlink "/proc/$pid/cwd" 2>/dev/null); then
    [[ $cwd == "$(readlink -f "$1")"* ]] || return 1
  fi
  printf '%s' "$pid"
}

# http_get PORT PATH: what a program on this machine answers, without the head; fails unless it says 200 within 5 s.
http_get() {
  local answer
  # shellcheck disable=SC2016 # expanded by the inner shell
  answer=$(timeout 5 bash -c 'exec 3<>"/dev/tcp/127.0.0.1/$1" && printf "GET %s HTTP/1.0\r\n\r\n" "$2" >&3 && cat <&3' get "$1" "$2" \
    2>/dev/null) || return 1
  [[ $answer == "HTTP/1."?" 200 "* ]] || return 1
  printf '%s\n' "${answer#*$'\r\n\r\n'}"
}

random_word() { od -An -N12 -tx1 /dev/urandom | tr -d ' \n'; }

# --- packages --------------------------------------------------------------------------------------------------------

# Installs Debian packages if that is possible without asking anybody. NO_INSTALL=1 forbids it.
install_packages() {
  local sudo=() log=$TARGET/install.log
  [[ -z ${NO_INSTALL:-} ]] && have apt-get || return 1
  if ((EUID != 0)); then
    have sudo || return 1
    if [[ -t 0 ]]; then
      sudo=(sudo)
    else
      sudo -n true 2>/dev/null || return 1
      sudo=(sudo -n)
    fi
  fi
  say "installing $* (apt-get)"
  mkdir -p "$TARGET"
  # Not in a session of its own: sudo may have to ask for a password.
  if ! {
    timeout 300 "${sudo[@]}" apt-get -o DPkg::Lock::Timeout=120 update &&
      timeout 900 "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get -o DPkg::Lock::Timeout=120 install -y --no-install-recommends "$@"
  } >"$log" 2>&1; then
    tail -n 5 "$log" >&2
    say "could not install $*; the whole log is in $log"
    return 1
  fi
}

# --- MariaDB ---------------------------------------------------------------------------------------------------------

# shellcheck disable=SC2034 # used by the scripts
MARIADB_HOWTO="install it ('apt-get install mariadb-server-core mariadb-client-core' on Debian and Ubuntu, 'dnf install \
mariadb-server' on Fedora), or set DATABASE_URL=mysql://user:password@host:port/database to use a server you have"

mariadb_is_there() { have mariadbd && have mariadb && have mariadb-install-db; }

# The core packages have the programs without starting a service of the system's.
ensure_mariadb() {
  mariadb_is_there && return 0
  install_packages mariadb-server-core mariadb-client-core || install_packages mariadb-server || return 1
  hash -r
  mariadb_is_there
}

# --- Redis, nginx ----------------------------------------------------------------------------------------------------

# shellcheck disable=SC2034 # used by the scripts
REDIS_HOWTO="install it ('apt-get install redis-server' on Debian and Ubuntu)"
# shellcheck disable=SC2034 # used by the scripts
NGINX_HOWTO="install it ('apt-get install nginx libnginx-mod-stream' on Debian and Ubuntu)"

ensure_redis() {
  have redis-server && have redis-cli && return 0
  install_packages redis-server || return 1
  hash -r
  have redis-server && have redis-cli
}

# Sets NGINX_STREAM to the file of nginx's stream module; empty: it is built in.
nginx_is_there() {
  have nginx || return 1
  for NGINX_STREAM in /usr/lib/nginx/modules/ngx_stream_module.so /usr/lib64/nginx/modules/ngx_stream_module.so; do
    [[ ! -f $NGINX_STREAM ]] || return 0
  done
  NGINX_STREAM=''
  [[ $(nginx -V 2>&1) == *"--with-stream "* ]]
}

ensure_nginx() {
  nginx_is_there && return 0
  install_packages nginx libnginx-mod-stream || return 1
  hash -r
  nginx_is_there
}

# --- starting MariaDB ------------------------------------------------------------------------------------------------

# mariadb_start FOLDER [OPTION...]: starts a private server whose data are in FOLDER/data, which is made when missing, on the
# port that it had the last time, if it is free.
# Sets MARIADB_PID, MARIADB_PORT, MARIADB_SOCKET, DATABASE_URL and DATABASE_SOCKET.
mariadb_start() {
  local folder=$1 user=() attempt i
  shift
  # It refuses to run as root unless told to.
  ((EUID != 0)) || user=(--user=root)
  mkdir -p "$folder/tmp"
  chmod 700 "$folder"
  MARIADB_SOCKET=$folder/my.sock
  ((${#MARIADB_SOCKET} < 100)) || die "the path of the socket is too long: $MARIADB_SOCKET"
  if [[ ! -s $folder/password ]]; then
    rm -rf "$folder/data"
    timeout 120 mariadb-install-db --no-defaults "${user[@]}" --datadir="$folder/data" --skip-test-db \
      --auth-root-authentication-method=normal --skip-name-resolve >"$folder/install.log" 2>&1 </dev/null || {
      tail -n 20 "$folder/install.log" >&2
      die "mariadb-install-db failed"
    }
  fi
  for attempt in 1 2 3 4 5; do
    kept_port "$folder/port"
    MARIADB_PORT=$PORT
    : >"$folder/err.log"
    start_alone mariadbd --no-defaults "${user[@]}" --datadir="$folder/data" --tmpdir="$folder/tmp" \
      --bind-address=127.0.0.1 --port="$MARIADB_PORT" --socket="$MARIADB_SOCKET" --pid-file="$folder/my.pid" \
      --log-error="$folder/err.log" --skip-name-resolve --skip-log-bin --performance-schema=OFF \
      --max-connections=500 --back-log=500 --max-connect-errors=4294967295 --character-set-server=utf8mb4 \
      --innodb-buffer-pool-size=128M --innodb-log-file-size=96M "$@" >/dev/null 2>&1
    MARIADB_PID=$STARTED
    disown "$MARIADB_PID"
    for ((i = 0; i < 600; i++)); do
      kill -0 "$MARIADB_PID" 2>/dev/null || break
      if mariadb_as_root "$folder" -e 'SELECT 1' >/dev/null 2>&1; then
        printf '%s\n' "$MARIADB_PORT" >"$folder/port"
        mariadb_prepare "$folder"
        return
      fi
      sleep 0.1
    done
    stop_alone "$MARIADB_PID" KILL
    rm -f "$folder/port"
    grep -qi 'address already in use\|bind on tcp/ip port' "$folder/err.log" || break
    say "port $MARIADB_PORT was taken meanwhile (attempt $attempt); trying another"
  done
  tail -n 20 "$folder/err.log" >&2
  die "MariaDB did not start; its log is above"
}

mariadb_as_root() {
  local folder=$1
  shift
  MYSQL_PWD=$(cat "$folder/password" 2>/dev/null) timeout 20 mariadb --no-defaults --socket="$folder/my.sock" \
    -uroot --batch --skip-column-names "$@" </dev/null
}

# One user for everything, with the rights that the suites and tests need: to set global variables (flushing), to kill
# connections, to make databases. Its password is random: other users of this machine can reach the port, too.
mariadb_prepare() {
  local folder=$1 password
  if [[ ! -s $folder/password ]]; then
    password=$(random_word)
    mariadb_as_root "$folder" -e "
      DELETE FROM mysql.global_priv WHERE User = '' OR (User = 'root' AND Host <> 'localhost');
      FLUSH PRIVILEGES;
      CREATE DATABASE pool CHARACTER SET utf8mb4;
      CREATE USER pool@'127.0.0.1' IDENTIFIED BY '$password';
      CREATE USER pool@localhost IDENTIFIED BY '$password';
      GRANT ALL ON *.* TO pool@'127.0.0.1';
      GRANT ALL ON *.* TO pool@localhost;
      ALTER USER root@localhost IDENTIFIED BY '$password';" || die "could not prepare MariaDB"
    (umask 077 && printf '%s' "$password" >"$folder/password")
  fi
  password=$(cat "$folder/password")
  # The driver's default, prefer_socket, would turn every connection over TCP into one over the socket.
  DATABASE_URL="mysql://pool:$password@127.0.0.1:$MARIADB_PORT/pool?prefer_socket=false"
  DATABASE_SOCKET=$MARIADB_SOCKET
  export DATABASE_URL DATABASE_SOCKET
}

MARIADB_PID=''
stop_throwaway_mariadb() { [[ -z $MARIADB_PID ]] || stop_alone "$MARIADB_PID" KILL; }

# A private server for this run alone. Its data are worth nothing afterwards, so it is killed.
throwaway_mariadb() {
  temporary_folder
  at_exit stop_throwaway_mariadb # before it starts, for Ctrl-C may come in between
  mariadb_start "$FOLDER" "$@"
  MUST_LIVE=("$MARIADB_PID")
}
