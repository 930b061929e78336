# shellcheck shell=bash
# Private servers in a folder of the caller's: PostgreSQL and an S3 server (SeaweedFS), on free ports of 127.0.0.1.
#
# Sourced by demo/run and bench/run. Both servers die with `stop_servers`. No other server is asked, touched or stopped.

postgres_bin=$(compgen -G '/usr/lib/postgresql/*/bin' | sort -V | tail -n 1)
server_folder=
seaweedfs_pid=
seaweedfs_ports=()

# free_ports COUNT: that many different ports that nobody listens on now.
free_ports() {
  python3 - "$1" <<'PYTHON'
import socket, sys
sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(int(sys.argv[1]))]
print(*(s.getsockname()[1] for s in sockets))
PYTHON
}

# PostgreSQL refuses to run as root: there its programs run as the user of Debian's package.
as_postgres() {
  if [ "$(id -u)" = 0 ]; then
    setpriv --reuid=postgres --regid=postgres --clear-groups "$@"
  else
    "$@"
  fi
}

# start_postgres FOLDER [SETTING=VALUE…]: a cluster in FOLDER/postgres, made anew if it is not there yet. Its superuser's
# password goes to FOLDER/postgres-password. Exports PGHOST, PGPORT, PGUSER, PGPASSFILE. The user postgres must be able to
# enter FOLDER.
start_postgres() {
  local folder=$1 data=$1/postgres password
  shift
  server_folder=$folder
  export PGHOST=127.0.0.1 PGUSER=postgres PGPASSFILE=$folder/pgpass
  PGPORT=$(free_ports 1)
  export PGPORT
  if [ ! -e "$data/PG_VERSION" ]; then
    password=$(head -c 18 /dev/urandom | base64 | tr '/+' 'ab')
    (umask 077 && echo "*:*:*:postgres:$password" >"$PGPASSFILE" && printf '%s' "$password" >"$folder/postgres-password")
    mkdir -p "$data"
    [ "$(id -u)" != 0 ] || chown postgres: "$data" "$folder/postgres-password"
    as_postgres "$postgres_bin/initdb" --pgdata="$data" --username=postgres --auth=scram-sha-256 \
      --pwfile="$folder/postgres-password" --encoding=UTF8 --locale=C.UTF-8 --no-sync >/dev/null
  fi
  {
    printf '%s\n' "port=$PGPORT" "listen_addresses='127.0.0.1'" "unix_socket_directories='$data'" fsync=off
    printf '%s\n' "$@"
  } >"$folder/postgresql.conf"
  as_postgres tee "$data/postgresql.auto.conf" <"$folder/postgresql.conf" >/dev/null
  as_postgres "$postgres_bin/pg_ctl" --pgdata="$data" --log="$data/log" --wait --silent start >/dev/null
}

# start_seaweedfs FOLDER BUCKET: an S3 server over FOLDER/seaweedfs with one bucket. Makes FOLDER/s3_access
# and FOLDER/s3_secret; exports S3_ENDPOINT, and for who counts: STORE_PID and STORE_METRICS.
start_seaweedfs() {
  local folder=$1 bucket=$2 ports
  read -ra ports < <(free_ports 9)
  seaweedfs_ports=("${ports[@]}")
  mkdir -p "$folder/seaweedfs"
  [ -e "$folder/s3_secret" ] || (
    umask 077
    head -c 10 /dev/urandom | base32 >"$folder/s3_access"
    head -c 30 /dev/urandom | base64 | tr '/+' 'ab' >"$folder/s3_secret"
    printf '{"identities":[{"name":"writer","credentials":[{"accessKey":"%s","secretKey":"%s"}],"actions":["Admin"]}]}' \
      "$(<"$folder/s3_access")" "$(<"$folder/s3_secret")" >"$folder/s3.json"
  )
  weed -logtostderr=true server -dir="$folder/seaweedfs" -ip=127.0.0.1 -ip.bind=127.0.0.1 \
    -master.port="${ports[0]}" -master.port.grpc="${ports[1]}" -master.volumeSizeLimitMB=1024 -master.telemetry=false \
    -volume.port="${ports[2]}" -volume.port.grpc="${ports[3]}" -volume.max=0 \
    -filer.port="${ports[4]}" -filer.port.grpc="${ports[5]}" \
    -s3 -s3.port="${ports[6]}" -s3.port.grpc="${ports[7]}" -s3.port.iceberg=0 -s3.port.lance=0 \
    -metricsIp=127.0.0.1 -metricsPort="${ports[8]}" \
    -s3.config="$folder/s3.json" -s3.localSocket="$folder/s3.sock" -filer.localSocket="$folder/filer.sock" \
    >"$folder/seaweedfs.log" 2>&1 &
  seaweedfs_pid=$!
  export S3_ENDPOINT=http://127.0.0.1:${ports[6]} STORE_PID=$seaweedfs_pid
  export STORE_METRICS=http://127.0.0.1:${ports[8]}/metrics
  local tries
  for ((tries = 0; tries < 150; tries++)); do
    # Its parts come up one after the other: the S3 port may be open before a bucket can be made.
    if (exec 3<>"/dev/tcp/127.0.0.1/${ports[6]}") 2>/dev/null \
      && echo "s3.bucket.create -name $bucket" \
      | weed shell -master="127.0.0.1:${ports[0]}.${ports[1]}" >"$folder/seaweedfs-shell.log" 2>&1; then
      return
    fi
    kill -0 "$seaweedfs_pid" 2>/dev/null || break
    sleep 0.2
  done
  tail -n 5 "$folder/seaweedfs.log" >&2
  return 1
}

# The S3 server would take half a minute to take its leave, and its folder is not used again.
stop_servers() {
  if [ -n "$seaweedfs_pid" ]; then
    kill -KILL "$seaweedfs_pid" 2>/dev/null || true
    wait "$seaweedfs_pid" 2>/dev/null || true
    # It puts some sockets into /tmp whatever it is told.
    local port
    for port in "${seaweedfs_ports[@]}"; do rm -f /tmp/seaweedfs-*-"$port".sock; done
  fi
  if [ -n "$server_folder" ] && [ -e "$server_folder/postgres/postmaster.pid" ]; then
    as_postgres "$postgres_bin/pg_ctl" --pgdata="$server_folder/postgres" --mode=fast --silent stop >/dev/null || true
  fi
}
