#!/bin/sh
# Runs `ottla` with the words it is given, as the replica that this container is.
#
# A replica must be the same one after every restart (group instance id and data folder), and all replicas of a service have one
# environment. What tells them apart is the number that compose gives a container in its name (`ottla-streams-2`), and Docker's own name
# server tells a container its name by its address. /etc/hosts would only say the container's id, which changes: so DNS alone is asked.
set -eu
if [ "${WORKER_FROM_CONTAINER_NAME:-no}" = yes ]; then
  worker=
  for _ in 1 2 3 4 5 6 7 8 9 10; do  # a machine that has much to do may answer late
    for address in $(hostname -i); do
      worker=$(getent -s hosts:dns hosts "$address" | { read -r _ name _ && echo "${name%%.*}"; }) || worker=
      [ -z "$worker" ] || break 2
    done
    sleep 1
  done
  if [ -z "$worker" ]; then
    echo "The name of this container could not be found out: set OTTLA_WORKER to a name of its own instead of WORKER_FROM_CONTAINER_NAME." >&2
    exit 1
  fi
  export OTTLA_WORKER="$worker"
fi
exec ottla "$@"
