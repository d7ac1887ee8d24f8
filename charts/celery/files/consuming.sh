# Succeeds while the worker consumes: its heartbeat, every 2 s, goes through the broker connection and touches a file.
heartbeat=${TRIREME_STATE_DIR:-/tmp/trireme}/heartbeat
last=$(stat -c %Y "$heartbeat" 2>/dev/null) || exit 1
[ $(($(date +%s) - last)) -le "${1:-15}" ]
