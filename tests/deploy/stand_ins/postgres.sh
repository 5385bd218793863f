#!/bin/sh
# Starts PostgreSQL as the image `postgres` does: an empty volume gets a cluster and the scripts of initdb.d.
set -eu
data=/var/lib/postgresql/data
as_owner() { runuser -u postgres -- env HOME=/tmp "$@"; }
install -d -o postgres /var/run/postgresql
if [ ! -s "$data/PG_VERSION" ]; then
  install -d -o postgres -m 700 "$data"
  echo "$POSTGRES_PASSWORD" > /tmp/password
  as_owner initdb --pgdata="$data" --username="$POSTGRES_USER" --pwfile=/tmp/password --auth-local=trust \
    --auth-host=scram-sha-256 --encoding=UTF8 --no-locale
  rm /tmp/password
  echo "host all all all scram-sha-256" >> "$data/pg_hba.conf"
  as_owner pg_ctl --pgdata="$data" --wait --options="-c listen_addresses=" start
  for script in /docker-entrypoint-initdb.d/*.sh; do as_owner sh "$script"; done
  as_owner pg_ctl --pgdata="$data" --wait stop
fi
exec runuser -u postgres -- postgres -D "$data" -c "listen_addresses=*"
