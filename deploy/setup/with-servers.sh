#!/bin/bash
# Runs a command against servers of its own:
#
#	with-servers.sh COMMAND...
#
# PostgreSQL, Redis and MinIO are started on free loopback ports with their data
# in a new directory, and told to the command by EARMARK_TEST_*. However the
# command ends, the three are stopped and the directory is removed; the exit
# code is the command's.
#
#	EARMARK_SERVERS_DIR    where to make the directory (default /var/tmp)
#	EARMARK_SERVERS_FSYNC  on (default), or off where a crash may lose all
set -euo pipefail

fsync=${EARMARK_SERVERS_FSYNC:-on}
minio=$(cd "$(dirname "$0")/../.." && pwd)/.tools/bin/minio

# PostgreSQL refuses to run as root.
user=$(id -un)
if [ "$(id -u)" -eq 0 ]; then
	user=nobody
	if id postgres >/dev/null 2>&1; then
		user=postgres
	fi
fi

dir=$(mktemp -d "${EARMARK_SERVERS_DIR:-/var/tmp}/earmark-servers.XXXXXX")
chmod 711 "$dir"
pids=()

# stop ends exactly the processes that were started here: politely, then not.
stop() {
	local status=$?
	trap '' INT TERM HUP
	local pid
	for pid in "${pids[@]}"; do
		# SIGINT is PostgreSQL's fast shutdown; the others end on it too.
		kill -INT "$pid" 2>/dev/null || true
	done
	for pid in "${pids[@]}"; do
		local deadline=$((SECONDS + 15))
		while kill -0 "$pid" 2>/dev/null && [ $SECONDS -lt $deadline ]; do
			sleep 0.05
		done
		kill -KILL "$pid" 2>/dev/null || true
		wait "$pid" 2>/dev/null || true
	done
	rm -rf "$dir"
	exit $status
}
trap stop EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

# alone USER COMMAND...: becomes the command, as that user, out of reach of the
# terminal's Ctrl-C, and ended with this script should it be killed.
alone() {
	local as=$1
	shift
	local drop=()
	if [ "$as" != "$(id -un)" ]; then
		drop=(--reuid="$as" --regid="$(id -g "$as")" --clear-groups)
	fi
	exec setsid setpriv "${drop[@]}" --pdeathsig INT -- "$@"
}

free_port() {
	local port
	while :; do
		port=$((20000 + (RANDOM * 32768 + RANDOM) % 12000))
		# Nobody answers on it, so it is free, or as good as.
		if ! (: <"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
			echo $port
			return
		fi
	done
}

# start NAME: runs start_NAME PORT in the background until ready_NAME PORT
# succeeds, with another port if it dies because somebody was quicker.
start() {
	local name=$1 try
	for try in 1 2 3 4 5; do
		port=$(free_port)
		"start_$name" "$port" >"$dir/$name.log" 2>&1 </dev/null &
		local pid=$! deadline=$((SECONDS + 60))
		pids+=("$pid")
		while kill -0 "$pid" 2>/dev/null && [ $SECONDS -lt $deadline ]; do
			# In a subshell: a connection refused to exec would end this one.
			if ("ready_$name" "$port") >/dev/null 2>&1; then
				return
			fi
			sleep 0.05
		done
		if kill -0 "$pid" 2>/dev/null; then
			break
		fi
		wait "$pid" || true
		unset 'pids[-1]'
	done
	echo "with-servers.sh: $name does not start (attempt $try):" >&2
	tail -n 20 "$dir/$name.log" >&2
	exit 1
}

password=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')

postgres_bin() {
	local found
	found=$(compgen -G '/usr/lib/postgresql/*/bin' | sort -V | tail -n 1) || true
	echo "${found:-$(dirname "$(readlink -f "$(command -v postgres)")")}"
}

init_postgres() {
	pg=$(postgres_bin)
	mkdir -m 700 "$dir/postgres"
	(umask 077 && echo "$password" >"$dir/postgres/password")
	chown -R "$user" "$dir/postgres"
	# The password goes over loopback in the clear: cheaper for each of a test
	# run's thousands of connections than SCRAM, and no other user can see it.
	if ! (cd / && alone "$user" "$pg/initdb" --pgdata="$dir/postgres/data" --username=postgres \
		--pwfile="$dir/postgres/password" --auth=password --encoding=UTF8 --locale=C.UTF-8 \
		--no-sync) >"$dir/initdb.log" 2>&1; then
		cat "$dir/initdb.log" >&2
		exit 1
	fi
}

start_postgres() {
	cd /
	alone "$user" "$pg/postgres" -D "$dir/postgres/data" -p "$1" \
		-c listen_addresses=127.0.0.1 -c unix_socket_directories= \
		-c max_connections=400 -c shared_buffers=256MB -c max_wal_size=4GB \
		-c fsync="$fsync" -c synchronous_commit="$fsync" -c full_page_writes="$fsync"
}

ready_postgres() {
	# pg_isready asks the server itself, which says no while it is starting.
	"$pg/pg_isready" -q -h 127.0.0.1 -p "$1"
}

start_redis() {
	alone "$(id -un)" redis-server --bind 127.0.0.1 --port "$1" --requirepass "$password" \
		--save '' --appendonly no --dir "$dir"
}

ready_redis() {
	local line
	exec 3<>"/dev/tcp/127.0.0.1/$1"
	printf 'AUTH %s\r\nPING\r\n' "$password" >&3
	read -r -t 5 line <&3
	read -r -t 5 line <&3
	[ "${line%$'\r'}" = +PONG ]
}

start_minio() {
	# A configured MinIO of the user's, or a CI run, must not change this one.
	local name
	for name in $(compgen -e MINIO_) CI; do
		unset "$name"
	done
	export MINIO_ROOT_USER=earmark MINIO_ROOT_PASSWORD=$password MINIO_BROWSER=off MINIO_UPDATE=off
	alone "$(id -un)" "$minio" server --quiet --address "127.0.0.1:$1" "$dir/minio"
}

ready_minio() {
	local line
	exec 3<>"/dev/tcp/127.0.0.1/$1"
	printf 'GET /minio/health/cluster HTTP/1.1\r\nHost: minio\r\nConnection: close\r\n\r\n' >&3
	read -r -t 5 line <&3
	[[ $line == *' 200 '* ]]
}

init_postgres
start postgres
export EARMARK_TEST_DATABASE_URL="postgres://postgres:$password@127.0.0.1:$port/postgres?sslmode=disable"
start redis
export EARMARK_TEST_REDIS_URL="redis://default:$password@127.0.0.1:$port/0"
start minio
export EARMARK_TEST_S3_ENDPOINT="http://127.0.0.1:$port"
export EARMARK_TEST_S3_ACCESS_KEY=earmark
export EARMARK_TEST_S3_SECRET_KEY=$password

"$@"
