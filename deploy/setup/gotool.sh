#!/bin/bash
# Compiles a pinned Go program into .tools/bin, unless that version is there:
#
#	gotool.sh PACKAGE MODULE VERSION HOW-LONG
set -euo pipefail

package=$1 module=$2 version=$3 long=$4

bin=$(cd "$(dirname "$0")/../.." && pwd)/.tools/bin
program=$bin/${package##*/}

installed() {
	go version -m "$program" 2>/dev/null | awk -v m="$module" -v v="$version" \
		'$1 == "mod" && $2 == m && $3 == v { found = 1 } END { exit !found }'
}

if installed; then
	exit 0
fi

started=$SECONDS
echo "==> Compiling ${package##*/} $version, this once: about $long"
mkdir -p "$bin"
# The program's own module decides its flags, not this tree's or the user's.
(cd / && GOBIN=$bin CGO_ENABLED=0 GOFLAGS='-buildvcs=false -trimpath' GOWORK=off go install "$package@$version")
echo "    compiled in $((SECONDS - started)) s"
