# Succeeds once the master has told those of its life before where it is now. A worker that registers without having been
# told is taken for one that has no executors, and those that it has are ended; so nobody is led here sooner. One that has
# gone in between never answers: nobody waits for it longer than 20 s.
status() {
    exec 3<>"/dev/tcp/$POD_IP/8080" || return
    printf 'GET /json/ HTTP/1.0\r\n\r\n' >&3
    grep -o '"status" : "[A-Z_]*"' <&3
}

until found=$(status 2>/dev/null); [[ $found == *ALIVE* ]]; do
    [ "$found" ] || SECONDS=0
    [ $SECONDS -lt 20 ] || break
    sleep 0.2
done
