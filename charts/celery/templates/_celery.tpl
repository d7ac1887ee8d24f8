{{/* Type of the chart's own broker; nothing when the broker is elsewhere. */}}
{{- define "celery.brokerType" -}}
{{- if and .Values.broker.url .Values.broker.existingSecret -}}
{{- fail "broker.url and broker.existingSecret both say where the broker is: use one of them" -}}
{{- end -}}
{{- if not (or .Values.broker.url .Values.broker.existingSecret) -}}
{{- if .Values.broker.tls.secretName -}}
{{- fail "broker.tls.secretName: the chart's own broker has no TLS: set broker.existingSecret or broker.url, too, or leave it out" -}}
{{- end -}}
{{- .Values.broker.type -}}
{{- end -}}
{{- end -}}

{{/* "true" when the monitor runs: for a cluster's metrics, or because the broker does not tell the operator what waits. */}}
{{- define "celery.monitor" -}}
{{- if or (and .Values.monitor.enabled (not .Values.cluster)) (and .Values.monitor.demand (ne (include "celery.brokerType" .) "redis")) -}}true{{- end -}}
{{- end -}}

{{/*
Tasks that one worker runs at a time: as many processes as CPUs. Threads are for tasks that wait for something, so there
are four more, as Python itself has them for that (concurrent.futures.ThreadPoolExecutor).
*/}}
{{- define "celery.concurrency" -}}
{{- $cpus := include "common.cpus" (dict "quantity" .Values.resources.limits.cpu "field" "resources.limits.cpu") | int -}}
{{- .Values.config.worker_concurrency | default (ternary (add $cpus 4) $cpus (eq .Values.pool "threads")) | int -}}
{{- end -}}

{{/*
Bytes for each task process: what is left of the pod's after 96 MiB for the parent process, in equal shares.
A parent that imported Celery alone is 65 MiB, a task process at its start the same; 64 MiB is the least share
in which a task process is not replaced after each task. Threads have the rest together.
*/}}
{{- define "celery.memory" -}}
{{- $limit := .Values.resources.limits.memory -}}
{{- $threads := eq .Values.pool "threads" -}}
{{- $processes := ternary 1 (include "celery.concurrency" . | int) $threads -}}
{{- $bytes := include "common.bytes" (dict "quantity" $limit "field" "resources.limits.memory") -}}
{{- include "common.leastMemory" (dict "bytes" $bytes "given" $limit "least" (ternary 128 (add 96 (mul 96 $processes)) $threads)
    "field" "resources.limits.memory"
    "why" (ternary "a Celery worker of threads" (printf "a Celery worker with %d task process(es)" $processes) $threads)) -}}
{{- div (sub (int64 $bytes) (mul 96 1048576)) $processes -}}
{{- end -}}

{{/* What one worker offers. */}}
{{- define "celery.capacity" -}}
{{- dict (ternary "threads" "processes" (eq .Values.pool "threads")) (include "celery.concurrency" . | int) "memory" (include "celery.memory" .) | toJson -}}
{{- end -}}

{{/* How workers reach broker and result store, and what else Celery needs to know; drivers get the same. */}}
{{- define "celery.connectionEnv" -}}
{{- $host := printf "%s-broker.%s.svc" (include "common.cluster" .) .Release.Namespace -}}
{{- $type := include "celery.brokerType" . -}}
- name: CELERY_LOADER
  value: trireme_app:Loader
{{ if eq $type "redis" -}}
- name: REDIS_PASSWORD
  valueFrom: {secretKeyRef: {name: {{ include "common.authSecret" . | quote }}, key: password}}
- name: CELERY_BROKER_URL
  value: redis://:$(REDIS_PASSWORD)@{{ $host }}:6379/0
- name: CELERY_RESULT_BACKEND
  value: {{ .Values.broker.resultBackend | default (printf "redis://:$(REDIS_PASSWORD)@%s:6379/1" $host) | quote }}
{{- else if eq $type "rabbitmq" -}}
- name: RABBITMQ_PASSWORD
  valueFrom: {secretKeyRef: {name: {{ include "common.authSecret" . | quote }}, key: password}}
- name: CELERY_BROKER_URL
  value: amqp://trireme:$(RABBITMQ_PASSWORD)@{{ $host }}:5672//
- name: CELERY_RESULT_BACKEND
  value: {{ .Values.broker.resultBackend | default "rpc://" | quote }}
{{- else if .Values.broker.existingSecret -}}
- name: CELERY_BROKER_URL
  valueFrom: {secretKeyRef: {name: {{ quote .Values.broker.existingSecret }}, key: url}}
- name: CELERY_RESULT_BACKEND
  valueFrom: {secretKeyRef: {name: {{ quote .Values.broker.existingSecret }}, key: result-backend, optional: true}}
{{- else -}}
- name: CELERY_BROKER_URL
  value: {{ .Values.broker.url | quote }}
{{- with .Values.broker.resultBackend }}
- name: CELERY_RESULT_BACKEND
  value: {{ . | quote }}
{{- end }}
{{- end -}}
{{- end -}}

{{/* Environment of what runs the application. Whatever the user has Python's path be, the chart's modules are on it. */}}
{{- define "celery.env" -}}
{{- $chart := concat (include "common.workerEnv" . | fromYamlArray) (include "celery.connectionEnv" . | fromYamlArray) -}}
{{- $env := list -}}
{{- range include "common.env" (dict "chart" $chart "user" .Values.env) | fromYamlArray -}}
{{- if and (eq .name "PYTHONPATH") (hasKey . "value") -}}
{{- $_ := set . "value" (printf "%s:/opt/trireme/scripts" .value) -}}
{{- end -}}
{{- $env = append $env . -}}
{{- end -}}
{{- toYaml $env -}}
{{- end -}}

{{- define "celery.mounts" -}}
{{ include "common.workerMounts" . }}
- {name: conf, mountPath: /opt/trireme/conf, readOnly: true}
{{- if .Values.broker.tls.secretName }}
- {name: broker-tls, mountPath: /opt/trireme/tls, readOnly: true}
{{- end }}
{{- end -}}

{{- define "celery.volumes" -}}
{{ include "common.workerVolumes" . }}
- name: conf
  configMap: {name: {{ include "common.name" . }}-conf}
{{- with .Values.broker.tls.secretName }}
- name: broker-tls
  secret: {secretName: {{ quote . }}}
{{- end }}
{{- end -}}
