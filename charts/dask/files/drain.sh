# Ask the worker to hand over what it holds, and wait for it. The grace period bounds the wait.
state=${TRIREME_STATE_DIR:-/tmp/trireme}
mkdir -p "$state"
# Asked again and again, because a worker that is just starting forgets what an earlier process was asked.
until [ -e "$state/drained" ]; do
    : >"$state/drain"
    sleep 0.1
done
# Tells the worker that nobody waits any more, so it may exit without taking this script with it.
rm -f "$state/drained"
