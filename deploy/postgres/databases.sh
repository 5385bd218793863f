#!/bin/sh
# Runs once, on an empty volume: one database and one owner each for MLflow and Prefect.
set -eu
psql --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" \
  --set mlflow="$MLFLOW_DATABASE_PASSWORD" --set prefect="$PREFECT_DATABASE_PASSWORD" <<'SQL'
CREATE ROLE mlflow LOGIN PASSWORD :'mlflow';
CREATE ROLE prefect LOGIN PASSWORD :'prefect';
CREATE DATABASE mlflow OWNER mlflow;
CREATE DATABASE prefect OWNER prefect;
REVOKE CONNECT ON DATABASE mlflow, prefect FROM PUBLIC;
\connect prefect
CREATE EXTENSION pg_trgm;
SQL
