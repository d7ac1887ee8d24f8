# Ask the worker to leave, and wait until its executors have finished their tasks and moved their blocks.
# The grace period bounds the wait; Kubernetes keeps the last word of a container that it kills then.
told=${TRIREME_TERMINATION_LOG:-/dev/termination-log}
# Is there once the worker was told to end, by which its executors end with what they have in hand.
ending=${TMPDIR:-/tmp}/trireme-ending
# Moving blocks takes less time than starting an executor to move them to.
patience=$((${TRIREME_DRAIN_SECONDS:-30} / 2))

# Print the answer to a GET, or "busy" where none comes in time: host, port, path.
get() {
    timeout 3 bash -c 'exec 3<>"/dev/tcp/$0/$1" && printf "GET $2 HTTP/1.0\r\n\r\n" >&3 && cat <&3' "$@" 2>/dev/null
    [ $? = 124 ] && echo busy
}

find_executors() {
    found=$(grep -ls '[C]oarseGrainedExecutorBackend' /proc/[0-9]*/cmdline | sed 's|/proc/||; s|/cmdline||')
}

# Print the hosts of the workers in a state, this one among them, or "busy".
workers() {
    get "$MASTER_HOST" 8080 /json/workers |
        sed -n "/^busy$/ p; /^ *\"host\" : / {s/.* : \"//; s/\",//; h}; /^ *\"state\" : \"$1\"/ {g; p}"
}

others() {
    workers "$1" | grep -vxF "$POD_IP"
}

# Tell, by its process, what an executor has to look forward to:
# "followed" if there is another one of its application on a worker that stays, "alone" if there is none yet,
# "unknown" if it has no blocks yet, or if it may be that nobody follows.
outlook() {
    driver= app= id= last=
    while IFS= read -r -d '' word; do
        case $last in
            --driver-url) driver=${word#*@} driver=${driver%:*} ;;
            --app-id) app=$word ;;
            --executor-id) id=$word ;;
        esac
        last=$word
    done <"/proc/$1/cmdline"
    # Executors are listed with a port as soon as they can take blocks: a line "ID HOST" for each, and the driver's.
    answer=$(get "$driver" 4040 "/api/v1/applications/$app/executors")
    listed=$(sed -n '/^ *"id" : / {s/.* : "//; s/",//; h}; /^ *"hostPort" : ".*:/ {s/.* : "//; s/:.*//; H; x; s/\n/ /p}' \
        <<<"$answer")
    if [ "${answer##*$'\n'}" = busy ]; then
        # The first answer takes seconds.
        echo alone
    elif ! grep -qx "$id $POD_IP" <<<"$listed"; then
        # The driver has not seen it, or has no user interface, or another port for it.
        echo unknown
    elif staying=$(others ALIVE); then
        sed -n '/^driver /! s/.* //p' <<<"$listed" | grep -qxF "$staying" && echo followed || echo alone
    else
        echo unknown
    fi
}

# An executor that finds no other one as it begins to leave moves nothing, ever (Spark's BlockManagerDecommissioner).
# If others are leaving already, one will come for them soon; meanwhile they may be moving their blocks here.
while
    find_executors
    outlooks=$(for pid in $found; do outlook "$pid"; done)
    [[ $outlooks = *alone* ]] && [ $SECONDS -lt $patience ] && others DECOMMISSIONED >/dev/null
do
    sleep 0.2
done
# It is stopped until one has come: the master starts one for each that it takes for leaving. Only the driver may tell an
# executor to leave: one that is asked by a signal, too, ends at once, by an error. One that the driver does not know yet is
# told when it comes to it (spark.scheduler.maxRetainedUnknownDecommissionExecutors).
stopped=
for pid in $found; do
    case $(outlook "$pid") in
        alone | followed) kill -STOP "$pid" && stopped="$stopped $pid" ;;
    esac
done
kill -PWR 1
# Those that leave in the same moment are to be seen leaving, lest they count on each other: this one by then, and
# those that had looked before it was.
if [ "$stopped" ]; then
    while [ $SECONDS -lt $patience ] && workers ALIVE | grep -qxF -e busy -e "$POD_IP"; do sleep 0.1; done
    sleep 1
fi
while find_executors; [ "$found" ]; do
    set -- $found
    echo "{\"trireme\": {\"executors\": $#}}" >"$told"
    still=
    for pid in $stopped; do
        if [ $SECONDS -lt $patience ] && [ "$(outlook "$pid")" = alone ]; then
            still="$still $pid"
        else
            kill -CONT "$pid"
        fi
    done
    stopped=$still
    sleep 0.2
done
[ -e "$ending" ] || : >"$told"
