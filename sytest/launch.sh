#!/usr/bin/env bash
# Starts this server for SyTest: writes the configuration that README.md asks
# for and becomes the server. HOMESERVER names the binary.
set -euo pipefail
: "${HOMESERVER:?the path of the homeserver binary}"

addresses="127.0.0.1"
[ -s /proc/net/if_inet6 ] && addresses+=" ::1"
config=$HS_DATA_DIR/homeserver.yaml
{
   echo "server_name: \"$HS_SERVER_NAME\""
   echo "public_base_url: \"$HS_PUBLIC_URL\""
   echo "data: \"$HS_DATA_DIR\""
   echo "listeners:"
   for ip in $addresses; do
      case $ip in *:*) ip="[$ip]" ;; esac
      echo "  - {address: \"$ip:$HS_HTTPS_PORT\", tls: {certificate: \"$HS_TLS_CERT\", key: \"$HS_TLS_KEY\"}}"
   done
   [ -n "$HS_DB_URL" ] && echo "database: {url: \"$HS_DB_URL\"}"
   echo "registration: {open: true, guests: true, password_min_length: 1}"
   echo "limits: {connections_per_address: 0}"
   # SyTest itself does not speak room version 12, and 11 not rightly.
   echo "rooms: {default_version: \"10\"}"
   echo "logging: {level: info}"
   echo "unsafe: {no_rate_limits: true, cheap_password_hashing: true, extra_ca_file: \"$HS_CA_CERT\", no_outbound_deny_list: true, unsafe_durability: true}"
} >"$config"
exec "$HOMESERVER" serve --config "$config"
