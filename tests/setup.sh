#!/bin/sh
# Installs what the tests need and this machine has not: PostgreSQL and Node.js. On other
# systems than Debian and its relatives, it names what is missing.
set -eu

missing=
postgresql() {
	command -v initdb >/dev/null || ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1
}
postgresql || missing=postgresql
command -v node >/dev/null || missing="$missing nodejs"
command -v npm >/dev/null || missing="$missing npm"
[ -n "$missing" ] || exit 0

sudo=
if [ "$(id -u)" -ne 0 ]; then
	sudo="sudo -n"
	$sudo true 2>/dev/null || sudo=none
fi
if [ "$sudo" = none ] || ! command -v apt-get >/dev/null; then
	echo "The tests need these packages, and they cannot be installed from here (that takes apt-get, and root or sudo): $missing" >&2
	exit 1
fi

export DEBIAN_FRONTEND=noninteractive
$sudo apt-get update -q
case $missing in
*postgresql*)
	# The tests run clusters of their own: none is to be started for good.
	$sudo apt-get install -qy --no-install-recommends postgresql-common
	$sudo sed -i "s/^#\?create_main_cluster.*/create_main_cluster = false/" /etc/postgresql-common/createcluster.conf
	;;
esac
# shellcheck disable=SC2086
$sudo apt-get install -qy --no-install-recommends $missing
