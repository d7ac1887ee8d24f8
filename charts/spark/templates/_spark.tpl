{{- define "spark.cores" -}}
{{- include "common.cpus" (dict "quantity" .Values.resources.limits.cpu "field" "resources.limits.cpu") -}}
{{- end -}}

{{/*
MiB for executors' heaps: two thirds of what 256 MiB for the worker daemon leave. The last third is for what a
heap does not hold: the JVM's own (some 200 MiB) and Python. No executor starts with less than 512 MiB of heap.
*/}}
{{- define "spark.memory" -}}
{{- $limit := .Values.resources.limits.memory -}}
{{- $bytes := include "common.bytes" (dict "quantity" $limit "field" "resources.limits.memory") -}}
{{- include "common.leastMemory" (dict "bytes" $bytes "given" $limit "least" 1024 "field" "resources.limits.memory" "why" "a Spark worker") -}}
{{- div (mul 2 (sub (div (int64 $bytes) 1048576) 256)) 3 -}}
{{- end -}}

{{- define "spark.address" -}}
spark://{{ include "common.cluster" . }}-master.{{ .Release.Namespace }}.svc:7077
{{- end -}}

{{/* Environment of the daemons, which work little: a small heap, one collector thread, no optimizing compiler. */}}
{{- define "spark.daemonEnv" -}}
- name: SPARK_LOCAL_HOSTNAME
  value: $(POD_IP)
- name: SPARK_CONF_DIR
  value: /opt/trireme/conf
- name: SPARK_DAEMON_MEMORY
  value: 256m
- name: SPARK_DAEMON_JAVA_OPTS
  value: -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -XX:-UsePerfData -XX:+ExitOnOutOfMemoryError
{{- end -}}
