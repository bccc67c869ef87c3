#!/bin/bash
# Installs from Debian's packages what the named groups need and lack:
#
#	need.sh GROUP...   groups: web run sound servers race browser
#
# What is already there, however it came, is left alone; with nothing missing
# nothing is asked of the network. It works as root and through sudo; otherwise
# it prints the command to run and fails.
set -euo pipefail

missing=()

# want PACKAGES TEST...: the packages are missing unless the test succeeds.
want() {
	local packages=$1
	shift
	if ! "$@" >/dev/null 2>&1; then
		# One argument may hold several packages.
		read -ra packages <<<"$packages"
		missing+=("${packages[@]}")
	fi
}

has() {
	command -v "$1"
}

has_postgres() {
	has postgres || compgen -G '/usr/lib/postgresql/*/bin/postgres'
}

has_node() {
	node -e 'process.exit(parseInt(process.versions.node) >= 18 ? 0 : 1)'
}

has_sox_mp3() {
	sox --help | grep -qw mp3
}

has_c_compiler() {
	printf '#include <stdlib.h>\nint main(void) { return 0; }\n' |
		"${CC:-gcc}" -x c -fsyntax-only -
}

has_certificates() {
	test -s /etc/ssl/certs/ca-certificates.crt || test -n "${SSL_CERT_FILE:-}"
}

group() {
	case $1 in
	web)
		want ca-certificates has_certificates
		want nodejs has_node
		want npm has npm
		;;
	run)
		want ca-certificates has_certificates
		want postgresql has_postgres
		want ffmpeg has ffprobe
		;;
	sound)
		want espeak-ng has espeak-ng
		want 'sox libsox-fmt-base libsox-fmt-mp3' has_sox_mp3
		;;
	servers)
		want redis-server has redis-server
		;;
	race)
		want 'gcc libc6-dev' has_c_compiler
		;;
	browser)
		want chromium has chromium
		want age has age
		;;
	*)
		echo "need.sh: unknown group $1" >&2
		exit 2
		;;
	esac
}

as_root() {
	if [ "$(id -u)" -eq 0 ]; then
		"$@"
	else
		sudo "$@"
	fi
}

apt() {
	as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq \
		-o Dpkg::Use-Pty=0 -o Dpkg::Options::=--force-confold \
		-o DPkg::Lock::Timeout=120 -o Acquire::Retries=3 "$@"
}

# Debian starts a server when its package is installed. The servers used here
# are private ones, so the system's are kept from starting meanwhile.
policy=/usr/sbin/policy-rc.d

deny_services() {
	[ -e $policy ] && return
	trap allow_services EXIT
	as_root sh -c "printf '#!/bin/sh\nexit 101\n' >$policy && chmod 755 $policy"
}

allow_services() {
	as_root rm -f $policy
}

for name; do
	group "$name"
done
if [ ${#missing[@]} -eq 0 ]; then
	exit 0
fi

if ! has apt-get >/dev/null; then
	echo "Missing, and this is not Debian to install it from: ${missing[*]}" >&2
	exit 1
fi

mapfile -t missing < <(printf '%s\n' "${missing[@]}" | sort -u)
if [ "$(id -u)" -ne 0 ] && ! has sudo >/dev/null; then
	echo 'Not root, and there is no sudo. As root, run:' >&2
	echo "  apt-get update && apt-get install --no-install-recommends ${missing[*]}" >&2
	exit 1
fi

started=$SECONDS
log=$(mktemp)
echo "==> Installing from Debian, 1 to 3 minutes: ${missing[*]}"
deny_services
if ! { apt update && apt install --yes --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
	tail -n 30 "$log" >&2
	echo "apt-get failed; everything it said is in $log" >&2
	exit 1
fi
rm -f "$log"
echo "    installed in $((SECONDS - started)) s"
