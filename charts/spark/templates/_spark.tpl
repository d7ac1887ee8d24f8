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
{{- include "spark.heaps" $bytes -}}
{{- end -}}

{{/* That, for a worker of so many bytes. */}}
{{- define "spark.heaps" -}}
{{- div (mul 2 (sub (div (int64 .) 1048576) 256)) 3 -}}
{{- end -}}

{{/* MiB for executors' heaps in the largest worker with room for so many cores, those of groups included. Arguments: root, cores. */}}
{{- define "spark.largestMemory" -}}
{{- $largest := 0 -}}
{{- if ge (include "spark.cores" .root | int) .cores -}}
{{- $largest = include "spark.memory" .root | int -}}
{{- end -}}
{{- $cores := .cores -}}
{{- range $index, $limits := .root.Values.groups -}}
{{- $field := printf "groups[%d]" $index -}}
{{- if ge (include "common.cpus" (dict "quantity" $limits.cpu "field" (printf "%s.cpu" $field)) | int) $cores -}}
{{- $bytes := include "common.bytes" (dict "quantity" $limits.memory "field" (printf "%s.memory" $field)) -}}
{{- $largest = max $largest (include "spark.heaps" $bytes | int) | int -}}
{{- end -}}
{{- end -}}
{{- $largest -}}
{{- end -}}

{{- define "spark.address" -}}
spark://{{ include "common.cluster" . }}-master.{{ .Release.Namespace }}.svc:7077
{{- end -}}

{{/* "true" when there is a Spark Connect server. */}}
{{- define "spark.connect" -}}
{{- if eq .Values.mode "connect" -}}true{{- end -}}
{{- end -}}

{{/* What everybody here proves to know: Spark reads this variable before its property, in each of its processes. */}}
{{- define "spark.authEnv" -}}
- name: _SPARK_AUTH_SECRET
  valueFrom: {secretKeyRef: {name: {{ include "common.authSecret" . | quote }}, key: password}}
{{- end -}}

{{/*
Cores of an executor: a worker's, unless executor.cores says otherwise. One that has room in groups alone runs there. In a
group's own release nothing is checked: whose workers are of another size is its own matter.
*/}}
{{- define "spark.executorCores" -}}
{{- $cores := include "spark.cores" . | int -}}
{{- $wanted := .Values.executor.cores | default $cores | int -}}
{{- if and (gt $wanted $cores) (not .Values.cluster) -}}
{{- $most := $cores -}}
{{- range $index, $limits := .Values.groups -}}
{{- $most = max $most (include "common.cpus" (dict "quantity" $limits.cpu "field" (printf "groups[%d].cpu" $index)) | int) | int -}}
{{- end -}}
{{- if gt $wanted $most -}}
{{- fail (printf "executor.cores: no worker has %d cores: use at most %d, or raise resources.limits.cpu, here or of a group" $wanted $most) -}}
{{- end -}}
{{- end -}}
{{- $wanted -}}
{{- end -}}

{{/*
MiB for an executor's heap: its share of a worker's by its cores, unless executor.memory says something else. Spark
refuses a heap of less than 450 MiB, of which Java counts some for itself.
*/}}
{{- define "spark.executorMemory" -}}
{{- $cores := include "spark.executorCores" . | int -}}
{{- $memory := include "spark.memory" . | int -}}
{{- $least := 470 -}}
{{- if .Values.executor.memory -}}
{{- $bytes := include "common.bytes" (dict "quantity" .Values.executor.memory "field" "executor.memory") -}}
{{- $given := .Values.executor.memory -}}
{{- include "common.leastMemory" (dict "bytes" $bytes "given" $given "least" $least "field" "executor.memory" "why" "a Spark executor") -}}
{{- $wanted := div (int64 $bytes) 1048576 | int -}}
{{- if not .Values.cluster -}}
{{- $most := include "spark.largestMemory" (dict "root" . "cores" $cores) | int -}}
{{- if gt $wanted $most -}}
{{- fail (printf "executor.memory: no worker has %v for an executor: use at most %dMi, or raise resources.limits.memory, here or of a group" $given $most) -}}
{{- end -}}
{{- end -}}
{{- $wanted -}}
{{- else -}}
{{- if not .Values.cluster -}}
{{- /* Where only workers of a group have its cores. */ -}}
{{- $memory = include "spark.largestMemory" (dict "root" . "cores" $cores) | int -}}
{{- end -}}
{{- min $memory (max $least (div (mul (include "spark.memory" . | int) $cores) (include "spark.cores" . | int))) -}}
{{- end -}}
{{- end -}}

{{/* Where drivers write what happens, for the history server. */}}
{{- define "spark.eventLog" -}}
{{- $history := .Values.history -}}
{{- if $history.enabled -}}
{{- if eq (empty $history.existingClaim) (empty $history.directory) -}}
{{- fail "history.enabled: say where event logs are kept, either by history.existingClaim or by history.directory" -}}
{{- end -}}
{{- $history.directory | default "file:/var/log/spark" -}}
{{- end -}}
{{- end -}}

{{/*
What drivers get beside what workers have, as JSON for the operator; nothing where there is none. A Connect client
needs a URL alone: a parameter that is none of its own goes along as a header. Its parameter `token` wants TLS.
*/}}
{{- define "spark.forDrivers" -}}
{{- $found := dict -}}
{{- if include "spark.connect" . -}}
{{- $host := printf "%s-connect.%s.svc" (include "common.name" .) .Release.Namespace -}}
{{- $_ := set $found "image" .Values.connect.clientImage -}}
{{- $_ := set $found "env" (list (dict "name" "SPARK_REMOTE" "value" (printf "sc://%s:15002/;authorization=Bearer%%20$(_SPARK_AUTH_SECRET)" $host))) -}}
{{- else if and .Values.history.enabled .Values.history.existingClaim -}}
{{- $_ := set $found "volumes" (include "spark.eventVolumes" . | fromYamlArray) -}}
{{- $_ := set $found "volumeMounts" (include "spark.eventMounts" . | fromYamlArray) -}}
{{- else if and .Values.history.enabled .Values.envFrom -}}
{{- /* They write to history.directory, by the same credentials. */ -}}
{{- $_ := set $found "envFrom" .Values.envFrom -}}
{{- end -}}
{{- with $found -}}{{- toJson . -}}{{- end -}}
{{- end -}}

{{- define "spark.eventVolumes" -}}
{{- if .Values.history.enabled }}
{{- with .Values.history.existingClaim }}
- name: events
  persistentVolumeClaim: {claimName: {{ quote . }}}
{{- end }}
{{- end }}
{{- end -}}

{{- define "spark.eventMounts" -}}
{{- if and .Values.history.enabled .Values.history.existingClaim }}
- {name: events, mountPath: /var/log/spark}
{{- end }}
{{- end -}}

{{/*
Environment of the daemons, which work little: a small heap, which begins at what they need and gives back, one
collector thread, no optimizing compiler.
*/}}
{{- define "spark.daemonEnv" -}}
- name: SPARK_LOCAL_HOSTNAME
  value: $(POD_IP)
- name: SPARK_CONF_DIR
  value: /opt/trireme/conf
{{ include "spark.authEnv" . }}
- name: SPARK_DAEMON_MEMORY
  value: 256m
- name: SPARK_DAEMON_JAVA_OPTS
  value: -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -XX:-UsePerfData -XX:+ExitOnOutOfMemoryError
    -Xms8m -XX:MaxNewSize=8m -XX:MinHeapFreeRatio=10 -XX:MaxHeapFreeRatio=20
{{- end -}}
