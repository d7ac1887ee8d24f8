{{/* The container of a Redis broker. Arguments: root, bytes (its memory limit), auth (where its password is). */}}
{{- define "celery.redis" -}}
{{- /*
The password comes on standard input, where no process list shows it. Three tenths of the memory are left
for rewriting the append-only file; at the limit Redis refuses tasks rather than forget any. The user `demand`
can count what waits, hear when lists and hashes whose names it knows change, and no more: so the operator
needs no password to size the workers.
*/ -}}
command:
  - sh
  - -c
  - |
    exec redis-server - \
      --dir /data --save "" --appendonly yes --appendfsync everysec \
      --maxmemory {{ mulf (float64 .bytes) 0.7 | floor | printf "%.0f" }} --maxmemory-policy noeviction \
      --notify-keyspace-events Klh <<EOF
    requirepass $REDIS_PASSWORD
    user demand on nopass resetchannels &__keyspace@0__:* -@all +hello +ping +client|setname +client|setinfo +subscribe +llen +hlen ~* (+hgetall +mget %R~trireme.*)
    EOF
env:
  - name: REDIS_PASSWORD
    valueFrom:
      {{- toYaml .auth | nindent 6 }}
  - name: REDISCLI_AUTH
    valueFrom:
      {{- toYaml .auth | nindent 6 }}
ports:
  - {name: tcp-redis, containerPort: 6379}
{{- /*
Told to end, Redis may do so before it has sent the answers of its last commands: a task that it gave to a worker then
is in no list, and the worker has not got it. So before that it is told to run no command that writes: clients wait, and
ask again once it is back. For as long as the pod may take to end, in milliseconds.
*/}}
lifecycle:
  preStop:
    exec: {command: [redis-cli, client, pause, "30000", write]}
{{- /* It answers an error instead while it still loads its file; after that, it answers if it listens. */ -}}
{{- $ping := dict "exec" (dict "command" (list "sh" "-c" "redis-cli ping | grep -q PONG")) }}
{{- $listens := dict "tcpSocket" (dict "port" "tcp-redis") }}
{{ include "common.startAndReady" (dict "probe" $ping "startSeconds" 600 "then" $listens) }}
livenessProbe:
  tcpSocket: {port: tcp-redis}
  periodSeconds: 30
  timeoutSeconds: 10
  failureThreshold: 4
volumeMounts:
  - {name: data, mountPath: /data}
{{- end -}}
