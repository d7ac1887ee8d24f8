{{/* "true" when the broker is the chart's own. */}}
{{- define "celery.ownBroker" -}}
{{- if and .Values.broker.url .Values.broker.existingSecret -}}
{{- fail "broker.url and broker.existingSecret both say where the broker is: use one of them" -}}
{{- end -}}
{{- if not (or .Values.broker.url .Values.broker.existingSecret) -}}true{{- end -}}
{{- end -}}

{{/* "true" when something has to count what waits in a broker elsewhere. */}}
{{- define "celery.monitor" -}}
{{- if and .Values.monitor.enabled (not (include "celery.ownBroker" .)) -}}true{{- end -}}
{{- end -}}

{{- define "celery.authSecret" -}}
{{- .Values.auth.existingSecret | default (printf "%s-auth" (include "common.cluster" .)) -}}
{{- end -}}

{{/* Task processes of one worker. */}}
{{- define "celery.concurrency" -}}
{{- .Values.config.worker_concurrency | default (include "common.cpus" (dict "quantity" .Values.resources.limits.cpu "field" "resources.limits.cpu")) | int -}}
{{- end -}}

{{/*
Bytes for each task process: what is left of the pod's after 96 MiB for the parent process, in equal shares.
A parent that imported Celery alone is 65 MiB, a task process at its start the same; 64 MiB is the least share
in which a task process is not replaced after each task.
*/}}
{{- define "celery.memory" -}}
{{- $limit := .Values.resources.limits.memory -}}
{{- $processes := include "celery.concurrency" . | int -}}
{{- $bytes := include "common.bytes" (dict "quantity" $limit "field" "resources.limits.memory") -}}
{{- include "common.leastMemory" (dict "bytes" $bytes "given" $limit "least" (add 96 (mul 96 $processes)) "field" "resources.limits.memory"
    "why" (printf "a Celery worker with %d task process(es)" $processes)) -}}
{{- div (sub (int64 $bytes) (mul 96 1048576)) $processes -}}
{{- end -}}

{{/* How workers reach broker and result store; drivers get the same. */}}
{{- define "celery.connectionEnv" -}}
{{- $host := printf "%s-broker.%s.svc:6379" (include "common.cluster" .) .Release.Namespace -}}
{{- if include "celery.ownBroker" . -}}
- name: REDIS_PASSWORD
  valueFrom: {secretKeyRef: {name: {{ include "celery.authSecret" . }}, key: password}}
- name: CELERY_BROKER_URL
  value: redis://:$(REDIS_PASSWORD)@{{ $host }}/0
- name: CELERY_RESULT_BACKEND
  value: redis://:$(REDIS_PASSWORD)@{{ $host }}/1
{{- else if .Values.broker.existingSecret -}}
- name: CELERY_BROKER_URL
  valueFrom: {secretKeyRef: {name: {{ .Values.broker.existingSecret }}, key: url}}
- name: CELERY_RESULT_BACKEND
  valueFrom: {secretKeyRef: {name: {{ .Values.broker.existingSecret }}, key: result-backend, optional: true}}
{{- else -}}
- name: CELERY_BROKER_URL
  value: {{ .Values.broker.url | quote }}
{{- with .Values.broker.resultBackend }}
- name: CELERY_RESULT_BACKEND
  value: {{ . | quote }}
{{- end }}
{{- end -}}
{{- end -}}
