# Sourced after lab.sh by the runners that need KCL 3.5.1: its jars with Java SDK v2, and moto_server 5.2.5 for its leases (DynamoDB).
kcl=$WEIR_LAB/kcl
# kcl_install CLASSES SOURCE...: fetches both once, and compiles the sources together with kcl.d/Worker.java into the folder CLASSES
kcl_install() {
  local code; code=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd); local classes=$1; shift; set -- "$code"/kcl.d/*.java "$@"
  ( flock 7
    python3 -c 'import ensurepip, venv' 2> /dev/null || debian python3-venv
    [ -x "$kcl/bin/moto_server" ] || { python3 -m venv "$kcl" && "$kcl/bin/pip" install -q boto3==1.44.5 'moto[server]==5.2.5'; } ) 7> "$kcl.lock" &&
  kcl_jars=$("$code/jars" kcl-3.5.1 software.amazon.kinesis:amazon-kinesis-client:3.5.1 org.slf4j:slf4j-simple:2.0.17) || return
  [ -n "$(find "$classes" -name "*.class" 2> /dev/null)" ] && [ -z "$(find "$@" -newer "$classes")" ] && return
  rm -rf "$classes" && javac -nowarn -d "$classes" -cp "$kcl_jars/*" "$@"
}
# kcl_leases LOG: starts moto_server; its endpoint is $leases, its process $moto
kcl_leases() {
  local port; port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
  "$kcl/bin/moto_server" -H 127.0.0.1 -p "$port" > "$1" 2>&1 & moto=$!; leases=http://127.0.0.1:$port
  for _ in $(seq 150); do (exec 3<> "/dev/tcp/127.0.0.1/$port") 2> /dev/null && return; sleep 0.2; done; return 1
}
