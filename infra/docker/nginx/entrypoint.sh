#!/bin/sh
# Writes the configuration with the limits of the environment, finds the certificate, and becomes nginx.
set -eu
for name in WEBHOOK_RATE WEBHOOK_BURST API_RATE API_BURST CONNECTIONS; do
  eval "value=\${$name}"
  case $value in
    '' | 0 | *[!0-9]*) echo "$name is '$value': set it to a whole number above 0." >&2; exit 2 ;;
  esac
done
certificate=/etc/ottla/tls/tls.crt key=/etc/ottla/tls/tls.key
if [ "${TLS:-}" = "" ]; then
  certificate=/tmp/tls.crt key=/tmp/tls.key
  echo "No certificate was given: this one signs itself, to try with. For production set TLS_FOLDER to the folder of tls.crt and tls.key." >&2
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -noenc -days 30 -subj /CN=localhost \
    -addext subjectAltName=DNS:localhost,IP:127.0.0.1 -out "$certificate" -keyout "$key" 2>/dev/null
fi
for file in "$certificate" "$key"; do
  if ! [ -r "$file" ]; then
    echo "$file cannot be read by user id $(id -u): put tls.crt and tls.key into the folder that TLS_FOLDER names, readable by that id." >&2
    exit 2
  fi
done
export CERTIFICATE="$certificate" KEY="$key"
# shellcheck disable=SC2016  # these are names for envsubst, everything else with a dollar is nginx's own
envsubst '$WEBHOOK_RATE $WEBHOOK_BURST $API_RATE $API_BURST $CONNECTIONS $CERTIFICATE $KEY' \
  </usr/local/lib/ottla/nginx.conf.template >/tmp/nginx.conf
exec "$@"
