{{/* The container of a RabbitMQ broker. Arguments: root, bytes (its memory limit), auth (where its password is). */}}
{{- define "celery.rabbitmq" -}}
{{- /*
It sees the node's memory only, unless it is told its own. Workers may hold a task for a week: by default it would take
one back after 30 minutes, and so run it twice. The log of what is not in queues' own files yet is kept small, as it is
in memory, too. Definitions are read at each start, so that the password is always the Secret's.

A quorum queue gives a task to a worker again five times at most after its worker was lost. Then, and when a worker
rejects it, it goes to the queue trireme.dead; from that, if somebody consumes it, to trireme.poison, which keeps it
however often it is looked at. Not from the queues in which Celery lets tasks wait for their time, which pass them on in
that way.
*/ -}}
{{- $policy := dict "name" "trireme" "vhost" "/" "apply-to" "queues" "priority" 0
    "pattern" "^(?!celery_delayed_|trireme[.](dead|poison)$|.*[.]pidbox$|celeryev)"
    "definition" (dict "dead-letter-exchange" "" "dead-letter-routing-key" "trireme.dead") }}
{{- $limit := dict "name" "trireme-quorum" "vhost" "/" "apply-to" "quorum_queues" "priority" 1
    "pattern" (get $policy "pattern") "definition" (merge (dict "delivery-limit" 5) (get $policy "definition")) }}
{{- $dead := dict "name" "trireme-dead" "vhost" "/" "apply-to" "quorum_queues" "priority" 1
    "pattern" "^trireme[.]dead$" "definition" (dict "delivery-limit" 5 "dead-letter-exchange" "" "dead-letter-routing-key" "trireme.poison") }}
{{- $poison := dict "name" "trireme-poison" "vhost" "/" "apply-to" "quorum_queues" "priority" 1
    "pattern" "^trireme[.]poison$" "definition" (dict "delivery-limit" -1) }}
{{- $arguments := ternary (dict "x-queue-type" "quorum") (dict "x-max-priority" (.root.Values.config.task_queue_max_priority | default 9))
    (eq .root.Values.broker.queueType "quorum") }}
{{- $queues := list }}
{{- range list "trireme.dead" "trireme.poison" }}
{{- $queues = append $queues (dict "name" . "vhost" "/" "durable" true "auto_delete" false "arguments" $arguments) }}
{{- end }}
{{- $definitions := dict
    "vhosts" (list (dict "name" "/"))
    "users" (list (dict "name" "trireme" "password" "$RABBITMQ_PASSWORD" "tags" (list)))
    "permissions" (list (dict "user" "trireme" "vhost" "/" "configure" ".*" "write" ".*" "read" ".*"))
    "policies" (list $policy $limit $dead $poison)
    "queues" $queues -}}
command:
  - sh
  - -c
  - |
    umask 077
    cat >/tmp/definitions.json <<EOF
    {{- $definitions | toJson | replace "$\"" "\\$\"" | replace "$|" "\\$|" | nindent 4 }}
    EOF
    cat >/tmp/rabbitmq.conf <<EOF
    definitions.import_backend = local_filesystem
    definitions.local.path = /tmp/definitions.json
    listeners.tcp.default = 5672
    total_memory_available_override_value = {{ .bytes }}
    vm_memory_high_watermark.relative = 0.6
    raft.wal_max_size_bytes = 16000000
    consumer_timeout = 604800000
    EOF
    exec rabbitmq-server
env:
  - name: RABBITMQ_PASSWORD
    valueFrom:
      {{- toYaml .auth | nindent 6 }}
  - name: RABBITMQ_CONFIG_FILE
    value: /tmp/rabbitmq.conf
ports:
  - {name: tcp-amqp, containerPort: 5672}
{{- /* It listens once all else is up. */ -}}
{{- $listens := dict "tcpSocket" (dict "port" "tcp-amqp") }}
{{ include "common.startAndReady" (dict "probe" $listens "startSeconds" 600) }}
livenessProbe:
  tcpSocket: {port: tcp-amqp}
  periodSeconds: 30
  timeoutSeconds: 10
  failureThreshold: 4
volumeMounts:
  - {name: data, mountPath: /var/lib/rabbitmq}
  - {name: tmp, mountPath: /tmp}
{{- end -}}
