{{- define "spark.cores" -}}
{{- include "common.cpus" (dict "quantity" .Values.resources.limits.cpu "field" "resources.limits.cpu") -}}
{{- end -}}

{{/*
MiB of heap for the executor of one worker: 65 % of what the pod has beyond the worker's own daemon (384 MiB: 256 MiB of
heap and what a JVM takes beside it). The rest is the executor's own overhead and the Python processes, which Spark does
not count. An executor refuses to start with less than 450 MiB of heap (UnifiedMemoryManager).
*/}}
{{- define "spark.memory" -}}
{{- $limit := .Values.resources.limits.memory -}}
{{- $bytes := include "common.bytes" (dict "quantity" $limit "field" "resources.limits.memory") -}}
{{- include "common.leastMemory" (dict "bytes" $bytes "given" $limit "least" 1152 "field" "resources.limits.memory" "why" "a Spark worker and its executor") -}}
{{- mulf (sub (div (int64 $bytes) 1048576) 384) 0.65 | floor | int -}}
{{- end -}}

{{- define "spark.masterUrl" -}}
spark://{{ include "common.name" . }}-master.{{ .Release.Namespace }}.svc:7077
{{- end -}}

{{/* Environment of both daemons: small, quick to start, and known by the pod's address. */}}
{{- define "spark.daemonEnv" -}}
- name: POD_IP
  valueFrom: {fieldRef: {fieldPath: status.podIP}}
- {name: HOME, value: /tmp}
- {name: SPARK_CONF_DIR, value: /opt/trireme/conf}
- {name: SPARK_LOCAL_IP, value: $(POD_IP)}
- {name: SPARK_LOCAL_HOSTNAME, value: $(POD_IP)}
- {name: SPARK_DAEMON_MEMORY, value: 256m}
- {name: SPARK_DAEMON_JAVA_OPTS, value: "-XX:+UseSerialGC -XX:TieredStopAtLevel=1 -XX:MaxMetaspaceSize=128m"}
{{- end -}}
